"""Whether machines under a worker group are about to be taken away: Ray's notice of a spot instance's end."""

from __future__ import annotations

import os
from collections.abc import Callable

WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"


def notice() -> Callable[[], bool] | None:
    """What a worker asks, together with all ranks of its group: it is a barrier. None where Ray does not watch."""
    from ray.train import get_preemption_info

    if os.environ.get(WATCHER) == "0":
        return None
    return lambda: get_preemption_info() is not None
