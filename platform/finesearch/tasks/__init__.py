"""How a task reads, encodes and scores: one file a task, one interface (``base``) for the floors above."""

from finesearch.tasks.base import Facts, Task
from finesearch.tasks.kinds import make_task
from finesearch.tasks.splits import SPLITS, Origin, RawSplits

__all__ = ["SPLITS", "Facts", "Origin", "RawSplits", "Task", "make_task"]
