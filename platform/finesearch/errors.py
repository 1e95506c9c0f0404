"""Every error that a user can meet, as one tree.

FinesearchError                     exit code
├── InputError                      2   what was given cannot work; nothing was changed
│   ├── PlanError                       the plan file (carries every problem at once)
│   ├── DataError                       the data (file, row, expected, got)
│   ├── ModelError                      the model (missing weights, remote code, too few layers)
│   ├── PlacementError                  the plan asks for more devices than there are
│   └── RunConflictError                the run exists with another plan, or another driver holds it
├── StorageError                    3   a path cannot be written, or the disk is full
│   ├── DiskFullError
│   └── CheckpointError                 a checkpoint is damaged and no earlier one is left
├── SearchError                     1   the search ended without a ranked checkpoint
│   └── TrialError                      one trial failed: it is journaled, the search continues
│       └── DivergedError               its loss or metric became NaN or infinite
└── Interrupted                     130 or 143

Every class takes one message string, so that it survives pickling between processes. A message says where, what was
expected, what came and what to do.
"""


class FinesearchError(Exception):
    """Root of the tree; ``exit_code`` is what the command line returns."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        return str(self.args[0])


class InputError(FinesearchError):
    """What was given cannot work; nothing was changed."""

    exit_code = 2


class PlanError(InputError):
    """The plan file is not valid; the message lists every problem, one a paragraph."""


class DataError(InputError):
    """The data cannot be read or does not suit the task."""


class ModelError(InputError):
    """The model cannot be loaded or does not suit the plan."""


class PlacementError(InputError):
    """The plan asks for more than the cluster holds."""


class RunConflictError(InputError):
    """The run exists with a different plan, or another driver is working on it."""


class StorageError(FinesearchError):
    """A path cannot be written or read."""

    exit_code = 3


class DiskFullError(StorageError):
    """No space is left where a checkpoint, a cache or a report was being written."""


class CheckpointError(StorageError):
    """A checkpoint does not match its manifest."""


class SearchError(FinesearchError):
    """The search ended without one ranked checkpoint."""


class TrialError(SearchError):
    """One trial failed; the message is the reason that the report shows."""


class DivergedError(TrialError):
    """A trial's loss or metric became NaN or infinite."""


class Interrupted(FinesearchError):  # noqa: N818 - nothing went wrong
    """A signal ended the search; everything finished is saved."""

    exit_code = 130

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[str, int]]:
        return type(self), (self.message, self.exit_code)
