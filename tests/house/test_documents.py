"""The README is true: its plan is a plan, and each command in it is one that a test or CI runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from test_job import SUBMIT

from clusters import BIN, environment
from paths import ROOT
from plans import write_sentiment
from tiny_models import write_tiny_model

README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
# Every command of the README, as it stands there, and where it is run.
RUN_BY = {
    "make search": ".ci/run",
    "make test": ".ci/run",
    "make lint": ".ci/run",
    "make test-slow": "by hand: it takes what the name says",
    "make test-cluster": "by hand: it needs root and several daemons",
    "make bench": "by hand: its figures stand in the README",
    "make clean": "test_every_target_is_there",
    'make venv TORCH_PIP_ARGS="--index-url INDEX"': "test_every_target_is_there",
    ".venv/bin/python platform/search.py my.yaml --dry-run": "test_the_plan_of_the_readme_passes_a_dry_run",
    ".venv/bin/python platform/search.py my.yaml": "tests/test_search.py",
    " ".join(SUBMIT) + " SPACE": "tests/test_job.py",
}


def commands() -> list[str]:
    """Indented lines that call a program, without their comments."""
    lines = re.findall(r"^ {4}((?:make|ray|python|\.venv/bin/\w+) .*|make \w+)$", README, re.MULTILINE)
    return [line.partition("#")[0].strip() for line in lines]


def test_every_command_is_run_somewhere() -> None:
    assert set(commands()) == set(RUN_BY)


@pytest.mark.parametrize("command", [command for command, where in RUN_BY.items() if where == ".ci/run"])
def test_ci_runs_the_commands_that_the_readme_names(command: str) -> None:
    targets = re.search(r"^make (.*)$", CI, re.MULTILINE)
    assert targets
    assert command.removeprefix("make ") in targets[1].split()


@pytest.mark.parametrize("target", ["venv", "search", "test", "test-slow", "test-cluster", "lint", "bench", "clean"])
def test_every_target_is_there(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, timeout=60)
    assert f"make {target}" in README


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
    assert "Nothing was started." in done.stdout
    assert "warning" not in done.stdout


def test_the_installed_command_knows_every_command_of_the_table(tmp_path: Path) -> None:
    named = set(re.findall(r"^\| `finesearch (\w+)", README, re.MULTILINE))
    done = subprocess.run(
        [BIN / "finesearch", "--help"], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert named | {"search"} == set(re.findall(r"^    (\w+) ", done.stdout, re.MULTILINE))
