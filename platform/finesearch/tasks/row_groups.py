"""Groups of rows by which reports show scores: lengths by quartile, and the most frequent of many values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import quantiles
from typing import Any

MOST_GROUPS = 8
"""Groups of one property; rarer ones are shown together."""
OTHERS = "others"


def lengths(columns: Sequence[Sequence[Any]]) -> list[int]:
    """Characters of a row's texts, or entries of its lists, over the columns.

    >>> lengths([["abc", "d"], ["", "ef"]]), lengths([[["a", "b"], []]])
    ([3, 3], [2, 0])
    """
    return [sum(len(value) for value in row if value is not None) for row in zip(*columns, strict=True)]


def by_quartile(values: Sequence[int]) -> list[str]:
    """The quarter of each value, named by its limits; fewer groups where many values are equal.

    >>> by_quartile([1, 2, 3, 4, 50, 60, 70, 80])
    ['1 to 2', '1 to 2', '3 to 4', '3 to 4', '50 to 60', '50 to 60', '70 to 80', '70 to 80']
    >>> by_quartile([7, 7])
    ['7', '7']
    """
    if len(values) < 2:
        return [str(value) for value in values]
    cuts = quantiles(values, n=4, method="inclusive")
    places = [sum(value > cut for cut in cuts) for value in values]
    names = {}
    for place in set(places):
        inside = [value for value, at in zip(values, places, strict=True) if at == place]
        low, high = min(inside), max(inside)
        names[place] = str(low) if low == high else f"{low} to {high}"
    return [names[place] for place in places]


def most_frequent_groups(values: Sequence[str]) -> list[str]:
    """The values, with ``others`` in place of all but the most frequent.

    >>> most_frequent_groups(["who", "who", *"abcdefgh"])[:3]
    ['who', 'who', 'a']
    >>> most_frequent_groups(["who", "who", *"abcdefgh"])[-2:]
    ['others', 'others']
    """
    kept = {
        value for value, _ in Counter(values).most_common(MOST_GROUPS - 1 if len(set(values)) > MOST_GROUPS else None)
    }
    return [value if value in kept else OTHERS for value in values]
