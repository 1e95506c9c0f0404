"""``identity.json``: which data, model and study a run began with, and the checks that it still has them.

Results of other rows, or from another base model, must not be ranked beside those that a run has. The record is written
before anything else of a run; its mark is kept in the study as well, so that a study of another run is noticed.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from finesearch import __version__
from finesearch.errors import RunConflictError, StorageError
from finesearch.run.run_files import parse_run_file
from finesearch.run.run_storage import IDENTITY, RANKED, RunStorage
from finesearch.storage.checksummed_dirs import file_sha256
from finesearch.tasks.own_metric import own_metric_file
from finesearch.training.trial_types import FrozenRecord
from finesearch.tuning.study.checkpoint_retention import CHECKPOINTS
from finesearch.tuning.study.journal import Journal

if TYPE_CHECKING:
    from finesearch.plan import Plan
    from finesearch.run.preflight import Preflight

MARK = "run"
"""Key of the study's note that holds the mark."""
SHOWN = 12
"""Letters of a hash that are shown."""


class RunIdentity(FrozenRecord):
    """What a run must have when it goes on.

    ``mark`` is random, and in the study too. ``data`` holds the SHA-256 of each split's rows, ``model_sha256`` that of
    the weights, ``tokenizer_sha256`` that of the tokenizer's files, ``metric_sha256`` that of the file that defines a
    metric of the user's own. ``adopted``: an older version began the run
    without a record, so that it was made when the run went on. ``version`` and ``plan_sha256`` tell; they are not
    compared: newer versions go on with older runs, and plans are compared key by key.
    """

    format: int = 1
    mark: str
    adopted: bool = False
    version: str = __version__
    plan_sha256: str
    data: Mapping[str, str]
    model: str
    model_sha256: str
    tokenizer_sha256: str
    metric_sha256: str = ""

    @classmethod
    def of(cls, plan: Plan, preflight: Preflight, adopted: bool = False) -> RunIdentity:
        """Of what preflight has read, with a new mark."""
        metric = own_metric_file(plan.task)
        return cls(
            mark=secrets.token_hex(16),
            adopted=adopted,
            plan_sha256=plan.fingerprint,
            data=dict(preflight.splits.fingerprints),
            model=plan.task.model,
            model_sha256=preflight.model.sha256,
            tokenizer_sha256=preflight.model.tokenizer_sha256,
            metric_sha256="" if metric is None else file_sha256(metric),
        )

    @property
    def content(self) -> bytes:
        """The file's content."""
        return (self.model_dump_json(indent=2) + "\n").encode()

    def differences(self, now: RunIdentity) -> list[str]:
        """What is not as it was, a line each."""
        rows = [
            f"data: the rows of {split} are others (SHA-256 {_shown(now.data.get(split))}, was "
            f"{_shown(self.data.get(split))})"
            for split in {**self.data, **now.data}
            if self.data.get(split) != now.data.get(split)
        ]
        parts = (("weights", "are others", "model_sha256"), ("tokenizer", "is another", "tokenizer_sha256"))
        files = [
            f"model: the {part} of {now.model} {changed} (SHA-256 {_shown(getattr(now, key))}, was "
            f"{_shown(getattr(self, key))})"
            for part, changed, key in parts
            if getattr(self, key) != getattr(now, key)
        ]
        metric = [
            f"task.metric: the file that defines it is another (SHA-256 {_shown(now.metric_sha256)}, was "
            f"{_shown(self.metric_sha256)})"
        ]
        return rows + files + (metric if self.metric_sha256 != now.metric_sha256 else [])


def _shown(sha256: str | None) -> str:
    return "none" if sha256 is None else f"{sha256[:SHOWN]}…"


def read_identity(run_storage: RunStorage) -> RunIdentity | None:
    """The record of a run; None where it has none.

    Raises:
        StorageError: the file holds something else.
    """
    path = run_storage.folder / IDENTITY
    if not path.exists():
        return None
    return parse_run_file(path.read_bytes(), path, RunIdentity, "the record of what this run began with")


def check_identity(begun: RunIdentity, now: RunIdentity, where: str) -> None:
    """Check that data and model are those that a run began with.

    Raises:
        RunConflictError: they are not.
    """
    differences = begun.differences(now)
    if differences:
        listed = "\n  ".join(differences)
        raise RunConflictError(
            f"{where}: data, model or metric are not those that this run began with:\n  {listed}\n"
            "Its results hold for what it began with, and nothing was changed. Put the old files back, give the new "
            "search a --name of its own, or start over with --fresh (the old run is set aside)."
        )


def keep_identity(plan: Plan, preflight: Preflight, run_storage: RunStorage, has_begun: bool) -> None:
    """Write the record of a new run; check that of one that has begun. One of an older version gets a record now.

    Raises:
        RunConflictError: data or model are not those that it began with.
        StorageError: the record cannot be read or written.
    """
    begun = read_identity(run_storage) if has_begun else None
    now = RunIdentity.of(plan, preflight, adopted=has_begun)
    if begun is None:
        run_storage.write(IDENTITY, now.content)
    else:
        check_identity(begun, now, run_storage.shown)


def check_study(run_storage: RunStorage, search: Journal, baselines: Journal, read_only: bool) -> None:
    """Check that the study is the run's; a study without a trial gets its mark, unless ``read_only``.

    Raises:
        RunConflictError: it is another run's.
        StorageError: it has no trial, though the run has results.
    """
    has_trials = any(count for journal in (search, baselines) for count in journal.counts().values())
    if not has_trials and (kept := _results(run_storage)):
        raise StorageError(
            f"{run_storage.shown}: the study holds no trial, but the run has {kept}. Nothing was changed. Restore the "
            "study from a copy (study.db, or the database), or start over with --fresh (the old run is set aside)."
        )
    identity, mark = read_identity(run_storage), search.read_note(MARK)
    if identity is None or mark == identity.mark:
        return
    if mark is not None and identity.adopted:  # the record was lost, and made again
        if not read_only:
            run_storage.write(IDENTITY, identity.model_copy(update={"mark": mark}).content)
        return
    if mark is not None or (has_trials and not identity.adopted):
        raise RunConflictError(
            f"{run_storage.shown}: the study belongs to another run than {IDENTITY}. Nothing was changed. Put this "
            "run's study back, or start over with --fresh (the old run is set aside)."
        )
    if not read_only:
        search.note(MARK, identity.mark)


def _results(run_storage: RunStorage) -> str:
    """What a run has that only trials make; empty where it has nothing."""
    trials = len(run_storage.store.child(CHECKPOINTS).folders())
    found = [f"checkpoints of {trials} trial(s)"] if trials else []
    content = run_storage.store.read(RANKED)
    if content is not None:
        try:
            count = len(json.loads(content))
        except (ValueError, TypeError, RecursionError):
            count = 0
        found += [f"a ranking of {count} checkpoint(s)"] if count else []
    return " and ".join(found)
