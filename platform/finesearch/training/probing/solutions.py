"""Solved output layers: found beside their features, or solved by scikit-learn and kept there."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from finesearch.errors import DivergedError
from finesearch.storage.atomic_files import replace_synced, storage_errors
from finesearch.training.probing.feature_store import LayerFeatures, OutputShape
from finesearch.training.probing.linear_solver import SOLVER, ProbeProblem
from finesearch.training.probing.output_layer import LinearHead
from finesearch.training.probing.probe_units import METHODS
from finesearch.training.probing.strength_path import SolvedProbe, solve_at, solve_path

if TYPE_CHECKING:
    from finesearch.tasks import Task, TaskFacts

AUTO = "auto"
FOLDER = "solutions"
ROWS = 8192
"""Feature vectors that are checked at a time."""


def solve(
    task: Task,
    facts: TaskFacts,
    features: LayerFeatures,
    layer: int,
    output: OutputShape,
    *,
    regularization: str | float,
    is_balanced: bool,
) -> SolvedProbe:
    """The output layer for a layer's features; ``regularization``: a strength, or ``auto`` by the loss on validation.

    is_balanced: units of rare classes weigh as much as those of others.

    Raises:
        DivergedError: the features are NaN or infinite. DiskFullError, StorageError: it cannot be kept.
    """
    strength = AUTO if regularization == AUTO else repr(float(regularization))
    names = (f"{layer:03d}", "balanced" if is_balanced else "none", strength, SOLVER, version("scikit-learn"))
    path = features.folder / FOLDER / f"{'-'.join(names)}.npz"
    kept = _read(path)
    if kept is not None:
        return kept
    _check_finite(features, layer)
    units = features.train_units
    problem = ProbeProblem(
        method=METHODS[task.registered_class],
        features=np.asarray(features.train),
        labels=units.labels,
        outputs=output.outputs,
        has_bias=output.has_bias,
        class_weights=_class_weights(task, facts, units.labels) if is_balanced else None,
    )
    validation, labels = features.validation, features.validation_units.labels
    if regularization == AUTO:
        solved = solve_path(problem, validation, labels)
    else:
        solved = solve_at(problem, float(regularization), validation, labels)
    _write(path, solved)
    return solved


def _check_finite(features: LayerFeatures, layer: int) -> None:
    for name, found in (("train", features.train), ("validation", features.validation)):
        if not all(np.isfinite(found[start : start + ROWS]).all() for start in range(0, len(found), ROWS)):
            raise DivergedError(
                f"layer {layer}: what the output layer gets is NaN or infinite on {name}. Use precision fp32, a lower "
                f"layer, or another model."
            )


def _class_weights(task: Task, facts: TaskFacts, labels: np.ndarray) -> Sequence[float] | None:
    return task.class_weights(labels.tolist(), facts)


def _read(path: Path) -> SolvedProbe | None:
    try:
        with np.load(path) as file:
            head = LinearHead(file["weight"], file.get("bias"))
            strength, loss = file["figures"].tolist()
            return SolvedProbe(head, strength, loss, tuple(file["problems"].tolist()))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _write(path: Path, solved: SolvedProbe) -> None:
    arrays = {"weight": solved.head.weight, "figures": np.array([solved.regularization, solved.loss])}
    if solved.head.bias is not None:
        arrays["bias"] = solved.head.bias
    content = io.BytesIO()
    np.savez(content, problems=np.array(solved.problems, dtype=str), **arrays)  # type: ignore[arg-type]
    with storage_errors(path):
        path.parent.mkdir(exist_ok=True)
        replace_synced(path, content.getvalue())
