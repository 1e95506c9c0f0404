"""Units of a probe: what has a feature vector and a label, a token row or a word of it, and their predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from finesearch.tasks.classification.multi_label import MultiLabelClassification
from finesearch.tasks.classification.regression import TextRegression
from finesearch.tasks.classification.relation_extraction import RelationExtraction
from finesearch.tasks.classification.text_classification import TextClassification
from finesearch.tasks.extraction.token_classification import TokenClassification

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from finesearch.data import TokenizedSplit
    from finesearch.tasks import Task

Method = Literal["multinomial", "one_vs_rest", "ridge"]

METHODS: dict[type[Task], Method] = {
    TextClassification: "multinomial",
    MultiLabelClassification: "one_vs_rest",
    TextRegression: "ridge",
    RelationExtraction: "multinomial",
    TokenClassification: "multinomial",
}
"""How the probe of a task is solved; the other tasks have none."""

ROWS_A_CHUNK = 1024


def has_probe(task: Task) -> bool:
    """Whether the task's output layer can be solved."""
    return task.registered_class in METHODS


@dataclass(frozen=True, eq=False)
class ProbeUnits:
    """Units of a split in its order: ``counts`` (rows,) per token row, ``labels`` (n,), or (n, C) of several labels."""

    counts: np.ndarray
    labels: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """The first unit of each row, (rows + 1,); the last item is the number of units."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    def of_rows(self, rows: np.ndarray) -> ProbeUnits:
        """The units of some rows alone."""
        starts = self.starts
        numbers = [np.arange(starts[row], starts[row + 1]) for row in rows]
        return ProbeUnits(self.counts[rows], self.labels[np.concatenate(numbers)])


def units_of(task: Task, tokens: TokenizedSplit) -> ProbeUnits:
    """The units of a split: each token row; for named entities, each word that is predicted in its row."""
    if not isinstance(task, TokenClassification):
        return ProbeUnits(np.ones(len(tokens), dtype=np.int64), np.asarray(tokens.column("labels")))
    owned, labels = tokens.list_column("owned"), tokens.list_column("labels")
    assert owned is not None
    assert labels is not None
    everyone = np.arange(len(tokens))
    is_owned, lengths = owned.gather(everyone)
    before = np.concatenate([[0], np.cumsum(is_owned)])
    ends = np.cumsum(lengths)
    return ProbeUnits(before[ends] - before[ends - lengths], labels.gather(everyone)[0][is_owned.astype(bool)])


def select_units(features: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Features of a batch's units in the order of its rows: (n, d) from (B, d), or (B, T, d) where words are units."""
    return features[batch["owned"].bool()] if "owned" in batch else features


def predict_units(
    task: Task, units: ProbeUnits, features: np.ndarray, layer: torch.nn.Linear, precision: str
) -> Iterator[tuple[int, Any]]:
    """Row number and the task's prediction for it, from the units' features (n, d) and the output layer.

    Raises:
        FloatingPointError: an output is not finite.
    """
    import torch

    device, starts = layer.weight.device, units.starts
    for first in range(0, len(units.counts), ROWS_A_CHUNK):
        last = min(first + ROWS_A_CHUNK, len(units.counts))
        hidden = torch.from_numpy(np.array(features[starts[first] : starts[last]])).to(device)
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = layer(hidden)
        logits = logits.float()
        if not bool(torch.isfinite(logits).all()):
            raise FloatingPointError
        batch: dict[str, Tensor] = {}
        if isinstance(task, TokenClassification):
            counts = torch.from_numpy(units.counts[first:last]).to(device)
            batch["owned"] = torch.arange(int(counts.max()), device=device) < counts[:, None]
            placed = logits.new_zeros(*batch["owned"].shape, logits.shape[1])
            placed[batch["owned"]] = logits
            logits = placed
        yield from enumerate(task.predict(SimpleNamespace(logits=logits), batch), start=first)
