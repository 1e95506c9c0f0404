"""The documents are true: plans are plans, commands are run, links, files and folders exist, nothing is left out."""

from __future__ import annotations

import inspect
import re
import subprocess
from pathlib import Path

import pytest
from test_job import SUBMIT

import finesearch.errors
from clusters import BIN, environment
from finesearch.plan import ADAPTATIONS, OPTIMIZERS, TASK_KINDS
from finesearch.training.regularizers.active_regularizers import METHODS
from paths import ROOT
from plans import write_sentiment
from tiny_models import write_tiny_model

DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "reports/README.md")),
        *(ROOT / name for name in ("cluster/README.md", "platform/README.md", "tests/benchmarks/README.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
}
README, CONTRIBUTING = DOCUMENTS["README.md"], DOCUMENTS["CONTRIBUTING.md"]
DECISIONS = {name: text for name, text in DOCUMENTS.items() if name.startswith("docs/decisions/")}
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
# Every command of the documents, as it stands there, and where it is run. cluster/README.md has a test of its own.
RUN_BY = {
    "make search": ".ci/run",
    "make test": ".ci/run",
    "make lint": ".ci/run",
    "make venv": "test_every_target_is_there",
    "make test-slow": "by hand: it takes what the name says",
    "make test-cluster": "by hand: it needs root and several daemons",
    "make bench": "by hand: its figures stand in docs/benchmarks.md",
    "make docs": "tests/house/test_plan_reference.py holds what it writes",
    "make lock": "tests/house/test_house.py holds what it writes against constraints.txt",
    "make clean": "test_every_target_is_there",
    'make venv TORCH_PIP_ARGS="--index-url INDEX"': "test_every_target_is_there",
    ".venv/bin/finesearch init train.csv test.csv --out my.yaml": "tests/commands/test_init.py",
    ".venv/bin/python platform/search.py my.yaml --dry-run": "test_the_plan_of_the_readme_passes_a_dry_run",
    ".venv/bin/python platform/search.py my.yaml": "tests/commands/test_search.py",
    " ".join(SUBMIT) + " SPACE": "tests/commands/test_job.py",
}
PROGRAM = r"(?:[A-Z_]+=\S+ )*(?:make|ray|python|\.venv/bin/\w+)"
NOT_RUN_HERE = {"cluster/README.md"}


def commands() -> list[str]:
    """Indented lines that call a program, without their comments, but for calls of pytest and benchmarks."""
    lines = [
        line.partition("#")[0].strip()
        for name, text in DOCUMENTS.items()
        if name not in NOT_RUN_HERE
        for line in re.findall(rf"^ {{4}}({PROGRAM} .*|make \w+)$", text, re.MULTILINE)
    ]
    return [line for line in lines if "-m pytest" not in line and "python tests/benchmarks/" not in line]


def test_every_command_is_run_somewhere() -> None:
    assert set(commands()) == set(RUN_BY)


@pytest.mark.parametrize("command", [command for command, where in RUN_BY.items() if where == ".ci/run"])
def test_ci_runs_the_commands_that_the_readme_names(command: str) -> None:
    targets = re.search(r"^make (.*)$", CI, re.MULTILINE)
    assert targets
    assert command.removeprefix("make ") in targets[1].split()


def test_every_place_that_is_said_to_run_a_command_exists() -> None:
    for where in RUN_BY.values():
        if where.startswith((".ci", "tests/")):
            assert (ROOT / where.split()[0]).is_file(), where
        elif where.startswith("test_"):
            assert where in globals()


def test_every_target_of_the_makefile_is_documented() -> None:
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert targets
    assert len(targets[1].split()) >= 9
    for target in targets[1].split():
        assert re.search(rf"^ {{4}}make {target}\b(?!-)", README + CONTRIBUTING, re.MULTILINE), target


@pytest.mark.parametrize(
    "target", ["venv", "search", "test", "test-slow", "test-cluster", "lint", "docs", "bench", "lock", "clean"]
)
def test_every_target_is_there(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, timeout=60)
    assert f"make {target}" in README + CONTRIBUTING


def test_what_pytest_is_given_exists() -> None:
    given = re.findall(r"-m pytest (.*)$", CONTRIBUTING, re.MULTILINE)
    assert len(given) == 5, "the tests of one folder, and one call for each recipe"
    for line in given:
        paths = [word for word in line.split() if word.startswith("tests/")]
        assert paths
        for path in paths:
            assert (ROOT / path).exists(), path


def test_the_plan_of_the_readme_passes_a_dry_run(tmp_path: Path) -> None:
    block = re.search(r"(?:^ {4}.*\n|^\n)+", README[README.index("    name: reviews") :], re.MULTILINE)
    assert block
    (tmp_path / "my.yaml").write_text(re.sub(r"^ {4}", "", block[0], flags=re.MULTILINE))
    write_tiny_model(tmp_path / "model", layers=6)
    write_sentiment(tmp_path)
    # Nothing can be fetched in a test: a folder stands in for the hub's model, with its 64 positions.
    changes = ["--set", "task.model=model", "--set", "task.max_length=64"]
    done = subprocess.run(
        [BIN / "python", ROOT / "platform" / "search.py", "my.yaml", "--dry-run", *changes],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "reviews: text-classification, accuracy (max)" in done.stdout
    assert "  baselines majority, tfidf, zero_shot, strong, ordinary\n" in done.stdout
    assert "output layer probe; beside the search: not in the space" in done.stdout
    assert "Nothing was started." in done.stdout
    assert "warning" not in done.stdout


def test_the_installed_command_knows_every_command_of_the_table(tmp_path: Path) -> None:
    named = set(re.findall(r"^\| `finesearch (\w+)", README, re.MULTILINE))
    done = subprocess.run(
        [BIN / "finesearch", "--help"], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert named | {"search"} == set(re.findall(r"^    (\w+) ", done.stdout, re.MULTILINE))


def test_every_exit_code_and_every_error_stands_in_the_readme() -> None:
    rows = {
        code: f"{meaning}|{errors}"
        for code, meaning, errors in re.findall(r"^\| (\d+(?: and \d+)?) \| (.*) \| (.*)\|$", README, re.MULTILINE)
    }
    assert list(rows) == ["0", "1", "2", "3", "130 and 143"]
    said = ("a checkpoint was ranked", "the search failed", "bad input", "storage or disk", "Ctrl-C or SIGTERM")
    for words, row in zip(said, rows.values(), strict=True):
        assert words in row
    for name, error in inspect.getmembers(finesearch.errors, inspect.isclass):
        code = "130 and 143" if name == "Interrupted" else str(error.exit_code)
        assert f"`{name}`" in rows[code], f"{name} ends with {code}"


def test_every_kind_adaptation_optimizer_and_regularizer_is_explained() -> None:
    tasks, adaptations = DOCUMENTS["docs/tasks.md"], DOCUMENTS["docs/adaptations.md"]
    for kind in TASK_KINDS.values():
        row = re.search(rf"^\| `{kind.kind}` \|.*$", tasks, re.MULTILINE)
        assert row
        for role in kind.columns:
            assert f"`{role}`" in row[0]
        for metric in kind.metrics:
            assert metric in row[0]
        for name, form in kind.forms.items():
            assert re.search(rf"^\| `{name}` \|.*{', '.join(form.metrics)} \|$", tasks, re.MULTILINE), name
    for name, branch in ADAPTATIONS.items():
        found = re.search(rf"`{name}(?:\(([^)]*)\))?`", adaptations)
        assert found, name
        if branch.trains:
            assert set(re.findall(r"\w+", found[1] or "")) - {"or"} == set(branch.parameters), name
    for name in (*OPTIMIZERS, *(method.name for method in METHODS)):
        assert re.search(rf"^\| .*`{name}`.* \|$", adaptations, re.MULTILINE), name


def test_every_benchmark_has_a_row() -> None:
    for path in (ROOT / "tests" / "benchmarks").glob("*.py"):
        for page in ("docs/benchmarks.md", "tests/benchmarks/README.md"):
            assert re.search(rf"^\| `{path.name}` \|", DOCUMENTS[page], re.MULTILINE), f"{path.name} is not in {page}"


def test_the_readme_is_short_and_its_figures_are_those_of_the_benchmarks() -> None:
    assert len(README.splitlines()) <= 160
    comparison = README[README.index("## How it compares") : README.index("## Documents")]
    figures = re.findall(r"\d+\.\d+", comparison)
    assert len(figures) >= 4
    for figure in figures:
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d])", DOCUMENTS["docs/benchmarks.md"]), figure
    assert (ROOT / "docs" / "report.png").stat().st_size < 300_000


def anchors(text: str) -> set[str]:
    """What a link may point at inside a page: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", DOCUMENTS[name]):
        if link.startswith(("http:", "https:")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_that_is_named_with_its_folder_exists(name: str) -> None:
    starts = (ROOT, ROOT / "platform" / "finesearch", (ROOT / name).parent)
    for path in re.findall(r"`((?:\w+/)+\w+\.(?:py|ya?ml|sh))`", DOCUMENTS[name]):
        # What must not be there is named once.
        is_there = any((start / path).is_file() for start in starts)
        assert is_there != (path == "platform/datasets.py"), path


def test_every_folder_of_the_package_stands_in_the_tree() -> None:
    page = DOCUMENTS["platform/README.md"]
    tree = page[page.index("```\nfinesearch/") : page.index("```\n\nBeside the folders")]
    named, above = set(), [""] * 3
    for bars, folder, phrase in re.findall(r"^((?:│   |    )*)[├└]── (\w+)/ +(\S.*)$", tree, re.MULTILINE):
        depth = len(bars) // 4
        above[depth] = folder
        named.add("/".join(above[: depth + 1]))
        assert len(phrase) > 10
    package = ROOT / "platform" / "finesearch"
    # An empty folder may be left of an older version.
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    there = {str(path.parent.relative_to(package)) for path in files} - {"."}
    assert named == there


def test_file_names_of_the_walk_through_the_code_exist() -> None:
    page = DOCUMENTS["platform/README.md"]
    there = {path.name for folder in ("platform", "tests/house") for path in (ROOT / folder).rglob("*.py")}
    for name in re.findall(r"`(?:\w+/)*(\w+\.py)`", page):
        assert name in there | {"datasets.py"}, name


@pytest.mark.parametrize("name", DECISIONS)
def test_decisions_say_choice_reason_and_what_was_rejected_newest_first(name: str) -> None:
    assert len(DECISIONS) <= 15
    if name.endswith("tried-and-left.md"):
        return
    dates = re.findall(r"^## (\d{4}-\d\d-\d\d): \S", DECISIONS[name], re.MULTILINE)
    assert dates == sorted(dates, reverse=True)
    parts = re.split(r"^## ", DECISIONS[name], flags=re.MULTILINE)[1:]
    assert len(parts) == len(dates) > 0
    for part in parts:
        for word in ("Choice", "Reason", "Rejected"):
            assert len(re.findall(rf"^- \*\*{word}\.\*\* \S", part, re.MULTILINE)) == 1, part


def test_no_decision_is_lost() -> None:
    """Only a page that was moved may lower this number; a decision that was replaced keeps its entry."""
    assert sum(text.count("\n## 20") for text in DECISIONS.values()) >= 106
