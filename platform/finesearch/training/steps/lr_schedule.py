"""Learning-rate schedule (warm-up, decay) and evaluation schedule, as pure functions of the step number."""

from __future__ import annotations

import math


def learning_rate_factor(schedule: str, step: int, steps: int, warmup_fraction: float) -> float:
    """Factor of the peak learning rate at optimizer step ``step`` (0-based) of ``steps``.

    The warm-up is linear and reaches 1 at the first step after it; no step has a factor of 0.

    >>> [round(learning_rate_factor("linear", step, 4, 0.0), 2) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    >>> [round(learning_rate_factor("linear", step, 6, 0.3), 2) for step in range(6)]
    [0.33, 0.67, 1.0, 0.75, 0.5, 0.25]
    >>> [round(learning_rate_factor("constant", step, 4, 0.5), 2) for step in range(4)]
    [0.33, 0.67, 1.0, 1.0]
    >>> [round(learning_rate_factor("cosine", step, 4, 0.0), 2) for step in range(4)]
    [1.0, 0.85, 0.5, 0.15]
    """
    warmup = math.ceil(warmup_fraction * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, steps - warmup)
    if schedule == "linear":
        return 1.0 - done
    assert schedule == "cosine", f"unknown schedule {schedule!r}"
    return 0.5 * (1.0 + math.cos(math.pi * done))


def evaluation_steps(steps_per_epoch: int, epochs: int, evaluations_per_epoch: int) -> tuple[int, ...]:
    """Numbers of optimizer steps after which to evaluate, always including the last one of each epoch.

    An epoch with fewer steps than evaluations is evaluated after every step.

    >>> evaluation_steps(steps_per_epoch=10, epochs=2, evaluations_per_epoch=1)
    (10, 20)
    >>> evaluation_steps(steps_per_epoch=5, epochs=2, evaluations_per_epoch=2)
    (2, 5, 7, 10)
    >>> evaluation_steps(steps_per_epoch=1, epochs=2, evaluations_per_epoch=4)
    (1, 2)
    """
    within = sorted(
        {max(1, steps_per_epoch * part // evaluations_per_epoch) for part in range(1, evaluations_per_epoch + 1)}
    )
    return tuple(epoch * steps_per_epoch + step for epoch in range(epochs) for step in within)
