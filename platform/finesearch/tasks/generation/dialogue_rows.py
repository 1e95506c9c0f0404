"""Rows of dialogue: validates lists of turns with role and content, and prepares them for training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finesearch.tasks.encoding.list_columns import raise_row_error, require_lists
from finesearch.tasks.generation.chat_template import ASSISTANT, WEIGHT, Turn

if TYPE_CHECKING:
    from finesearch.tasks.raw_splits import Origin, RawSplits

SYSTEM = "system"
TOOL = "tool"
ROLES = (SYSTEM, "user", ASSISTANT, TOOL)


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
    plain = [_plain(turn) for turn in turns]
    while plain and not is_learned(plain[-1]):
        plain.pop()
    if system and plain[0]["role"] != SYSTEM:
        plain.insert(0, {"role": SYSTEM, "content": system})
    return plain


def reply_text(turn: Turn) -> str:
    """What a turn says; its tool calls as JSON if it says nothing else."""
    return str(turn["content"]) or json.dumps(turn["tool_calls"], ensure_ascii=False)


def drop_oldest_exchange(turns: Sequence[Turn]) -> list[Turn] | None:
    """The conversation without its oldest exchange, up to the user's next turn; None if there is no other exchange.

    >>> talk = [{"role": role, "content": content} for role, content in zip(["user", "assistant"] * 2, "abcd")]
    >>> [turn["content"] for turn in drop_oldest_exchange(talk)], drop_oldest_exchange(drop_oldest_exchange(talk))
    (['c', 'd'], None)
    """
    first = int(turns[0]["role"] == SYSTEM)
    later = next((place for place in range(first + 1, len(turns)) if turns[place]["role"] == "user"), None)
    return None if later is None else [*turns[:first], *turns[later:]]


def _plain(turn: Mapping[str, Any]) -> Turn:
    plain: Turn = {"role": str(turn["role"]), "content": str(turn["content"]).strip()}
    if turn["role"] == ASSISTANT and not is_learned(turn):
        plain[WEIGHT] = 0
    plain |= {key: str(turn[key]) for key in ("name", "tool_call_id") if turn["role"] == TOOL and turn.get(key)}
    calls = turn.get("tool_calls")
    if not calls:
        return plain
    made = json.loads(calls) if isinstance(calls, str) else calls
    return {
        **plain,
        "tool_calls": [{"type": "function", **call, "function": _function(call["function"])} for call in made],
    }


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    """Templates write the arguments as JSON themselves, so that they take an object and no text."""
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return dict(function)
    return {**function, "arguments": arguments}


def _tool_calls(turn: Mapping[str, Any], name: str, origin: Origin, row: int, number: int) -> list[Any]:
    calls = turn.get("tool_calls")
    try:
        made = json.loads(calls) if isinstance(calls, str) else calls or []
    except ValueError:
        made = None
    if not isinstance(made, list) or not all(_is_call(call) for call in made):
        what = f"holds {calls!r} as tool calls of turn {number}"
        raise_row_error(origin, row, name, what, 'Expected a list of {"function": {"name": ..., "arguments": ...}}.')
    return made


def _is_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str)


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
        calls = _tool_calls(turn, name, origin, row, number)
        if calls and role != ASSISTANT:
            what = f"holds tool calls of the {role} in turn {number}"
            raise_row_error(origin, row, name, what, "The assistant alone calls tools.")
        if not isinstance(content, str) or not (content.strip() or calls):
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
