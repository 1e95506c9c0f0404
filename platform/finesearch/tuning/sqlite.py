"""Where the journal lives: one SQLite file written by the driver alone, or a database by URL."""

from __future__ import annotations

from pathlib import Path

import optuna
import sqlalchemy
from sqlalchemy import event

from finesearch.errors import StorageError


def open_storage(path: Path) -> optuna.storages.RDBStorage:
    """Open or make the SQLite journal ``path``.

    Write-ahead logging keeps readers (dashboards) from blocking the driver; ``synchronous=FULL`` makes every commit
    survive a power cut.

    Raises:
        StorageError: the file cannot be made or is no SQLite database.
    """
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
        event.listen(storage.engine, "connect", _configure)
        storage.engine.dispose()  # connections made before the listener was there
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise StorageError(
            f"{path}: the study cannot be opened: {error.__cause__ or error}. Expected a writable SQLite file; "
            "SQLite does not work on S3 or most network file systems, so keep `storage` on a local or shared disk."
        ) from error
    return storage


def _configure(connection: object, _record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    if cursor.execute("PRAGMA user_version").fetchone()[0]:  # it was a copy, and is none any more (see `backup`)
        cursor.execute("PRAGMA user_version=0")
    cursor.close()
