"""Runs each competitor in a process of its own, and says how long it took and what it found when.

Wall seconds are those of the whole process: start-up, imports, tokenisation, searching and the report count for
everyone.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from shared.sentences import MODEL, Sentences, model_folder

SHARED = Path(__file__).resolve().parent
ROOT = SHARED.parents[2]
OURS = "finesearch"
PLAIN = "Trainer.hyperparameter_search, as it comes"
EXPERT = "the same, by an expert"
RAY = "Ray Tune: OptunaSearch, ASHA, a TorchTrainer in each trial"
BATCH_SIZE = 32
MAX_LENGTH = 128
LIMIT_S = 3 * 3600.0  # of one process; one that takes longer hangs


@dataclass(frozen=True)
class Work:
    """What all competitors have to do.

    trials: fixed ones, each ``{adaptation, layers?, learning_rate}``; empty for ``num_trials`` from the space below.
    """

    sentences: Sentences
    epochs: int
    trials: tuple[Mapping[str, Any], ...] = ()
    num_trials: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Evaluation:
    """One evaluation on validation; ``at`` counts seconds since the process was started."""

    trial: int
    accuracy: float
    at: float


@dataclass(frozen=True)
class Run:
    """What a competitor did."""

    seconds: float
    evaluations: tuple[Evaluation, ...]
    test: float | None

    @property
    def final_accuracies(self) -> list[float]:
        """Of each trial, in order, its last evaluation."""
        last = {one.trial: one.accuracy for one in self.evaluations}
        return [last[trial] for trial in sorted(last)]

    @property
    def best(self) -> float:
        return max(one.accuracy for one in self.evaluations)

    @property
    def curve(self) -> list[tuple[float, float]]:
        """Seconds and best accuracy so far, at every improvement."""
        points: list[tuple[float, float]] = []
        for one in sorted(self.evaluations, key=lambda one: one.at):
            if not points or one.accuracy > points[-1][1]:
                points.append((one.at, one.accuracy))
        return points

    def seconds_until(self, target: float) -> float | None:
        """Seconds until the best so far was at least ``target``; None where it never was."""
        return next((at for at, accuracy in self.curve if accuracy >= target), None)


def run_in_turns(
    competitors: Mapping[str, Callable[[int], Run]], rounds: int, say: Callable[[str], None] = print
) -> dict[str, list[Run]]:
    """Every competitor once a round; who begins changes from round to round."""
    runs: dict[str, list[Run]] = {name: [] for name in competitors}
    for number in range(rounds):
        names = list(competitors)
        names = names[number % len(names) :] + names[: number % len(names)]
        for name in names:
            runs[name].append(competitors[name](number))
            say(f"  round {number + 1} of {rounds}: {name}: {runs[name][-1].seconds:.1f} s")
    return runs


def finesearch(work: Work) -> Run:
    """``python platform/search.py``, with nothing changed but what makes the work the same."""
    with tempfile.TemporaryDirectory(prefix="ours-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "plan.yaml").write_text(yaml.safe_dump(plan(work), sort_keys=False), encoding="utf-8")
        command = [sys.executable, str(ROOT / "platform" / "search.py"), "plan.yaml"]
        began, seconds = timed(command, folder)
        report = json.loads((folder / "reports" / "bench" / "report.json").read_text(encoding="utf-8"))
        ranked = report["ranked"]
        return Run(seconds, journaled(folder / "runs" / "bench" / "study.db", began), ranked[0]["test"])


def plan(work: Work) -> dict[str, Any]:
    """Our plan: fixed trials by ``search.first``, or the space that all compete in."""
    rates = [trial["learning_rate"] for trial in work.trials] or [1e-5, 1e-2]
    space: dict[str, Any] = {
        "learning_rate": {"min": min(rates) / 2, "max": max(rates) * 2, "log": True}
        if work.trials
        else {"min": 1e-5, "max": 1e-2, "log": True},
        "weight_decay": 0.0 if work.trials else {"min": 0.0, "max": 0.3},
        "adaptation": {"one_of": {"full": {}, "freeze_bottom": {"layers": {"min": 0, "max": 5}}, "head_only": {}}},
    }
    search: dict[str, Any] = {"seed": work.seed}
    if work.trials:
        search |= {"pruner": "none", "first": [configuration(trial) for trial in work.trials]}
    return {
        "name": "bench",
        "task": {
            "kind": "text-classification",
            "model": MODEL,
            "data": {split: str(work.sentences.folder / f"{split}.csv") for split in work.sentences.rows},
            "columns": {"text": "text", "label": "label"},
            "metric": "accuracy",
            "max_length": MAX_LENGTH,
        },
        "space": space,
        "training": {"epochs": work.epochs, "batch_size": BATCH_SIZE},
        "search": search,
        "budget": {"trials": len(work.trials) or work.num_trials},
        "report": {"top": 1, "baselines": []},
    }


def configuration(trial: Mapping[str, Any]) -> dict[str, Any]:
    """A fixed trial as ``search.first`` says it."""
    adaptation: Any = trial["adaptation"]
    if "layers" in trial:
        adaptation = {adaptation: {"layers": trial["layers"]}}
    return {"learning_rate": trial["learning_rate"], "adaptation": adaptation}


def journaled(study: Path, began: float) -> tuple[Evaluation, ...]:
    """Every evaluation in a journal, with the time at which its verdict was written."""
    import optuna

    from finesearch.tuning.study.journaled_trial import journaled_evaluations

    loaded = optuna.load_study(study_name="bench", storage=f"sqlite:///{study}")
    return tuple(
        Evaluation(trial.number, told.value, told.at - began)
        for trial in loaded.get_trials()
        for told in journaled_evaluations(trial).values()
    )


def transformers_search(work: Work, expert: bool) -> Run:
    """``Trainer.hyperparameter_search`` with Optuna."""
    return _peer("transformers_search.py", work, {"expert": expert})


def ray_tune_search(work: Work) -> Run:
    """Ray Tune on Ray's documented pattern."""
    return _peer("ray_tune_search.py", work, {})


