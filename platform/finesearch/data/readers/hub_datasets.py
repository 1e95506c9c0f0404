"""Reads data sets from the Hugging Face hub: data files only, in formats that cannot contain code.

Downloaded files go to the hub's cache (``HF_HOME``, shared with models); files converted by ``datasets`` go to our
cache.
"""

from __future__ import annotations

import re
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import DataError

if TYPE_CHECKING:
    import datasets

# Builders that read plain tables. Others unpickle, run the data set's scripts, query databases or decode media.
SAFE_BUILDERS = ("arrow", "csv", "json", "parquet", "text")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def read_hub(
    hub: str, config: str | None, revision: str | None, cache: Path | None
) -> tuple[dict[str, datasets.Dataset], list[str]]:
    """Split name as on the hub -> rows, and notes for the report.

    cache: folder of the converted Arrow files; None keeps the rows in memory and writes no file.

    Raises:
        DataError: no such data set, configuration or revision; not reachable; a format that could contain code.
    """
    import datasets
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    where = f"hub data set {hub!r}"
    _refuse_ambiguous_id(hub, where)
    datasets.disable_progress_bars()
    with ExitStack() as stack:
        folder = cache / "hub" if cache else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            builder = datasets.load_dataset_builder(hub, name=config, revision=revision, cache_dir=str(folder))
            _refuse_unsafe(builder, where)
            _refuse_other_revision(builder, revision, where)
            builder.download_and_prepare()
            splits = builder.as_dataset(in_memory=cache is None)
        except (OfflineModeIsEnabled, ConnectionError) as error:
            raise DataError(
                f"{where}: not reachable ({error}), and not in the cache.\n"
                "  Connect (unset HF_HUB_OFFLINE), or download it elsewhere with save_to_disk and use `data.folder`."
            ) from error
        except (DatasetNotFoundError, FileNotFoundError) as error:
            raise DataError(
                f"{where}: not found ({error}).\n  Check `data.hub` and `data.revision`; a private one needs HF_TOKEN."
            ) from error
        except (ValueError, RuntimeError, HfHubHTTPError, datasets.exceptions.DatasetsError) as error:
            raise DataError(f"{where}: cannot be read: {error}\n  Check `data.config`.") from error
    return dict(splits), _revision_notes(hub, revision, builder.hash)


def _revision_notes(hub: str, revision: str | None, commit: str | None) -> list[str]:
    """A note if the revision is not pinned, so that the rows may change.

    >>> _revision_notes("a/b", "v1.0", None)
    []
    """
    if revision is not None:
        return []
    advice = "add one to repeat this run"
    if commit and _COMMIT.fullmatch(commit):
        advice = f"this run read commit {commit}; `revision: {commit}` makes it repeatable"
    return [f"The hub data set {hub!r} has no `revision` in the plan: {advice}."]


def _refuse_ambiguous_id(hub: str, where: str) -> None:
    """Refuse ids for which ``datasets`` would load a local folder or one of its own readers instead."""
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    if not _HUB_ID.fullmatch(hub) or hub in _PACKAGED_DATASETS_MODULES:
        raise DataError(f"{where}: not a hub id, expected NAME or OWNER/NAME.\n  Local files go under `data.train`.")
    if Path(hub).exists():
        raise DataError(
            f"{where}: a file or folder of that name exists in {Path.cwd()} and would be read instead.\n"
            "  Run from elsewhere, or name it under `data.folder` or `data.train` if it is what you mean."
        )


def _refuse_unsafe(builder: datasets.DatasetBuilder, where: str) -> None:
    kind = type(builder).__module__.rpartition(".")[2]
    if not type(builder).__module__.startswith("datasets.packaged_modules.") or kind not in SAFE_BUILDERS:
        raise DataError(
            f"{where}: its files are of the kind {kind!r}, expected one of {', '.join(SAFE_BUILDERS)}; formats that can"
            " hold code are never read.\n  Convert it to Parquet elsewhere and use `data.train`."
        )


def _refuse_other_revision(builder: datasets.DatasetBuilder, revision: str | None, where: str) -> None:
    # Offline, datasets uses any revision in its cache.
    found = builder.hash or ""
    if revision and revision != found and _COMMIT.fullmatch(revision) and _COMMIT.fullmatch(found):
        raise DataError(f"{where}: the cache holds revision {found}, the plan asks for {revision}.\n  Connect once.")
