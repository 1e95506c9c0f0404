"""A trial without a model that checkpoints, resumes and reports like a real one, and breaks where it is told to."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ray

from finesearch.errors import DiskFullError, DivergedError
from finesearch.training.trial_types import Evaluation, Preempted, TrialResult, TrialSpec

STEPS = 3


@dataclass
class FaultRunner:
    """Trains by sleeping. ``log`` gets a line for every step that was really trained: trial, step, process, node.

    ``fault`` says what goes wrong at the second step, and in which trial: ``kind:number``, several parted by ``;``;
    ``kind`` alone means in every trial.
    """

    log: str
    fault: str = "none"
    step_s: float = 0.05
    steps: int = STEPS

    def run(
        self,
        spec: TrialSpec,
        report: Callable[[Evaluation], bool],
        beat: Callable[[], None],
        is_preempted: Callable[[], bool] | None,
    ) -> TrialResult:
        state = Path(spec.directory) / "state.json"
        known = json.loads(state.read_text())["history"] if state.exists() else []
        history = [Evaluation.model_validate(evaluation) for evaluation in known]
        for evaluation in history[: self.steps - 1]:
            if not report(evaluation):
                return self._result(history, state, stopped=True)
        for step in range(len(history) + 1, self.steps + 1):
            if is_preempted is not None and is_preempted():
                raise Preempted("nothing is written here that is not written at every step")
            value = math.tanh(step * (6 + math.log10(spec.recipe.learning_rate)) / 4) + 0.01 * spec.number
            beat()
            value = self._break(spec, step, value)
            time.sleep(self.step_s)
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(f"{spec.number} {step} {os.getpid()} {ray.util.get_node_ip_address()}\n")
            history.append(
                Evaluation(
                    step=step,
                    epoch=float(step),
                    metrics={"accuracy": value},
                    train_loss=0.1,
                    seconds=0.1 * step,
                    tokens=0,
                    trainable_parameters=1,
                )
            )
            self._save(state, history)
            if step < self.steps and not report(history[-1]):
                return self._result(history, state, stopped=True)
        return self._result(history, state, stopped=False)

    def _save(self, state: Path, history: list[Evaluation]) -> None:
        if _rank() == 0:
            temporary = state.with_name(f"state.{os.getpid()}")
            temporary.write_text(json.dumps({"history": [each.model_dump(mode="json") for each in history]}))
            temporary.replace(state)

    def _result(self, history: list[Evaluation], state: Path, stopped: bool) -> TrialResult:
        return TrialResult(
            stopped=stopped,
            best=max(history, key=lambda evaluation: evaluation.metrics["accuracy"]),
            history=tuple(history),
            checkpoint=str(state.parent),
            trainable_parameters=1,
            total_parameters=2,
            seconds=history[-1].seconds,
            tokens=0,
            checkpoint_bytes=1,
        )

    def _break(self, spec: TrialSpec, step: int, value: float) -> float:
        faults = [fault.partition(":") for fault in self.fault.split(";")]
        mine = [kind for kind, _, number in faults if step == 2 and (not number or spec.number == int(number))]
        match mine[0] if mine else "none":
            case "kill always":
                os.kill(os.getpid(), signal.SIGKILL)
            case "kill once":
                if spec.attempt == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
            case "hang once":
                if spec.attempt == 1:
                    time.sleep(10_000)
            case "raise on rank 1":
                if _rank() == 1:
                    raise RuntimeError("rank 1 met something odd")
                time.sleep(1.0)
            case "raise":
                raise RuntimeError("this trial cannot be trained")
            case "diverge":
                raise DivergedError("the training loss became nan at step 12")
            case "infinite":
                return math.inf
            case "disk full":
                raise DiskFullError("/runs/x: no space is left on the device")
        return value


def _rank() -> int:
    import torch.distributed as dist

    return dist.get_rank() if dist.is_initialized() else 0