def _peer(script: str, work: Work, more: Mapping[str, Any]) -> Run:
    with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        out = folder / "told.json"
        said = {
            "data": str(work.sentences.folder), "model": model_folder(), "epochs": work.epochs,
            "batch_size": BATCH_SIZE, "max_length": MAX_LENGTH, "trials": [dict(trial) for trial in work.trials],
            "num_trials": len(work.trials) or work.num_trials, "seed": work.seed, "out": str(out), **more,
        }  # fmt: skip
        (folder / "work.json").write_text(json.dumps(said), encoding="utf-8")
        began, seconds = timed([sys.executable, str(SHARED / script), "work.json"], folder)
        told = json.loads(out.read_text(encoding="utf-8"))
        # The winner's score on test is only for the reader; what it took is not the peer's.
        return Run(
            seconds - told["test_s"],
            tuple(Evaluation(one["trial"], one["accuracy"], one["at"] - began) for one in told["evaluations"]),
            told["test"],
        )


def timed(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Unix time at which a process was started, and the wall seconds until it had ended.

    Raises:
        RuntimeError: it failed; with the end of what it said.
        subprocess.TimeoutExpired: it took longer than ``LIMIT_S``.
    """
    log = folder / "log.txt"
    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as ray_folder:
        environment = {
            **{name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "RAY_ADDRESS")},
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(folder / "datasets"),
            # Nobody finds what an earlier run has kept.
            "XDG_CACHE_HOME": str(folder / "cache"),
            "PYTHONPATH": str(SHARED.parent),
            "RAY_TMPDIR": ray_folder,
            "RAY_USAGE_STATS_ENABLED": "0",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
        with log.open("wb") as file:
            began, started = time.time(), time.perf_counter()
            done = subprocess.run(
                command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT, timeout=LIMIT_S
            )
            seconds = time.perf_counter() - started
    if done.returncode != 0:
        said = log.read_text(encoding="utf-8", errors="replace")[-4000:]
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}:\n{said}")
    return began, seconds
