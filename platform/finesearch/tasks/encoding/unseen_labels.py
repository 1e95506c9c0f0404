"""Errors for labels in validation or test that do not occur in train."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from finesearch.errors import DataError


def unseen_label(place: str, label: str, known: Sequence[str], found: str, advice: str) -> DataError:
    """The error for a label that does not occur in train.

    place: file and row. known: the labels of train. found: what has the label, in words.
    """
    close = difflib.get_close_matches(label, known, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return DataError(f"{place}: {found}, which no row of train has.\n  {hint}{advice}")


def labels_of_train(known: Sequence[str]) -> str:
    """The labels of train, in words; at most the first twenty."""
    return f"Labels of train: {', '.join(map(repr, known[:20]))}{', ...' if len(known) > 20 else ''}."
