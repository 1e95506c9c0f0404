"""An output layer that the model's folder already holds, fitted to the labels of the data.

Its rows stand in the order of the folder's ``id2label``, ours in the order of the task's labels. Row by position would
give one label the weights of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.errors import ModelError
from finesearch.training.model.model_config import read_config
from finesearch.training.probing.output_layer import find_output_layer, output_parameters

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DEFAULT_NAME = "LABEL_{}"
"""What transformers calls a class that nobody named."""
MOST_NAMED = 10


@dataclass(frozen=True)
class LabelOrder:
    """rows: for each of the task's labels the row of the folder's output layer; None: its labels are others.

    note: what the report says; "" where names and order are the same.
    """

    rows: tuple[int, ...] | None
    note: str = ""


def match_labels(own: Mapping[int, str], labels: Sequence[str]) -> LabelOrder:
    """The task's ``labels`` among a folder's ``own`` ones of the same number: by name, then by name in small letters.

    Names that transformers gives by default tell nothing, except of labels that are the numbers themselves.

    >>> match_labels({0: "positive", 1: "negative"}, ["negative", "positive"]).rows
    (1, 0)
    >>> match_labels({0: "LABEL_0", 1: "LABEL_1"}, ["0", "1"]).rows
    (0, 1)
    >>> match_labels({0: "LABEL_0", 1: "LABEL_1"}, ["negative", "positive"]).rows is None
    True
    """
    names = [str(own.get(row, "")) for row in range(len(own))]
    numbers = {DEFAULT_NAME.format(row): str(row) for row in range(len(own))}
    for known, wanted in (
        (names, list(labels)),
        ([name.strip().casefold() for name in names], [label.strip().casefold() for label in labels]),
        ([numbers.get(name, "") for name in names], list(labels)),
    ):
        if set(known) == set(wanted) and len(set(known)) == len(names) == len(wanted):
            rows = tuple(known.index(label) for label in wanted)
            return LabelOrder(rows, _order_note(names, rows))
    return LabelOrder(
        None,
        f"The output layer in the model's folder is for other labels ({_listed(names)}; the data: {_listed(labels)}), "
        "so it starts at random. Should they be the same classes, write their names as id2label into the model's "
        "config.json.",
    )


def fit_output_layer(
    model: PreTrainedModel, missing: frozenset[str], folder: Path, labels: Sequence[str]
) -> tuple[frozenset[str], str]:
    """Permute the rows of a loaded model's output layer into the order of ``labels``, in place.

    missing: parameters that the folder lacks. Returns them with those of an output layer for other labels, which is to
    be drawn anew, and a note for the report ("": none). Without labels, or without such a layer, nothing is done.
    """
    if not labels:
        return missing, ""
    try:
        names = output_parameters(model, find_output_layer(model))
    except ModelError:
        return missing, ""
    if missing & set(names):
        return missing, ""
    own: Any = read_config(folder).id2label or {}
    order = match_labels(own, labels)
    if order.rows is None:
        return missing | set(names), order.note
    if order.rows != tuple(range(len(labels))):
        for name in names:
            parameter: Any = model.get_parameter(name)
            parameter.data = parameter.detach()[list(order.rows)].clone()
    return missing, order.note


def _order_note(names: Sequence[str], rows: Sequence[int]) -> str:
    if list(rows) == list(range(len(names))):
        return ""
    return (
        f"The output layer in the model's folder has the same labels in another order ({_listed(names)}): its rows "
        "were brought into the order of the data's."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else "")
