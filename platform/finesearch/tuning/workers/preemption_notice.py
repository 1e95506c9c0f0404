"""Preemption notice: whether Ray reports that machines of a worker group are about to be taken away."""

from __future__ import annotations

import os
from collections.abc import Callable

WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"


def notice() -> Callable[[], bool] | None:
    """A function that all ranks of a group call together (a barrier): preempted? None where Ray does not watch."""
    from ray.train import get_preemption_info

    if os.environ.get(WATCHER) == "0":
        return None
    return lambda: get_preemption_info() is not None
