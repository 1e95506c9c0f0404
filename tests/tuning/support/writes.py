"""What a study's database is told, call by call or statement by statement, so that a test can come in between."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import event

CALLS = (
    "create_new_trial",
    "set_trial_intermediate_value",
    "set_trial_state_values",
    "set_trial_user_attr",
    "set_study_user_attr",
)
CHANGES = ("INSERT", "UPDATE", "DELETE")


def before_each_call(storage: BaseStorage, act: Callable[[str], None]) -> None:
    """Have ``act`` called before each call by which the journal changes something; it may raise."""
    for name in CALLS:
        setattr(storage, name, functools.partial(_call, act, name, getattr(storage, name)))


def _call(act: Callable[[str], None], name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    act(name)
    return call(*args, **kwargs)


def before_each_change(storage: RDBStorage, act: Callable[[str], None]) -> None:
    """Have ``act`` called before each statement that changes something, and before each commit; it may raise."""

    def statement(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        if text.startswith(CHANGES):
            act(text)

    event.listen(storage.engine, "before_cursor_execute", statement)
    event.listen(storage.engine, "commit", lambda _connection: act("COMMIT"))
