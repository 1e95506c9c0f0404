"""A search as a Ray job: the project travels with the job, the exit code is the search's, results outlive the copy."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters import BIN, ray_cluster, ray_folder
from paths import ROOT
from plans import tiny_plan, write_sentiment
from tiny_models import write_tiny_model

pytestmark = pytest.mark.ray

SUBMIT = ["ray", "job", "submit", "--working-dir", ".", "--", "python", "platform/search.py"]
VERSION = "0.0.0+travelled"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory as a user has it; its version tells whether this copy ran or the one that is installed."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "platform", folder / "platform", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / ".rayignore", folder)
    package = folder / "platform" / "finesearch" / "__init__.py"
    package.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{VERSION}"', package.read_text()))
    write_tiny_model(folder / "model")
    write_sentiment(folder)
    (folder / "tiny.yaml").write_text(tiny_plan(trials=2, pruner="none", baselines="[majority]"))
    (folder / "runs" / "old").mkdir(parents=True)
    (folder / "runs" / "old" / "large").write_bytes(bytes(1_000_000))
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[dict[str, str]]:
    # Nothing but the job brings the package: without PYTHONPATH it would be the installed one, whose version differs.
    with ray_folder() as folder, ray_cluster(folder, jobs=True, HOME=str(home), PYTHONPATH="") as variables:
        yield variables


def submit(project: Path, cluster: dict[str, str], *arguments: str) -> tuple[dict[str, Any], str]:
    """What the dashboard says of the job, and its log."""
    # A variable that the search forwards of itself: given to the job as well, it must not be in the way.
    given = json.dumps({"env_vars": {"HF_HUB_OFFLINE": "1"}})
    at = SUBMIT.index("--")
    command = [str(BIN / "ray"), *SUBMIT[1:at], "--runtime-env-json", given, *SUBMIT[at:]]
    done = subprocess.run([*command, *arguments], cwd=project, env=cluster, capture_output=True, text=True, timeout=500)
    found = re.search(r"Job '(raysubmit_\w+)' submitted", done.stdout + done.stderr)
    assert found, done.stdout + done.stderr
    script = (
        "import json, sys; from ray.job_submission import JobSubmissionClient\n"
        "told = JobSubmissionClient().get_job_info(sys.argv[1])\n"
        "print(json.dumps({'status': told.status, 'driver_exit_code': told.driver_exit_code}))"
    )
    asked = subprocess.run(
        [BIN / "python", "-c", script, found[1]], env=cluster, capture_output=True, text=True, check=True, timeout=100
    )
    return json.loads(asked.stdout.splitlines()[-1]), done.stdout


@pytest.fixture(scope="module")
def submitted(project: Path, cluster: dict[str, str]) -> tuple[dict[str, Any], str]:
    """A whole search as a job: what the dashboard says of it, and its log."""
    return submit(project, cluster, "tiny.yaml")


def test_a_job_brings_the_project_along_and_its_results_stay(home: Path, submitted: tuple[dict[str, Any], str]) -> None:
    told, log = submitted
    assert told == {"status": "SUCCEEDED", "driver_exit_code": 0}, log
    assert f"runs and reports are\n  kept below {home / 'finesearch'}" in log
    said = json.loads((home / "finesearch" / "reports" / "tiny" / "report.json").read_text(encoding="utf-8"))
    assert not said["partial"]
    assert said["cost"]["trials"]["complete"] == 2
    # The driver ran the copy that travelled, and so did the workers, who write their version into each checkpoint.
    assert said["reproduction"]["versions"]["finesearch"] == VERSION
    record = Path(said["ranked"][0]["checkpoint"]) / "finesearch.json"
    assert json.loads(record.read_text())["versions"]["finesearch"] == VERSION


@pytest.mark.slow
@pytest.mark.usefixtures("submitted")
def test_submitting_again_goes_on_with_the_same_run(project: Path, home: Path, cluster: dict[str, str]) -> None:
    told, log = submit(project, cluster, "tiny.yaml", "--reports", "again")
    assert told == {"status": "SUCCEEDED", "driver_exit_code": 0}, log
    assert "starting worker groups" not in log, "nothing was left to do"
    assert (home / "finesearch" / "again" / "tiny" / "report.html").is_file()


@pytest.mark.slow  # test_access.py sees the exit codes 0, 2 and 3 of jobs
def test_bad_input_is_the_jobs_exit_code_too(project: Path, cluster: dict[str, str]) -> None:
    told, log = submit(project, cluster, "tiny.yaml", "--name", "other", "--set", "task.columns.text=sentense")
    assert told == {"status": "FAILED", "driver_exit_code": 2}
    assert "sentense" in log
