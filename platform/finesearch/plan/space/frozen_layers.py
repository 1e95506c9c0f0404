"""Number of a model's bottom layers that a recipe keeps frozen throughout."""

from collections.abc import Mapping
from typing import Any


def num_frozen_blocks(adaptation: str, parameters: Mapping[str, Any], num_layers: int) -> int:
    """Number of a model's blocks, from the bottom, that never change and through which no gradient flows.

    ``num_layers`` is the number of blocks (0 where layers share weights, so that the stack cannot be split). A result
    of 0 means that no outputs can be cached: an adaptation that is not named here trains, or may train, the bottom.

    >>> num_frozen_blocks("freeze_bottom", {"layers": 4}, 6), num_frozen_blocks("train_top", {"layers": 4}, 6)
    (4, 2)
    >>> [num_frozen_blocks(name, {}, 6) for name in ("head_only", "lora", "full")]
    [6, 0, 0]
    >>> num_frozen_blocks("head_only", {}, num_layers=0)
    0
    """
    match adaptation:
        case "freeze_bottom":
            frozen = int(parameters["layers"])
        case "train_top":
            frozen = num_layers - int(parameters["layers"])
        case "head_only":
            frozen = num_layers
        case _:
            frozen = 0
    return max(0, min(frozen, num_layers))
