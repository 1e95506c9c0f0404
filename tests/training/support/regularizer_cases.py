"""Settings of every regularizer, and what plain PyTorch makes of them."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from finesearch.plan import Recipe
from finesearch.training.loop.trial_runner import TrialRunner
from plain_reference import plain_training

METHODS: dict[str, dict[str, Any]] = {
    "l2sp": {"l2sp": 5.0},
    "rdrop": {"rdrop": 2.0},
    "mixout": {"mixout": 0.4},
    "neftune": {"neftune": 5.0},
    "layer_drop": {"layer_drop": 0.4},
    "ema_decay": {"ema_decay": 0.6},
    "swa_start": {"swa_start": 0.3},
}
ALL = {"l2sp": 0.5, "rdrop": 0.5, "mixout": 0.2, "neftune": 5.0, "layer_drop": 0.3, "ema_decay": 0.6}
# One epoch of eight steps without dropout; the last batch has 3 rows.
PLAIN = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0, "epochs": 1, "batch_size": 7}


def write_skewed(home: Path, folder: Path) -> Path:
    """A copy of the home with a quarter of the bad rows: 26 good ones and 7."""
    shutil.copytree(home, folder, ignore=shutil.ignore_patterns("cache"))
    with (folder / "train.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    bad = [row for row in rows if row[1] == "bad"][::4]
    with (folder / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *(row for row in rows if row[1] == "good" or row in bad)])
    return folder


def plain_l2sp(work: TrialRunner, recipe: Recipe, seed: int) -> tuple[dict[str, torch.Tensor], list[float]]:
    """A loop that takes a gradient step on ``l2sp / 2 · ‖w − w⁰‖²`` before each update."""
    start = work._context.base.tensors

    def pull(model: torch.nn.Module, rate: float) -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in start:
                    parameter -= rate * recipe.l2sp * (parameter - start[name])

    return plain_training(work, recipe, seed, pull=pull)


def plain_average(work: TrialRunner, recipe: Recipe, seed: int) -> dict[str, torch.Tensor]:
    """The average by its definition, from the weights after every step of a plain loop."""
    seen: list[dict[str, torch.Tensor]] = []
    model, _ = work._context.base.build(recipe, seed)

    def look(model: torch.nn.Module) -> None:
        seen.append({name: parameter.detach().clone() for name, parameter in model.named_parameters()})

    plain_training(work, recipe, seed, look=look)
    if recipe.swa_start is not None:
        last = seen[-int(len(seen) * (1 - recipe.swa_start)) :]
        return {name: torch.stack([weights[name] for weights in last]).mean(dim=0) for name in last[0]}
    assert recipe.ema_decay is not None
    average: Mapping[str, torch.Tensor] = dict(model.named_parameters())
    for number, weights in enumerate(seen, start=1):
        decay = min(recipe.ema_decay, (1 + number) / (10 + number))
        average = {name: decay * average[name].detach() + (1 - decay) * weights[name] for name in weights}
    return dict(average)
