"""Writes what a journal decides to disk, each decision in one transaction.

The rows are those that Optuna would write, so that Optuna and its dashboard read them. Optuna's own calls take a
transaction, and with it a flush of the disk, for each value, and look several rows up before each. The tables are
Optuna's private names: a test holds us to them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, cast

from optuna.distributions import distribution_to_json
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Executable, Table, insert, update
from sqlalchemy.dialects import postgresql, sqlite

TRIALS, PARAMETERS = models.TrialModel.__table__, models.TrialParamModel.__table__
VALUES, STEPS = models.TrialValueModel.__table__, models.TrialIntermediateValueModel.__table__
USER_ATTRS, SYSTEM_ATTRS = models.TrialUserAttributeModel.__table__, models.TrialSystemAttributeModel.__table__
KEYS = {
    STEPS: ("trial_id", "step"),
    VALUES: ("trial_id", "objective"),
    USER_ATTRS: ("trial_id", "key"),
    SYSTEM_ATTRS: ("trial_id", "key"),
}


class StudyWriter(Protocol):
    """Three kinds of decision; when a call returns, its decision is durable, and until then nothing of it is there."""

    def add(self, study_id: int, trial: FrozenTrial) -> int:
        """A trial as it was asked for, running; its id on disk."""
        ...

    def record_evaluation(self, trial_id: int, note: Mapping[str, Any], step: int, value: float | None) -> None:
        """An evaluation: attributes of the trial, and the value that pruners saw, if any."""
        ...

    def end(
        self,
        trial_id: int,
        note: Mapping[str, Any],
        state: TrialState,
        values: Sequence[float] | None,
        intermediate_values: Mapping[int, float],
    ) -> None:
        """A trial's end: attributes, its state and its objectives, and what pruners saw last, by step."""
        ...


def make_study_writer(storage: BaseStorage) -> StudyWriter:
    """Transactions for what has them; for anything else (memory) Optuna's own calls."""
    return SqlStudyWriter(storage) if isinstance(storage, RDBStorage) else OptunaApiStudyWriter(storage)


class SqlStudyWriter:
    """For SQLite and PostgreSQL. Only this driver writes: a trial's number is that which it has in memory."""

    def __init__(self, storage: RDBStorage) -> None:
        self._engine = storage.engine
        to = postgresql.insert if storage.engine.name == "postgresql" else sqlite.insert
        # Made once: SQLAlchemy takes longer to make such a statement than to carry it out.
        self._put_into = {table: _insert_or_replace(to(table), table, key) for table, key in KEYS.items()}

    def add(self, study_id: int, trial: FrozenTrial) -> int:
        began = trial.datetime_start
        row = {
            "number": trial.number,
            "study_id": study_id,
            "state": trial.state,
            "datetime_start": None if began is None else _utc(began),
        }
        with self._engine.begin() as connection:
            key = connection.execute(insert(TRIALS), row).inserted_primary_key
            assert key is not None, "one row was inserted"
            trial_id = int(key[0])
            parameters = [
                {
                    "trial_id": trial_id,
                    "param_name": name,
                    "param_value": trial.distributions[name].to_internal_repr(value),
                    "distribution_json": distribution_to_json(trial.distributions[name]),
                }
                for name, value in trial.params.items()
            ]
            if parameters:
                connection.execute(insert(PARAMETERS), parameters)
            for table, note in ((USER_ATTRS, trial.user_attrs), (SYSTEM_ATTRS, trial.system_attrs)):
                self._note(connection, table, trial_id, note)
        return trial_id

    def record_evaluation(self, trial_id: int, note: Mapping[str, Any], step: int, value: float | None) -> None:
        with self._engine.begin() as connection:
            if value is not None:
                self._put_intermediate_values(connection, trial_id, {step: value})
            self._note(connection, USER_ATTRS, trial_id, note)

    def end(
        self,
        trial_id: int,
        note: Mapping[str, Any],
        state: TrialState,
        values: Sequence[float] | None,
        intermediate_values: Mapping[int, float],
    ) -> None:
        rows = []
        for objective, value in enumerate(values or ()):
            told, kind = models.TrialValueModel.value_to_stored_repr(value)
            rows.append({"trial_id": trial_id, "objective": objective, "value": told, "value_type": kind})
        with self._engine.begin() as connection:
            self._put_intermediate_values(connection, trial_id, intermediate_values)
            self._note(connection, USER_ATTRS, trial_id, note)
            self._put(connection, VALUES, rows)
            ended = {"state": state, "datetime_complete": _utc(datetime.now())}
            connection.execute(update(TRIALS).where(TRIALS.c.trial_id == trial_id).values(ended))

    def _put_intermediate_values(self, connection: Connection, trial_id: int, values: Mapping[int, float]) -> None:
        rows = []
        for step, value in values.items():
            told, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
            rows.append(
                {"trial_id": trial_id, "step": step, "intermediate_value": told, "intermediate_value_type": kind}
            )
        self._put(connection, STEPS, rows)

    def _note(self, connection: Connection, table: Table, trial_id: int, note: Mapping[str, Any]) -> None:
        rows = [{"trial_id": trial_id, "key": key, "value_json": json.dumps(value)} for key, value in note.items()]
        self._put(connection, table, rows)

    def _put(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows, or replace what is there by the same key: a driver before may have died half-way."""
        if rows:
            connection.execute(self._put_into[table], rows)


class OptunaApiStudyWriter:
    """One call of Optuna's after another: for storage that no crash survives anyway."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage

    def add(self, study_id: int, trial: FrozenTrial) -> int:
        return self._storage.create_new_trial(study_id, template_trial=trial)

    def record_evaluation(self, trial_id: int, note: Mapping[str, Any], step: int, value: float | None) -> None:
        if value is not None:
            self._storage.set_trial_intermediate_value(trial_id, step, value)
        self._note(trial_id, note)

    def end(
        self,
        trial_id: int,
        note: Mapping[str, Any],
        state: TrialState,
        values: Sequence[float] | None,
        intermediate_values: Mapping[int, float],
    ) -> None:
        for step, value in intermediate_values.items():
            self._storage.set_trial_intermediate_value(trial_id, step, value)
        self._note(trial_id, note)
        self._storage.set_trial_state_values(trial_id, state, values)

    def _note(self, trial_id: int, note: Mapping[str, Any]) -> None:
        for key, value in note.items():
            self._storage.set_trial_user_attr(trial_id, key, value)


def _insert_or_replace(statement: Any, table: Table, key: Sequence[str]) -> Executable:
    replaced = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if column.name not in key and not column.primary_key
    }
    return cast(Executable, statement.on_conflict_do_update(index_elements=key, set_=replaced))


def _utc(local: datetime) -> datetime:
    """As Optuna stores times: UTC, without saying so."""
    return local.astimezone(UTC).replace(tzinfo=None)
