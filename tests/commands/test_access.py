"""Who may come in, and what must not get out: a real head with its dashboard, strangers at its door, and canaries."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clusters import BIN, ray_cluster, ray_folder
from finesearch.tuning.connection.ray_token import find_token, make_token
from paths import ROOT
from plans import tiny_plan, write_sentiment
from tiny_models import write_tiny_model

pytestmark = pytest.mark.ray

CANARIES = {
    "AWS_SECRET_ACCESS_KEY": "canary/aws+5Yq2",
    "AWS_ACCESS_KEY_ID": "CANARYAWSID0",
    "HF_TOKEN": "hf_canaryQ8r3Lw",
    "WANDB_API_KEY": "canarywandb91fe",
    "DATABASE_PASSWORD": "canary-database-4d",
}
STUDY = "canary-study-c07e"
STORAGE = "canary-storage-18ab"
JOB_S = 150


@dataclass(frozen=True)
class Head:
    """A head node of a test: its folder, its home, what a client needs, and where its jobs are taken."""

    folder: Path
    home: Path
    variables: dict[str, str]

    def ask(self, path: str, token: str | None = "", job: dict[str, Any] | None = None) -> tuple[int, str]:
        """Status and text of a page; token: "" the right one, None none. job: posted instead of a question."""
        request = urllib.request.Request(self.variables["RAY_API_SERVER_ADDRESS"] + path)
        right = Path(self.variables["RAY_AUTH_TOKEN_PATH"]).read_text()
        if token is not None:
            request.add_header("Authorization", f"Bearer {token or right}")
        if job is not None:
            request.data = json.dumps(job).encode()
            request.add_header("Content-Type", "application/json")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def finish(self, job: dict[str, Any]) -> dict[str, Any]:
        """Post a job and wait for its end; what the jobs API says of it."""
        status, said = self.ask("/api/jobs/", job=job)
        assert status == 200, said
        name, end = json.loads(said)["submission_id"], time.monotonic() + JOB_S
        while True:
            told = json.loads(self.ask(f"/api/jobs/{name}")[1])
            is_late = time.monotonic() > end
            if is_late or told["status"] in ("SUCCEEDED", "FAILED", "STOPPED"):
                told["logs"] = json.loads(self.ask(f"/api/jobs/{name}/logs")[1])["logs"]
                assert not is_late, told["logs"]
                return dict(told)
            time.sleep(0.3)

    def written(self) -> Iterator[Path]:
        """Every file of Ray's session, and of the runs and reports of the searches."""
        for top in (self.folder, self.home / "project" / "runs", self.home / "project" / "reports"):
            yield from (path for path in top.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """Started, as our cluster files do, in the project's folder, with secrets in the environment of the node."""
    home = tmp_path_factory.mktemp("home")
    project = home / "project"
    shutil.copytree(ROOT / "platform", project / "platform", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    write_tiny_model(project / "model")
    write_sentiment(project)
    (project / "tiny.yaml").write_text(tiny_plan(trials=2, pruner="none", baselines="[majority]"))
    with (
        ray_folder() as folder,
        ray_cluster(folder, jobs=True, HOME=str(home), PYTHONPATH=str(project / "platform"), **CANARIES) as variables,
    ):
        yield Head(folder, home, variables)


def search(head: Head, words: str, secrets: str = "true") -> dict[str, Any]:
    """The job of a search; ``secrets`` are shell words that run before it, in the job's own shell."""
    project = head.home / "project"
    return {"entrypoint": f"cd {project} && {secrets} && exec {BIN / 'python'} platform/search.py {words}"}


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("0" * 64, 403)])
def test_a_job_of_a_stranger_is_refused(head: Head, token: str | None, status: int) -> None:
    trace = head.home / "was-here"
    answered, _ = head.ask("/api/jobs/", token, {"entrypoint": f"touch {trace}"})
    assert answered == status
    assert head.ask("/api/jobs/", token)[0] == status
    known = head.ask("/api/jobs/")
    assert known[0] == 200
    assert str(trace) not in known[1]
    assert not trace.exists()


def test_a_stranger_cannot_join_the_cluster_by_the_command_of_a_user(head: Head) -> None:
    variables = {**head.variables, "RAY_AUTH_TOKEN_PATH": "/nonexistent/token"}
    command = [BIN / "ray", "job", "submit", "--", "true"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "submitted successfully" not in done.stdout


def test_no_secret_gets_out_of_a_search(head: Head) -> None:
    """Canaries in the node's environment, in the study's URL and in a storage URI; looked for wherever anything is."""
    kept = head.home / "secrets.sh"
    kept.touch(mode=0o600)
    kept.write_text(
        f"export FINESEARCH_STUDY=postgresql+psycopg://ada:{STUDY}@127.0.0.1:1/studies\n"
        f"export FINESEARCH_TEST_STORAGE='s3://CANARYID:{STORAGE}@bucket/runs?secret_key={STORAGE}'\n"
    )
    done = head.finish(search(head, "tiny.yaml"))
    assert done["driver_exit_code"] == 0, done["logs"]
    names = f". {kept} && env | cut -d= -f1"
    refused = head.finish(search(head, 'tiny.yaml --name s3 --storage "$FINESEARCH_TEST_STORAGE"', names))
    assert refused["driver_exit_code"] == 2
    variables = {*CANARIES, "FINESEARCH_STUDY", "FINESEARCH_TEST_STORAGE"}
    assert variables <= set(refused["logs"].split()), "the canaries were where they could get out"
    assert "storage: expected no secret" in refused["logs"]
    # A database that nobody serves, for its errors.
    unserved = head.finish(search(head, "tiny.yaml --name unserved", f". {kept}"))
    assert unserved["driver_exit_code"] == 3, unserved["logs"]

    report = head.home / "project" / "reports" / "tiny" / "report.json"
    assert "platform/search.py tiny.yaml" in json.loads(report.read_text())["reproduction"]["command"]
    texts = {f"jobs API, {job['submission_id']}": json.dumps(job) for job in (done, refused, unserved)}
    texts["jobs API"] = head.ask("/api/jobs/")[1]
    files = list(head.written())
    names = {path.name for path in files}
    assert {"gcs_server.out", "raylet.out", "plan.yaml", "study.db", "report.html", "trials.parquet"} <= names
    canaries = [*CANARIES.values(), STUDY, STORAGE]
    leaks = [(where, canary) for where, text in texts.items() for canary in canaries if canary in text]
    for path in files:
        content = path.read_bytes()
        leaks += [(str(path), canary) for canary in canaries if canary.encode() in content]
    assert not leaks


def test_a_token_that_we_make_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        make_token({"HOME": str(tmp_path)})
    finally:
        os.umask(before)
    path = tmp_path / ".ray" / "auth_token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert re.fullmatch(r"[0-9a-f]{64}", path.read_text())
    assert os.listdir(path.parent) == ["auth_token"]
    kept = path.read_text()
    make_token({"HOME": str(tmp_path)})
    assert path.read_text() == kept, "a token that is there stays"
    found = find_token({"HOME": str(tmp_path), "RAY_AUTH_MODE": "token"})
    assert (found.is_present, found.is_readable_by_others, found.place) == (True, False, str(path))
    assert kept not in repr(found)


@pytest.mark.parametrize("environment", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "given"}])
def test_no_token_is_made_where_none_is_asked_for(tmp_path: Path, environment: dict[str, str]) -> None:
    make_token({"HOME": str(tmp_path), **environment})
    assert not (tmp_path / ".ray").exists()
