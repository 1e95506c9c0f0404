"""Rows of dialogue: validates lists of turns with role and content, and prepares them for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finesearch.tasks.encoding.list_columns import raise_row_error, require_lists
from finesearch.tasks.generation.chat_template import ASSISTANT, WEIGHT, Turn

if TYPE_CHECKING:
    from finesearch.tasks.raw_splits import Origin, RawSplits

SYSTEM = "system"
ROLES = (SYSTEM, "user", ASSISTANT)


def check_rows(splits: RawSplits, split: str, column: str) -> tuple[int, int]:
    """How many conversations of a split continue after the assistant's last turn that is learned, and how many of the
    assistant's turns are not learned.

    Raises:
        DataError: a turn without a known role or a text, a system turn that is not the first, a weight that is neither
            0 nor 1, a conversation without any turn of the assistant to learn; by file and row.
    """
    origin = splits.origins[split]
    require_lists(splits.table(split).column(column), column, origin, 'lists of {"role", "content"}')
    rows = splits.plain_rows(split)[column]
    for row, turns in enumerate(rows):
        _check(turns, column, origin, row)
    unlearned = sum(turn["role"] == ASSISTANT and not is_learned(turn) for turns in rows for turn in turns)
    return sum(not is_learned(turns[-1]) for turns in rows), unlearned


def is_learned(turn: Mapping[str, Any]) -> bool:
    """Whether a turn is the assistant's and its weight is not 0.

    >>> [is_learned({"role": "assistant", "weight": weight}) for weight in (None, 1, 0)]
    [True, True, False]
    """
    return turn["role"] == ASSISTANT and turn.get(WEIGHT) != 0


def conversation(turns: Sequence[Mapping[str, Any]], system: str | None) -> list[Turn]:
    """The turns up to the assistant's last one that is learned, with the plan's system prompt if they have none.

    >>> conversation([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}], "Be brief.")[0]
    {'role': 'system', 'content': 'Be brief.'}
    """
    plain: list[Turn] = []
    for turn in turns:
        read_only = {WEIGHT: 0} if turn["role"] == ASSISTANT and not is_learned(turn) else {}
        plain.append({"role": str(turn["role"]), "content": str(turn["content"]).strip(), **read_only})
    while plain and not is_learned(plain[-1]):
        plain.pop()
    if system and plain[0]["role"] != SYSTEM:
        plain.insert(0, {"role": SYSTEM, "content": system})
    return plain


def drop_oldest_exchange(turns: Sequence[Turn]) -> list[Turn] | None:
    """The conversation without its oldest exchange, up to the user's next turn; None if there is no other exchange.

    >>> talk = [{"role": role, "content": content} for role, content in zip(["user", "assistant"] * 2, "abcd")]
    >>> [turn["content"] for turn in drop_oldest_exchange(talk)], drop_oldest_exchange(drop_oldest_exchange(talk))
    (['c', 'd'], None)
    """
    first = int(turns[0]["role"] == SYSTEM)
    later = next((place for place in range(first + 1, len(turns)) if turns[place]["role"] == "user"), None)
    return None if later is None else [*turns[:first], *turns[later:]]


def _check(turns: Any, name: str, origin: Origin, row: int) -> None:
    if not turns:
        raise_row_error(origin, row, name, "holds no turn", "Remove such rows.")
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict) or "role" not in turn or "content" not in turn:
            raise_row_error(
                origin, row, name, f"holds {turn!r} as turn {number}", 'Expected {"role": …, "content": …} each.'
            )
        role, content = turn["role"], turn["content"]
        if role not in ROLES:
            raise_row_error(
                origin, row, name, f"holds the role {role!r} in turn {number}", f"Expected {', '.join(ROLES)}."
            )
        if not isinstance(content, str) or not content.strip():
            what = f"holds an empty turn: number {number}, of the {role}"
            raise_row_error(origin, row, name, what, "Remove the turn, or fill it in.")
        if role == SYSTEM and number > 1:
            raise_row_error(
                origin, row, name, f"holds a system turn as number {number}", "A system prompt stands first."
            )
        weight = turn.get(WEIGHT)
        if weight is not None and weight not in (0, 1):
            what = f"holds the weight {weight!r} in turn {number}, of the {role}"
            raise_row_error(origin, row, name, what, "Expected 1 for a turn that is learned, 0 for one that is not.")
    if not any(is_learned(turn) for turn in turns):
        without = " whose weight is not 0" if any(turn["role"] == ASSISTANT for turn in turns) else ""
        what = f"holds no turn of the assistant{without}"
        raise_row_error(origin, row, name, what, "There is nothing to learn: remove such rows.")
