"""Turns of conversations from JSON, in types that Arrow can hold beside each other."""

from __future__ import annotations

import json
from typing import Any


def arrow_turns(turns: Any) -> Any:
    """The same turns, with a ``content`` that is a list and every ``tool_calls`` as JSON.

    Arrow has one type a column: it cannot mix texts with lists, and would give each tool call the arguments of all.

    >>> arrow_turns([{"role": "user", "content": ["a"]}, {"role": "assistant", "content": "b"}])
    [{'role': 'user', 'content_parts': '["a"]'}, {'role': 'assistant', 'content': 'b'}]
    """
    if not isinstance(turns, list):
        return turns
    return [_arrow_turn(turn) if isinstance(turn, dict) else turn for turn in turns]


def _arrow_turn(turn: dict[str, Any]) -> dict[str, Any]:
    changed = dict(turn)
    if isinstance(turn.get("content"), list):
        changed["content_parts"] = json.dumps(changed.pop("content"), ensure_ascii=False)
    if isinstance(turn.get("tool_calls"), list):
        changed["tool_calls"] = json.dumps(turn["tool_calls"], ensure_ascii=False) if turn["tool_calls"] else None
    return changed
