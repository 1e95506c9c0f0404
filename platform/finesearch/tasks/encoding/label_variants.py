"""Labels that are hardly meant to differ: by white space, case or Unicode form alone."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

MOST_SHOWN = 5


def similar_label_notes(counts: Mapping[str, int], column: str) -> list[str]:
    """A note for each group of labels that are equal but for white space, case and Unicode form; counts: rows of each.

    >>> similar_label_notes({"good": 3, "Good ": 1, "bad": 2}, "label")
    ["Labels in column 'label' differ by white space, case or Unicode form alone: 'Good ' (1), 'good' (3). Each is a \
class of its own."]
    """
    groups: dict[str, list[str]] = {}
    for label in sorted(counts):
        groups.setdefault(_bare(label), []).append(label)
    return [
        f"Labels in column {column!r} differ by white space, case or Unicode form alone: "
        f"{', '.join(f'{ascii_shown(label)} ({counts[label]})' for label in labels[:MOST_SHOWN])}"
        f"{', ...' if len(labels) > MOST_SHOWN else ''}. Each is a class of its own."
        for labels in groups.values()
        if len(labels) > 1
    ]


def ascii_shown(label: str) -> str:
    """The label in quotes, with escapes where its spelling would hide the difference."""
    return repr(label) if unicodedata.is_normalized("NFKC", label) else ascii(label)


def _bare(label: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", label).casefold().split())
