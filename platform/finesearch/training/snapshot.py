"""What one checkpoint will hold, copied out of the running trial, so that training may go on while it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One process's part of the checkpoint of evaluation ``step``; tensors are on the CPU.

    weights: what was trained, on rank 0. files: all else that is needed to load it, by name, on rank 0. resume: files
    of tensors that training goes on from, by name; None on every rank where it is not to go on from here.
    """

    step: int
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    resume: Mapping[str, Mapping[str, Tensor]] | None = None
