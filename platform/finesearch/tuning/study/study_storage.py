"""Opens the study's storage: SQLite by path, or PostgreSQL by URL with a study name of its own for each run."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

import optuna
import sqlalchemy
from sqlalchemy import event

from finesearch.errors import PlanError, StorageError
from finesearch.plan import Plan
from finesearch.plan.problems import SourceLocations, render
from finesearch.plan.sections.study_url import study_problem, without_password

VARIABLE = "FINESEARCH_STUDY"


@dataclass(frozen=True)
class OpenStudy:
    """A run's open study: the connected storage and the study's name in it."""

    storage: optuna.storages.RDBStorage
    name: str


def database_url(plan: Plan) -> str | None:
    """URL of the study's database: the environment's before the plan's; None where the study is SQLite.

    Raises:
        PlanError: the environment's value is not such a URL.
    """
    given = os.environ.get(VARIABLE) or None
    problem = study_problem(given) if given is not None else None
    if problem is not None:
        raise PlanError(render(problem, SourceLocations(VARIABLE)))
    return given or plan.study


def new_study_name(run: str) -> str:
    """A unique study name for a new run: a database holds studies of many runs, even of equal names.

    A run stores it, so that only this run finds it again.
    """
    return f"{run}-{secrets.token_hex(4)}"


def open_database(url: str) -> optuna.storages.RDBStorage:
    """Connect to the database at ``url``; missing tables are created.

    Raises:
        StorageError: it cannot be reached or used, or its driver is not installed; the message omits the password.
    """
    try:
        # Pre-ping notices connections that a firewall or a restart has cut.
        return optuna.storages.RDBStorage(_with_driver(url), engine_kwargs={"pool_pre_ping": True})
    except ImportError as error:
        raise StorageError(
            f"study {without_password(url)}: the driver for it is not installed ({error.name}). Install psycopg: "
            "pip install 'psycopg[binary]'."
        ) from None
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise StorageError(
            f"study {without_password(url)}: the database cannot be used: {reason}. Expected a PostgreSQL that this "
            "machine reaches, with a database in which this user may create tables. The password may come from "
            f"PGPASSWORD, ~/.pgpass, or the whole URL from {VARIABLE}."
        ) from None


def _with_driver(url: str) -> str:
    """The URL with psycopg where it names no driver: SQLAlchemy's default is another one."""
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)


def open_storage(path: Path) -> optuna.storages.RDBStorage:
    """Open or create the SQLite journal ``path``.

    Write-ahead logging keeps readers (dashboards) from blocking the driver; ``synchronous=FULL`` makes every commit
    survive a power cut.

    Raises:
        StorageError: the file cannot be created or is not an SQLite database.
    """
    try:
        # SQLAlchemy escapes what a URL gives a meaning to, such as ? and %, and Optuna's braces.
        url = sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string()
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
        event.listen(storage.engine, "connect", _configure)
        storage.engine.dispose()  # connections made before the listener was registered
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
    if cursor.execute("PRAGMA user_version").fetchone()[0]:  # it was a copy, and no longer is (see `study_backup.py`)
        cursor.execute("PRAGMA user_version=0")
    cursor.close()
