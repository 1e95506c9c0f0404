"""Prometheus, a browser and an MLflow server, really started, watch searches."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from test_driver_metrics import watched_plan

from chromium import page
from clusters import BIN, environment, free_port, ray_cluster, ray_folder
from finesearch.plan import load_plan
from finesearch.run.open_search import open_search_controller
from finesearch.tuning.messages import TrialFailed
from finesearch.tuning.observability.trackers import Tracking, make_trackers
from grafana import PATH, queries
from paths import ROOT
from plans import write_sentiment
from tiny_models import write_tiny_model
from tracked import conductor_of, evaluation, started, told
from watching_programs import ask, needed, running, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
ARTIFACTS = ROOT / "tests" / "artifacts"
# Head-only trials alternate with full ones, so that kept outputs are read all the time.
FIRST = "[" + ", ".join(["{adaptation: {head_only: {}}}", "{adaptation: {full: {}}}"] * 100) + "]"


@dataclass
class Running:
    """A search that runs as a job until the tests are over."""

    temp: Path
    folder: Path
    dashboard: str
    token: str
    variables: dict[str, str]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A long search, submitted to a head that was started as the README has it: Ray's dashboards beside ours."""
    folder = tmp_path_factory.mktemp("job")
    write_tiny_model(folder / "model")
    write_sentiment(folder)
    (folder / "tiny.yaml").write_text(watched_plan(2000, FIRST))
    boards = folder / "grafana"
    boards.mkdir()
    (boards / PATH.name).write_bytes(PATH.read_bytes())
    home = tmp_path_factory.mktemp("home")
    given = {"HOME": str(home), "RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR": str(boards)}
    with ray_folder() as temp, ray_cluster(temp, jobs=True, **given) as variables:
        search = ["python", str(ROOT / "platform" / "search.py"), str(folder / "tiny.yaml")]
        where = ["--storage", str(folder / "runs"), "--reports", str(folder / "reports")]
        subprocess.run(
            [BIN / "ray", "job", "submit", "--no-wait", "--submission-id", "tiny-1", "--", *search, *where],
            env=variables, check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        token = Path(variables["RAY_AUTH_TOKEN_PATH"]).read_text()
        dashboard = variables["RAY_API_SERVER_ADDRESS"]
        yield Running(temp, folder, dashboard, token, variables)


def trials_of(job: Running) -> int:
    """Trials that the journal has as complete."""
    study = job.folder / "runs" / "tiny" / "study.db"
    if not study.exists():
        return 0
    counted = "select count(*) from trials where state = 'COMPLETE'"
    with sqlite3.connect(f"file:{study}?mode=ro", uri=True) as connection:
        return int(connection.execute(counted).fetchone()[0])


def test_pages_of_the_dashboard_name_the_search(job: Running, tmp_path: Path) -> None:
    browser = needed("chromium", "apt-get install chromium")
    wait_for(lambda: trials_of(job) >= 1, "a first trial", 240)

    async def story() -> None:
        cookies = {"ray-authentication-token": job.token}
        async with page(browser, tmp_path / "profile", cookies, job.dashboard) as tab:
            text = await tab.show(f"{job.dashboard}/#/jobs", "tiny-1")
            assert "tiny.yaml" in text
            assert "RUNNING" in text
            await tab.keep_picture(ARTIFACTS / "dashboard-jobs.png")
            await tab.show(f"{job.dashboard}/#/actors", "RayTrainWorker", "WarmTrial")
            await tab.keep_picture(ARTIFACTS / "dashboard-actors.png")
            await tab.show(f"{job.dashboard}/#/jobs/tiny-1", "tiny-1", "RUNNING")
            await tab.keep_picture(ARTIFACTS / "dashboard-job.png")
            node = ask(f"{job.dashboard}/nodes?view=summary", job.token)["data"]["summary"][0]["raylet"]["nodeId"]
            train = next((job.temp / "session_latest" / "logs" / "train").glob("ray-train-app-worker-*.log")).name
            await tab.show(f"{job.dashboard}/#/logs/?nodeId={node}&folder=train", train)
            await tab.show(
                f"{job.dashboard}/#/logs/viewer?nodeId={node}&fileName=train%2F{train}", "[trial 0] attempt 1"
            )
            await tab.keep_picture(ARTIFACTS / "dashboard-logs.png")

    asyncio.run(story())
    for name in ("jobs", "actors", "job", "logs"):
        picture = (ARTIFACTS / f"dashboard-{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 10_000, "a blank page"


def test_prometheus_answers_every_panel(job: Running, tmp_path: Path) -> None:
    program = needed("prometheus", "apt-get install prometheus")
    boards = {path.name for path in (job.folder / "grafana").iterdir()}
    assert {"finesearch.json", "default_grafana_dashboard.json", "train_grafana_dashboard.json"} <= boards
    metrics = job.temp / "session_latest" / "metrics"
    assert str(job.folder / "grafana") in (metrics / "grafana/provisioning/dashboards/default.yml").read_text()
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        program, f"--config.file={metrics / 'prometheus' / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'db'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with running(command, tmp_path / "log", environment(), f"{address}/-/ready"):
        left = {query.expression: query for query in queries()}

        def all_answered() -> bool:
            for expression in list(left):
                said = ask(f"{address}/api/v1/query", query=expression)
                assert said["status"] == "success", said
                values = [float(series["value"][1]) for series in said["data"]["result"]]
                least = 0.0 if "misses" in expression else 1e-9  # rows are computed once, which may be over
                if any(value >= least for value in values):
                    del left[expression]
            return not left

        try:
            wait_for(all_answered, "every panel to have data", 120, every_s=2)
        except AssertionError:
            raise AssertionError(f"without data: {sorted(left)}") from None
        groups = ask(f"{address}/api/v1/query", query='sum(ray_finesearch_worker_groups{state="busy"})')
        assert float(groups["data"]["result"][0]["value"][1]) in {0.0, 1.0}
        wrong = ask(f"{address}/api/v1/query", query="ray_finesearch_trials")["data"]["result"]
        assert {series["metric"]["run"] for series in wrong} == {"tiny"}


def search(folder: Path, logs: dict[str, bytes] | None = None, code: int = 0, **variables: str) -> str:
    """The search of ``tiny.yaml``, on a Ray of its own, to its end; what it said.

    logs: is given what every process of that Ray has logged.
    """
    with ray_folder() as temp:
        done = subprocess.run(
            [BIN / "python", ROOT / "platform" / "search.py", "tiny.yaml"], cwd=folder, text=True, timeout=500,
            env=environment(RAY_TMPDIR=str(temp), HOME=str(folder), **variables), capture_output=True,
        )  # fmt: skip
        if logs is not None:
            for path in temp.glob("ray/session_2*/logs/**/*.*"):
                logs[path.name] = path.read_bytes()
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server."""
    program = needed("mlflow", "in an environment of its own, since it wants an older pyarrow: pip install mlflow")
    pytest.importorskip("mlflow", reason="the client: pip install '.[tracking]'")
    folder = tmp_path_factory.mktemp("mlflow")
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        program, "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port), "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    # Not this environment's modules: the server has its own.
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    own |= {"HOME": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true"}
    with running(command, folder / "log", own, f"{address}/health"):
        yield address


def runs_of(mlflow: str, experiment: str) -> list[dict[str, Any]]:
    """The runs of an experiment, each with its name, status, parameters, tags and the history of its accuracy."""
    found = ask(f"{mlflow}/api/2.0/mlflow/experiments/get-by-name", experiment_name=experiment)
    asked = {"experiment_ids": [found["experiment"]["experiment_id"]]}
    runs = []
    for run in post(f"{mlflow}/api/2.0/mlflow/runs/search", asked)["runs"]:
        identity = run["info"]["run_id"]
        history = ask(f"{mlflow}/api/2.0/mlflow/metrics/get-history", run_id=identity, metric_key="accuracy")
        runs.append({
            "name": run["info"]["run_name"],
            "status": run["info"]["status"],
            "parameters": {entry["key"]: entry["value"] for entry in run["data"]["params"]},
            "tags": {entry["key"]: entry["value"] for entry in run["data"]["tags"]},
            "accuracy": {entry["step"]: entry["value"] for entry in history.get("metrics", [])},
        })  # fmt: skip
    return runs


def test_mlflow_has_every_trial_of_a_search(mlflow: str, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model")
    write_sentiment(tmp_path)
    tracking = f"tracking: {{mlflow: {{tracking_uri: '{mlflow}', experiment: sentiment}}}}\n"
    (tmp_path / "tiny.yaml").write_text(watched_plan(3) + tracking)
    said = search(tmp_path)
    assert "left out" not in said
    shown = {run["name"]: run for run in runs_of(mlflow, "sentiment")}
    assert set(shown) == {f"tiny trial {number}" for number in range(3)}
    controller = open_search_controller(load_plan(tmp_path / "tiny.yaml"), tmp_path / "runs" / "tiny")
    for trial in controller.journals["search"].trials():
        run, asked = shown[f"tiny trial {trial.number}"], trial.parameters
        assert run["status"] == "FINISHED"
        assert run["parameters"]["adaptation"] == asked["adaptation"]
        assert float(run["parameters"]["learning_rate"]) == asked["learning_rate"]
        assert run["accuracy"] == pytest.approx({step: each.value for step, each in trial.evaluations.items()})
        assert run["tags"]["finesearch.run"] == "tiny"


def test_a_trial_that_goes_on_is_a_new_run_of_mlflow_with_all_of_its_history(mlflow: str, tmp_path: Path) -> None:
    tracking = f"{{mlflow: {{tracking_uri: '{mlflow}', experiment: goes-on}}}}"
    for step in (1, 2):
        controller = conductor_of(tmp_path, tracking)
        watched = Tracking(controller, make_trackers(controller.plan, tmp_path), print)
        trial = started(controller, watched)
        told(controller, watched, trial, evaluation(step))
        if step == 2:
            told(controller, watched, trial, TrialFailed(reason="diverged"))
        watched.on_experiment_end([])
    newer, older = sorted(runs_of(mlflow, "goes-on"), key=lambda run: -len(run["accuracy"]))
    assert (older["name"], older["accuracy"]) == ("empty trial 0", {1: 0.25})
    assert (newer["name"], newer["accuracy"], newer["status"]) == ("empty trial 0", {1: 0.25, 2: 0.5}, "FAILED")


def test_a_server_that_is_gone_is_said_before_any_trial_and_can_be_left_out(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="the client: pip install '.[tracking]'")
    write_tiny_model(tmp_path / "model")
    write_sentiment(tmp_path)
    tracking = f"tracking: {{mlflow: {{tracking_uri: 'http://127.0.0.1:{free_port()}'}}}}\n"
    (tmp_path / "tiny.yaml").write_text(watched_plan(1) + tracking)
    assert "tracking.mlflow: expected to connect, got:" in search(tmp_path, code=2, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    (tmp_path / "tiny.yaml").write_text(watched_plan(1))
    assert "1/1 trials" in search(tmp_path)


def post(address: str, body: dict[str, Any]) -> Any:
    asked = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.loads(answer.read())


def test_weights_and_biases_writes_a_run_for_each_trial_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="pip install '.[tracking]'")
    write_tiny_model(tmp_path / "model")
    write_sentiment(tmp_path)
    (tmp_path / "tiny.yaml").write_text(watched_plan(2) + "tracking: {wandb: {project: sentiment}}\n")
    key = "0123456789abcdef" * 2 + "canary00"
    logs: dict[str, bytes] = {}
    said = search(tmp_path, logs, WANDB_MODE="offline", WANDB_SILENT="true", WANDB_API_KEY=key)
    assert "left out" not in said, said
    files = list((tmp_path / "runs" / "tiny" / "wandb").rglob("*.wandb"))
    assert len(files) == 2, said
    whole = b"".join(path.read_bytes() for path in files)
    for word in (b"tiny trial 0", b"tiny trial 1", b"accuracy", b"learning_rate"):
        assert word in whole
    kept = {str(path): path.read_bytes() for folder in ("runs", "reports") for path in (tmp_path / folder).rglob("*.*")
            if path.is_file()}  # fmt: skip
    assert logs
    assert [name for name, text in (logs | kept).items() if key.encode() in text] == []
