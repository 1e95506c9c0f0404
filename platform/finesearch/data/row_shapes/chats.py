"""Conversations of other tools as ``messages``: lists of turns of ``role`` and ``content``.

ShareGPT        turns of ``from`` and ``value``, said by human and gpt
Alpaca          the columns ``instruction``, ``input`` and ``output``: one exchange a row
content parts   ``content`` as a list of {"type": "text", "text": ...}, joined by line breaks
tool calls      ``tool_calls`` of the assistant and turns of the role ``tool``, kept for the chat template
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from finesearch.data.row_shapes.set_column import set_column
from finesearch.tasks.encoding.list_columns import raise_row_error
from finesearch.tasks.encoding.text_columns import read_texts
from finesearch.tasks.generation.chat_template import ASSISTANT
from finesearch.tasks.generation.dialogue import MESSAGES

if TYPE_CHECKING:
    import pyarrow as pa

    from finesearch.tasks import Origin

SPEAKERS = {
    "human": "user", "user": "user", "gpt": ASSISTANT, "chatgpt": ASSISTANT, "bing": ASSISTANT, "bard": ASSISTANT,
    "model": ASSISTANT, ASSISTANT: ASSISTANT, "system": "system", "tool": "tool", "observation": "tool",
}  # fmt: skip
"""Names in ``from`` -> roles."""
PARTS = "content_parts"
"""Key of a turn whose ``content`` was a list, as JSON: Arrow cannot mix texts and lists in one column."""


def convert_chats(
    tables: Mapping[str, pa.Table], origins: Mapping[str, Origin], columns: Mapping[str, str]
) -> tuple[dict[str, pa.Table], list[str]]:
    """The tables with turns of role and content, and notes on the shapes that they had.

    Raises:
        DataError: an unknown speaker, a part that is no text, an instruction without an output; by file and row.
    """
    if "instruction" in columns:
        made = {split: _from_alpaca(table, columns, origins[split]) for split, table in tables.items()}
        between = f", with {columns['input']!r} below the instruction" if "input" in columns else ""
        return made, [f"Rows are Alpaca's: {columns['instruction']!r} is the user's turn{between}, "
                      f"{columns['output']!r} the assistant's."]  # fmt: skip
    converted, shapes = dict(tables), set()
    for split, table in tables.items():
        keys = _keys_of_turns(table, columns[MESSAGES])
        if keys & {"from", PARTS, "tool_calls"}:
            plain, found = _plain_turns(table, columns[MESSAGES], origins[split])
            if found:
                converted[split] = plain
                shapes |= found
    return converted, [f"The column {columns[MESSAGES]!r} holds {what}." for what in sorted(shapes)]


def _from_alpaca(table: pa.Table, columns: Mapping[str, str], origin: Origin) -> pa.Table:
    texts = {
        role: read_texts(table.column(columns[role]), columns[role], origin).to_pylist()
        for role in ("instruction", "output")
    }
    inputs = table.column(columns["input"]).to_pylist() if "input" in columns else [None] * len(table)
    talks = []
    for asked, given, said in zip(texts["instruction"], inputs, texts["output"], strict=True):
        question = f"{asked}\n\n{given}" if str(given or "").strip() else asked
        talks.append([{"role": "user", "content": question}, {"role": ASSISTANT, "content": said}])
    import pyarrow as pa

    return pa.table({MESSAGES: pa.array(talks)})


def _keys_of_turns(table: pa.Table, column: str) -> set[str]:
    """Keys of the turns; ``PARTS`` too if ``content`` holds lists."""
    import pyarrow as pa

    kind = table.schema.field(column).type
    turn = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
    if turn is None or not pa.types.is_struct(turn):
        return set()
    fields = {field.name: field.type for field in turn}
    content = fields.get("content", pa.string())
    holds_lists = pa.types.is_list(content) or pa.types.is_large_list(content)
    return {*fields, PARTS} if holds_lists else set(fields)


def _plain_turns(table: pa.Table, column: str, origin: Origin) -> tuple[pa.Table, set[str]]:
    import pyarrow as pa

    shapes: set[str] = set()
    talks = []
    for row, turns in enumerate(table.column(column).to_pylist()):
        where = (origin, row, column)
        talks.append(turns and [_plain_turn(turn, number, where, shapes) for number, turn in enumerate(turns, 1)])
    return set_column(table, column, pa.array(talks)), shapes


def _plain_turn(turn: Any, number: int, where: tuple[Origin, int, str], shapes: set[str]) -> Any:
    if not isinstance(turn, dict):
        return turn
    turn = {key: value for key, value in turn.items() if value is not None}
    if "from" in turn and "role" not in turn:
        shapes.add('ShareGPT\'s turns of "from" and "value", read as role and content')
        said_by = turn.pop("from")
        if str(said_by).lower() not in SPEAKERS:
            what = f"holds the speaker {said_by!r} in turn {number}"
            raise_row_error(*where, what, f"Known in ShareGPT's shape: {', '.join(SPEAKERS)}.")
        turn |= {"role": SPEAKERS[str(said_by).lower()], "content": turn.pop("value", None)}
    parts = json.loads(turn.pop(PARTS)) if PARTS in turn else turn.get("content")
    if isinstance(parts, list):
        shapes.add("turns whose content is a list of parts: texts were joined by line breaks")
        turn["content"] = "\n".join(_text(part, number, where) for part in parts)
    if calls := turn.get("tool_calls"):
        shapes.add("tool calls, kept for the chat template")
        turn["tool_calls"] = calls if isinstance(calls, str) else json.dumps(_without_nulls(calls), ensure_ascii=False)
        turn.setdefault("content", "")
    else:
        turn.pop("tool_calls", None)
    return turn


def _text(part: Any, number: int, where: tuple[Origin, int, str]) -> str:
    text = part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None
    kind = part.get("type", "text") if isinstance(part, dict) else "text"
    if kind != "text" or not isinstance(text, str):
        what = f"holds a part of the type {kind!r} in the content of turn {number}"
        raise_row_error(*where, what, 'Expected {"type": "text", "text": ...}: remove other parts, or such rows.')
    return text


def _without_nulls(value: Any) -> Any:
    """A value from Arrow without the keys that only other rows have."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
