"""What a study's database is told, statement by statement, so that a test can come in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optuna.storages import RDBStorage
from sqlalchemy import event

CHANGES = ("INSERT", "UPDATE", "DELETE")


def before_each_change(storage: RDBStorage, act: Callable[[str], None]) -> None:
    """Have ``act`` called before each statement that changes something, and before each commit; it may raise."""

    def statement(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        if text.startswith(CHANGES):
            act(text)

    event.listen(storage.engine, "before_cursor_execute", statement)
    event.listen(storage.engine, "commit", lambda _connection: act("COMMIT"))
