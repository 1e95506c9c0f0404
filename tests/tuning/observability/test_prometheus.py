"""What is shown to Prometheus: the dashboard and the code name the same numbers, and nothing names a trial."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from test_mailbox import END, job

from finesearch.run.driver_metrics import gauge_values
from finesearch.run.open_search import open_search_controller
from finesearch.training.runtime.counters import COUNTED, Counters
from finesearch.tuning.observability.log_prefix import set_log_prefix
from finesearch.tuning.observability.prometheus import BEST, METRIC_DEFINITIONS, TRIALS
from finesearch.tuning.workers.mailbox_actor import STATES, MailboxActor
from grafana import board, queries
from paths import ROOT
from plans import empty_plan

sys.path.append(str(ROOT / "tests" / "benchmarks"))


def test_the_dashboard_shows_every_metric_of_the_code_and_no_other() -> None:
    shown = set().union(*(query.names for query in queries()))
    assert shown == {measure.exported for measure in METRIC_DEFINITIONS.values()}


def test_every_metric_is_set_somewhere_in_the_code() -> None:
    assert set(COUNTED) == {name for name, measure in METRIC_DEFINITIONS.items() if measure.kind == "counter"}
    package = ROOT / "platform" / "finesearch"
    definitions = [
        package / "tuning" / "observability" / "prometheus.py",
        package / "training" / "runtime" / "counters.py",
    ]
    used = "\n".join(p.read_text() for p in package.rglob("*.py") if p not in definitions)
    constants = [
        line for path in definitions for line in re.findall(r"^([A-Z_, ]+) = ", path.read_text(), re.MULTILINE)
    ]
    names = {name for line in constants for name in line.split(", ")} - {"COUNTED", "METRIC_DEFINITIONS", "COUNTERS"}
    assert len(names) == len(METRIC_DEFINITIONS)
    for name in names:
        assert re.search(rf"(set|add|GaugeValue)\({name}\b", used), f"{name} is never set"


def test_every_query_sums_up_what_ray_tells_by_process_and_keeps_to_the_variables() -> None:
    for panel in board()["panels"]:
        for target in panel["targets"]:
            for selector in re.findall(r"ray_\w+(\{[^}]*\})?", target["expr"]):
                assert 'run=~"$run"' in selector, target["expr"]
                assert 'SessionName=~"$SessionName"' in selector, target["expr"]
            assert re.search(r"(sum|max) by \(", target["expr"]), target["expr"]
            assert "WorkerId" not in target["expr"]
    places = [tuple(panel["gridPos"].values()) for panel in board()["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in board()["panels"]}) == len(places)


def test_labels_are_words_of_which_there_are_few() -> None:
    assert {label for measure in METRIC_DEFINITIONS.values() for label in measure.labels} == {"state", "metric"}


def test_readings_follow_the_journal(tmp_path: Path) -> None:
    from shared.empty_search import Stopwatch, run_trial

    controller = open_search_controller(empty_plan(search="{pruner: none, concurrent_trials: 1}"), tmp_path)
    assert BEST not in {reading.name for reading in gauge_values(controller)}
    for number in range(3):
        run_trial(controller, Stopwatch(), number)
    found = {(reading.name, *reading.labels): reading.value for reading in gauge_values(controller)}
    values = [trial.values[0] for trial in controller.journals["search"].trials()]
    assert found[TRIALS, ("state", "complete")] == 3
    assert found[TRIALS, ("state", "running")] == 0
    assert found[BEST, ("metric", "accuracy"), ("state", "complete")] == max(values)
    assert (BEST, ("metric", "accuracy"), ("state", "pruned")) not in found
    assert found[("device_hours",)] == pytest.approx(9 / 3600)
    assert found[("trials_wanted",)] == 8
    assert {name for name, *_ in found} <= set(METRIC_DEFINITIONS)


def test_a_mailbox_says_what_its_group_does(tmp_path: Path) -> None:
    async def story() -> list[str]:
        box = MailboxActor("tiny")
        seen = [box.state]
        generation = await box.post(job(tmp_path))
        seen.append(box.state)
        await box.take("a", 0, 0)
        seen.append(box.state)
        await box.condemn()
        seen.append(box.state)
        await box.take("b", 0, 0)
        seen.append(box.state)
        await box.finish(generation, END)
        return [*seen, box.state]

    seen = asyncio.run(story())
    assert seen == ["idle", "waiting", "busy", "waiting", "busy", "idle"]
    assert set(seen) == set(STATES)


def test_totals_only_grow_whoever_adds() -> None:
    import threading

    meter = Counters()
    threads = [threading.Thread(target=lambda: [meter.add("tokens", 1) for _ in range(1000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.totals()["tokens"] == 8000
    with pytest.raises(KeyError):
        meter.add("tokans", 1)


@pytest.fixture
def lines() -> Any:
    """What a logger writes, formatted as Ray's console does."""
    written: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(logging.Formatter().format(record))

    logger, handler = logging.getLogger("trial-log-test"), Kept()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    before = logging.getLogRecordFactory()
    yield logger, written
    logger.removeHandler(handler)
    set_log_prefix(None)
    logging.setLogRecordFactory(before)


def test_every_line_of_a_worker_begins_with_its_trial(lines: Any) -> None:
    logger, written = lines
    logger.info("before any")
    set_log_prefix("trial 7")
    logger.info("%d rows\nof %s", 3, "text")
    try:
        raise ValueError("no\nsuch row")
    except ValueError:
        logger.exception("failed")
    set_log_prefix("baseline 0")
    logger.warning("next")
    assert written[0] == "before any"
    assert written[1] == "[trial 7] 3 rows\n[trial 7] of text"
    assert all(line.startswith("[trial 7] ") for line in written[2].split("\n"))
    assert "[trial 7] ValueError: no\n[trial 7] such row" in written[2]
    assert written[3] == "[baseline 0] next"


def test_a_message_that_does_not_fit_its_arguments_is_left_to_logging(lines: Any) -> None:
    logger, written = lines
    set_log_prefix("trial 1")
    with pytest.raises(TypeError):
        logger.info("%d rows", "many")
    logger.info("goes on")
    assert written[-1] == "[trial 1] goes on"
