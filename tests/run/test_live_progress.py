"""Between two evaluations of a long epoch, a search shows how far each trial is, its speed and its loss."""

import io
import re
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from finesearch.commands.run_search import run_search
from finesearch.plan import load_plan
from finesearch.run import progress
from finesearch.run.open_search import SearchRequest, open_search_controller
from finesearch.run.progress import Progress
from finesearch.training.trial_types import StepProgress
from plans import empty_plan, tiny_plan, write_sentiment
from tiny_models import write_tiny_model
from trial_reports import completed, evaluation


def test_a_table_and_a_log_show_how_far_running_trials_are_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    plan = empty_plan(
        report="{baselines: [ordinary]}",
        search="{pruner: none, concurrent_trials: 3}",
        budget="{cost: {per_device_hour: 12, most: 40}}",
    )
    controller = open_search_controller(plan, tmp_path)
    jobs = {name: controller.next_job(name) for name in "abc"}
    assert [(job.study, job.number) for job in jobs.values()] == [("baselines", 0), ("search", 0), ("search", 1)]
    last = evaluation(1, 0.75, 3.0, epoch=3.0)
    controller.evaluation("c", last)
    controller.trial_ended("c", completed(last), False)
    told = {
        ("baselines", 0): StepProgress(epoch=1.404, epochs=5, tokens_per_s=12345.6, loss=0.53179),
        ("search", 0): StepProgress(epoch=0.25, epochs=3, tokens_per_s=900.0),
        ("search", 1): StepProgress(epoch=2.9, epochs=3, tokens_per_s=800.0, loss=0.1),  # the last of an ended trial
    }
    log, terminal = io.StringIO(), io.StringIO()
    shown = Progress(plan, log)
    shown.start(controller, lambda: told)
    shown.stop()
    assert shown.summary().endswith(", cost 0.01 of 40"), "3 of 3,600 seconds of one CPU at 12 an hour"
    assert {line for line in log.getvalue().splitlines() if line.startswith("  ")} == {
        "  baseline ordinary: epoch 1.40 of 5, 12,346 tokens/s, loss 0.532",
        "  trial 0: epoch 0.25 of 3, 900 tokens/s",
    }
    Console(file=terminal, width=240).print(shown._table())
    rows = [[cell.strip() for cell in line.split("│")[1:9]] for line in terminal.getvalue().splitlines() if "│" in line]
    assert rows == [
        ["1", "complete", "1", "0.7500", "3", "", "", ""],
        ["ordinary", "running", "", "", "", "1.40 of 5", "12,346", "0.532"],
        ["0", "running", "", "", "", "0.25 of 3", "900", ""],
    ]


@pytest.mark.slow
def test_a_long_epoch_shows_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_model(tmp_path / "model")
    write_sentiment(tmp_path, rows=6000)
    sections = yaml.safe_load(tiny_plan(trials=1, baselines="[]")) | {
        "space": {"learning_rate": 1e-3},
        "training": {"epochs": 1, "batch_size": 2, "precision": "fp32", "prefix_cache": "off"},
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(sections))
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.5)
    monkeypatch.setattr(progress, "READ_LIVE_EVERY_S", 0.2)
    monkeypatch.chdir(tmp_path)
    stream = io.StringIO()
    plan = load_plan(tmp_path / "plan.yaml")
    run_search(SearchRequest(plan, tmp_path / "reports"), Progress(plan, stream))
    told = re.findall(
        r"^  trial 0: epoch (\d\.\d\d) of 1, ([\d,]+) tokens/s(?:, loss (\S+))?$", stream.getvalue(), re.M
    )
    shares = [float(epoch) for epoch, _, _ in told]
    assert len({share for share in shares if 0.0 < share < 1.0}) > 1, stream.getvalue()
    assert shares == sorted(shares)
    assert all(int(rate.replace(",", "")) > 0 for _, rate, _ in told)
    assert any(0.0 < float(loss) < 2.0 for _, _, loss in told if loss)
