"""Entity markers around the head and the tail of a relation, and the window of a long text that contains them.

    [E1] Ada [/E1] was born in [E2] London [/E2] .        [E1:PER] Ada [/E1:PER] was born in …

Markers as in Baldini Soares et al., "Matching the Blanks", 2019; typed markers as in Zhou and Chen, "An Improved
Baseline for Sentence-level Relation Extraction", 2022.
"""

from __future__ import annotations

from collections.abc import Sequence

HEAD, TAIL = "E1", "E2"


def opening_marker(entity: str, kind: str | None = None) -> str:
    """The marker before an entity.

    >>> opening_marker(HEAD), opening_marker(TAIL, "PER")
    ('[E1]', '[E2:PER]')
    """
    return f"[{entity}]" if kind is None else f"[{entity}:{kind}]"


def closing_marker(entity: str, kind: str | None = None) -> str:
    """The marker after an entity."""
    return f"[/{entity}]" if kind is None else f"[/{entity}:{kind}]"


def marker_names(head_types: Sequence[str] | None, tail_types: Sequence[str] | None) -> tuple[str, ...]:
    """All markers for the given entity types; None: entities without types.

    >>> marker_names(None, ["PER"])
    ('[E1]', '[/E1]', '[E2:PER]', '[/E2:PER]')
    """
    return tuple(
        marker(entity, kind)
        for entity, kinds in ((HEAD, head_types), (TAIL, tail_types))
        for kind in (kinds if kinds is not None else (None,))
        for marker in (opening_marker, closing_marker)
    )


def insert_markers(
    text: str, head: tuple[int, int], tail: tuple[int, int], head_type: str | None = None, tail_type: str | None = None
) -> str:
    """The text with markers at [start, end) of head and tail in characters, separated by single spaces.

    >>> insert_markers("Ada's London", head=(6, 12), tail=(0, 3))
    "[E2] Ada [/E2] 's [E1] London [/E1]"
    >>> insert_markers("New York", head=(0, 8), tail=(0, 3))
    '[E1] [E2] New [/E2] York [/E1]'
    """
    # At the same position, closing markers come first; the longer of two entities is outside.
    marks = []
    for entity, (start, end), kind in ((HEAD, head, head_type), (TAIL, tail, tail_type)):
        marks.append((start, 1, start - end, opening_marker(entity, kind)))
        marks.append((end, 0, end - start, closing_marker(entity, kind)))
    parts, done = [], 0
    for place, _, _, mark in sorted(marks):
        parts += [text[done:place].strip(), mark]
        done = place
    return " ".join(part for part in (*parts, text[done:].strip()) if part)


def window_around(first: int, last: int, pieces: int, capacity: int) -> tuple[int, int] | None:
    """[start, end) of ``capacity`` tokens that contain first … last in their middle; None: they do not fit.

    What one side does not need, the other gets.

    >>> window_around(first=8, last=10, pieces=20, capacity=7), window_around(1, 3, 20, 7), window_around(0, 9, 20, 7)
    ((6, 13), (0, 7), None)
    """
    spare = capacity - (last - first + 1)
    if spare < 0:
        return None
    start = max(0, min(first - spare // 2, pieces - capacity))
    return start, min(pieces, start + capacity)
