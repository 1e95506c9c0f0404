"""Tasks: how each one reads, encodes and scores its data, behind one interface (``task``) for the layers above."""

from finesearch.tasks.raw_splits import SPLITS, Origin, RawSplits
from finesearch.tasks.task import Task, TaskFacts
from finesearch.tasks.task_registry import make_task

__all__ = ["SPLITS", "TaskFacts", "Origin", "RawSplits", "Task", "make_task"]
