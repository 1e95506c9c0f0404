"""Stopped trials end to end: ranked by checkpoints that score again what was said, marked, and gone on with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from clusters import environment, ray_folder
from finesearch.tuning.study.journaled_trial import JournaledTrial
from paths import ROOT
from plans import tiny_plan, write_sentiment
from tiny_models import write_tiny_model

LEARNS, STANDS_STILL = "{learning_rate: 5.0e-3, adaptation: full}", "{learning_rate: 1.0e-9, adaptation: full}"
EPOCHS, STOP = 30, 14


def plan_text() -> str:
    """Two of three trials stand still; the median stops both, and the first of them goes on."""
    first = f"[{LEARNS}, {STANDS_STILL}, {STANDS_STILL}]"
    stops = f"startup_trials: 1, min_evaluations: {STOP + 1}, finish_top: 2, first: {first}"
    text = tiny_plan(trials=3, pruner="median", baselines="[majority]").replace("report: {top: 2", "report: {top: 3")
    text = text.replace("startup_trials: 3", stops)
    text = text.replace("min: 1e-4", "min: 1e-9").replace("epochs: 2", f"epochs: {EPOCHS}")
    return text.replace("{min: 0.0, max: 0.1}", "0.01")


def searched(folder: Path, plan: str, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], str]:
    """The report of a search over a tiny model, and what was printed."""
    write_tiny_model(folder / "model")
    write_sentiment(folder)
    (folder / "tiny.yaml").write_text(plan)
    with ray_folder() as ray:
        monkeypatch.setenv("RAY_TMPDIR", str(ray))
        command = [sys.executable, str(ROOT / "platform" / "search.py"), "tiny.yaml"]
        done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return json.loads((folder / "reports" / "tiny" / "report.json").read_text(encoding="utf-8")), done.stdout


@pytest.mark.ray
@pytest.mark.slow
def test_stopped_trials_are_ranked_verified_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, out = searched(tmp_path, plan_text(), monkeypatch)
    assert [row["trial"] for row in said["ranked"]] == [0, 1, 2], out
    assert [row["error"] for row in said["ranked"]] == [None] * 3
    assert [row["evaluations"] for row in said["ranked"]] == [EPOCHS] * 3
    winner, finished, stopped = said["ranked"]
    assert (winner["stopped_at"], finished["stopped_at"]) == (None, None)
    assert stopped["stopped_at"] == STOP
    assert stopped["remarks"][0] == f"stopped at evaluation {STOP} of {EPOCHS}"
    assert "not above the majority baseline" in stopped["remarks"][1]
    assert stopped["validation"] == pytest.approx(stopped["revalidated"], abs=1e-9)
    assert not (Path(stopped["checkpoint"]) / "resume").exists()
    assert said["cost"]["trials"] == {"complete": 2, "pruned": 1, "failed": 0, "running": 0}
    assert any(note.startswith("Trial 1 had been stopped early, and went on") for note in said["notes"])
    assert f"trial 1, stopped at evaluation {STOP} of {EPOCHS}" in out
    assert "going on with 1, stopped before and among the best" in out or "trial 1 complete" in out


@pytest.mark.ray
@pytest.mark.slow
def test_freeze_thaw_goes_on_with_what_it_paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs, trials = 6, 3
    text = tiny_plan(trials=trials, baselines="[majority]").replace("epochs: 2", f"epochs: {epochs}")
    text = text.replace("startup_trials: 3", "sampler: freeze_thaw, startup_trials: 5, finish_top: 1")
    text = text.replace("sampler: tpe, ", "").replace("pruner: none, ", "")
    said, out = searched(tmp_path, text, monkeypatch)
    winner = said["ranked"][0]
    assert winner["stopped_at"] is None
    assert winner["validation"] == pytest.approx(winner["revalidated"], abs=1e-9)
    assert f"/{trials * epochs} epochs" in out
    storage = f"sqlite:///{tmp_path / 'runs' / 'tiny' / 'study.db'}"
    parts = [
        JournaledTrial.read(each) for each in optuna.load_study(study_name="tiny (resumed)", storage=storage).trials
    ]
    whole = [JournaledTrial.read(each) for each in optuna.load_study(study_name="tiny", storage=storage).trials]
    assert parts
    assert len(whole) > trials
    assert sum(len(each.evaluations) for each in [*whole, *parts]) >= trials * epochs
    for number in {part.resumes for part in parts}:
        pieces = [whole[number or 0], *(part for part in parts if part.resumes == number)]
        told = [each for piece in pieces for each in piece.evaluations.values()]
        assert [each.step for each in told] == list(range(1, len(told) + 1)), "each evaluation was told once"
        assert sorted(each.seconds for each in told) == [each.seconds for each in told], "seconds go on"
