"""The study of a search opens in Optuna's own dashboard."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from clusters import environment, free_port
from finesearch.run.open_search import open_search_controller
from paths import ROOT
from plans import empty_plan
from watching_programs import ask, needed, running

sys.path.append(str(ROOT / "tests" / "benchmarks"))


def test_optuna_dashboard_opens_the_study(tmp_path: Path) -> None:
    program = needed("optuna-dashboard", "pip install '.[dev]'")
    from shared.empty_search import Stopwatch, run_trial

    controller = open_search_controller(empty_plan("shown", search="{pruner: median, startup_trials: 1}"), tmp_path)
    for number in range(4):
        run_trial(controller, Stopwatch(), number)
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [program, f"sqlite:///{tmp_path / 'study.db'}", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, tmp_path / "log", environment(HOME=str(tmp_path)), f"{address}/api/studies"):
        names = {study["study_name"]: study["study_id"] for study in ask(f"{address}/api/studies")["study_summaries"]}
        assert set(names) == {"shown", "shown (baselines)"}
        study = ask(f"{address}/api/studies/{names['shown']}", after="0")
        assert len(study["trials"]) == 4
        journaled = {trial.number: trial for trial in controller.journals["search"].study.get_trials()}
        for trial in study["trials"]:
            assert {p["name"] for p in trial["params"]} == set(journaled[trial["number"]].params)
            shown = {step["step"]: step["value"] for step in trial["intermediate_values"]}
            assert shown == pytest.approx(journaled[trial["number"]].intermediate_values)
