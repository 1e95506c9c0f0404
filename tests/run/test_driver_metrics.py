"""A search is watched while it runs: its numbers, its name, its workers' lines, its events."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from clusters import BIN, ray_cluster, ray_folder
from finesearch.plan import load_plan
from finesearch.run.open_search import open_search_controller
from finesearch.tuning.observability.prometheus import METRIC_DEFINITIONS
from paths import ROOT
from plans import tiny_plan, write_sentiment
from tiny_models import write_tiny_model
from tracked import scalars
from watching_programs import ask

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
GIVEN_BY_RAY = {"WorkerId", "NodeAddress", "SessionName", "JobId", "Version", "Component"}


def watched_plan(trials: int, first: str = "[{adaptation: {head_only: {}}}]") -> str:
    """A plan whose first trial reads kept outputs of frozen layers."""
    plan = tiny_plan(trials=trials, baselines="[]")
    return plan.replace("concurrent_trials: 1", f"concurrent_trials: 1, first: {first}")


@dataclass
class Seen:
    """What was seen of a search: samples by name, each with its labels; jobs; and where its files are."""

    folder: Path
    session: Path
    output: str = ""
    samples: dict[str, list[tuple[dict[str, str], float]]] = field(default_factory=lambda: defaultdict(list))
    jobs: list[dict[str, Any]] = field(default_factory=list)
    logs: str = ""

    def look(self, temp: Path) -> None:
        """Ask every address that Ray names for what it exports."""
        path = temp / "prom_metrics_service_discovery.json"  # written every few seconds
        found = json.loads(path.read_text()) if path.exists() else []
        for address in {address for group in found for address in group["targets"]}:
            try:
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
                    text = answer.read().decode()
            except OSError:
                continue
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name.startswith(("ray_finesearch_", "ray_train_controller_state")):
                        self.samples[sample.name].append((dict(sample.labels), sample.value))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """A search of three trials on a cluster with a dashboard, looked at every second until it is over."""
    folder = tmp_path_factory.mktemp("watched")
    write_tiny_model(folder / "model")
    write_sentiment(folder)
    (folder / "tiny.yaml").write_text(watched_plan(3) + "tracking: {tensorboard: true}\n")
    with ray_folder() as temp, ray_cluster(temp, jobs=True, RAY_metrics_report_interval_ms="1000") as variables:
        found = Seen(folder, temp / "session_latest")
        token = Path(variables["RAY_AUTH_TOKEN_PATH"]).read_text()
        driver = subprocess.Popen(
            [BIN / "python", ROOT / "platform" / "search.py", "tiny.yaml"], cwd=folder, env=variables, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        while driver.poll() is None:
            found.look(temp)
            try:
                driver.wait(1)
            except subprocess.TimeoutExpired:
                continue
        found.output = driver.communicate()[0]
        assert driver.returncode == 0, found.output
        found.jobs = ask(f"{variables['RAY_API_SERVER_ADDRESS']}/api/jobs/", token)
        found.logs = "\n".join(path.read_text() for path in found.session.glob("logs/worker-*"))
        yield found


def test_every_number_is_exported_with_few_labels(seen: Seen) -> None:
    ours = {name for name in seen.samples if name.startswith("ray_finesearch_")}
    assert ours == {measure.exported for measure in METRIC_DEFINITIONS.values()}
    for measure in METRIC_DEFINITIONS.values():
        for labels, _ in seen.samples[measure.exported]:
            own = {label for label in labels if label not in GIVEN_BY_RAY and not label.startswith("otel_scope_")}
            assert own == {"run", *measure.labels}, labels
            assert labels["run"] == "tiny"


def test_the_numbers_are_those_of_the_journal(seen: Seen) -> None:
    controller = open_search_controller(load_plan(seen.folder / "tiny.yaml"), seen.folder / "runs" / "tiny")
    trials = controller.journals["search"].trials()
    told = seen.samples["ray_finesearch_trials"]
    assert max(value for labels, value in told if labels["state"] == "complete") == 3
    assert {value for labels, value in seen.samples["ray_finesearch_trials_wanted"]} == {3}
    best = seen.samples["ray_finesearch_best_value"]
    assert max(value for _, value in best) == pytest.approx(max(trial.values[0] for trial in trials))
    assert {labels["metric"] for labels, _ in best} == {"accuracy"}
    trained = sum(trial.detail.tokens for trial in trials)
    assert 0 < max(value for _, value in seen.samples["ray_finesearch_tokens_total"]) <= trained
    assert max(value for _, value in seen.samples["ray_finesearch_prefix_cache_read_bytes_total"]) > 0
    states = {labels["state"] for labels, value in seen.samples["ray_finesearch_worker_groups"] if value == 1}
    assert {"busy", "waiting"} <= states


def test_the_search_is_found_by_its_name(seen: Seen) -> None:
    assert [job["metadata"]["job_name"] for job in seen.jobs] == ["tiny"]
    assert seen.jobs[0]["entrypoint"].endswith("platform/search.py tiny.yaml")
    runs = {labels["ray_train_run_name"] for labels, _ in seen.samples["ray_train_controller_state"]}
    assert runs
    assert all(name.startswith("tiny-group-") for name in runs)
    assert re.search(r"finesearch run tiny, group-\w+-\d+-\d+, rank 0", seen.logs)


def test_lines_of_workers_begin_with_their_trial(seen: Seen) -> None:
    for number in range(3):
        assert f"[trial {number}] attempt 1" in seen.logs
        assert re.search(rf"^\[trial {number}\] evaluation 2: {{'accuracy'", seen.logs, re.MULTILINE)
        assert f"[trial {number}] complete" in seen.logs
    records = [
        json.loads(line)
        for path in seen.session.glob("logs/train/ray-train-app-worker-*.log")
        for line in path.read_text().splitlines()
    ]
    assert {record["trial"] for record in records if "trial" in record} == {"trial 0", "trial 1", "trial 2"}


def test_tensorboard_shows_every_trial(seen: Seen) -> None:
    controller = open_search_controller(load_plan(seen.folder / "tiny.yaml"), seen.folder / "runs" / "tiny")
    for trial in controller.journals["search"].trials():
        found = scalars(seen.folder / "runs" / "tiny" / "tensorboard" / f"trial-{trial.number:04d}")
        told = {step: evaluation.value for step, evaluation in trial.evaluations.items()}
        assert found["ray/tune/accuracy"] == pytest.approx(told)
        assert set(found["ray/tune/tokens"]) == set(told)
