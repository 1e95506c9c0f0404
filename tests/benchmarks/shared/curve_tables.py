"""Tables of learning curves: our own of fine-tuning, and TaskSet's and LCBench's where a folder has them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from finesearch.plan import Range, Scalar, Space
from finesearch.plan.space.parse_space import parse_space
from finesearch.plan.space.random_sampling import RandomTrial
from finesearch.tuning.samplers.cost_aware import encode

EVALUATIONS = 6
"""Evaluations a trial; longer curves are read at as many even places."""

CHOOSING = frozenset({"126025", "146212", "167152", "167181", "167190", "168329"})
"""Data sets of LCBench that policies may be chosen on; all other tables are for checking."""


@dataclass(frozen=True)
class Curve:
    """Values (n,) of one trial after each evaluation, larger is better, and the seconds (n,) of each.

    n is ``EVALUATIONS``, or less for a trial that is solved or asked and not trained.
    """

    values: tuple[float, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class RecordedTrial:
    """A configuration's active parameters, its curve, and the seed that it was trained with."""

    parameters: Mapping[str, Scalar]
    curve: Curve
    seed: int


class CurveTable(Protocol):
    """What trials of one space would give.

    best: the best known value. median: what the median configuration reaches. mean_seconds: of a whole trial.
    has_seconds: seconds were recorded.
    """

    name: str
    space: Space
    best: float
    median: float
    mean_seconds: float
    has_seconds: bool

    def draw(self, configuration: Mapping[str, Scalar], taken: set[int]) -> Curve:
        """The curve of a configuration; ``taken``: rows that this search has used, which grows."""
        ...


class RecordedTable:
    """Curves of finitely many configurations: a suggestion gets those of the nearest one that was not yet tried.

    Args:
        name: shown in the results.
        space: of the configurations.
        configurations: active parameters of each.
        curves: of each.
        has_seconds: see :class:`CurveTable`.
    """

    def __init__(
        self,
        name: str,
        space: Space,
        configurations: Sequence[Mapping[str, Scalar]],
        curves: Sequence[Curve],
        has_seconds: bool = True,
    ) -> None:
        self.name, self.space, self._curves, self.has_seconds = name, space, curves, has_seconds
        self._places = np.stack([encode(space, each) for each in configurations])
        reached = [max(curve.values) for curve in curves]
        self.best, self.median = max(reached), float(np.median(reached))
        self.mean_seconds = float(np.mean([sum(curve.seconds) for curve in curves]))

    def draw(self, configuration: Mapping[str, Scalar], taken: set[int]) -> Curve:
        distance = np.square(self._places - encode(self.space, configuration)).sum(axis=1)
        if len(taken) < len(distance):
            distance[list(taken)] = np.inf
        row = int(np.argmin(distance))
        taken.add(row)
        return self._curves[row]


SPACE = b"finesearch.space"
COLUMNS = ("seed", "values", "seconds")


def write_recorded(path: Path, space: Space, trials: Sequence[RecordedTrial]) -> None:
    """Write trials of a space as Parquet; parameters are JSON, since one column may hold numbers and words."""
    import pyarrow
    import pyarrow.parquet

    def column(name: str) -> list[str | None]:
        return [json.dumps(trial.parameters[name]) if name in trial.parameters else None for trial in trials]

    columns: dict[str, Any] = {parameter.name: column(parameter.name) for parameter in space.parameters}
    columns |= {
        "seed": [trial.seed for trial in trials],
        "values": [[round(value, 5) for value in trial.curve.values] for trial in trials],
        "seconds": [[round(value, 3) for value in trial.curve.seconds] for trial in trials],
    }
    table = pyarrow.table(columns).replace_schema_metadata({SPACE: json.dumps(space.to_plain())})
    pyarrow.parquet.write_table(table, path, compression="zstd")


def read_recorded(path: Path) -> tuple[Space, list[RecordedTrial]]:
    """What :func:`write_recorded` wrote."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    space = parse_space(json.loads(table.schema.metadata[SPACE]))
    trials = []
    for row in table.to_pylist():
        told = {name: json.loads(value) for name, value in row.items() if name not in COLUMNS and value is not None}
        trials.append(RecordedTrial(told, Curve(tuple(row["values"]), tuple(row["seconds"])), row["seed"]))
    return space, trials


def fine_tuning_table(path: Path) -> RecordedTable:
    """Our own curves; each configuration under its first seed."""
    space, trials = read_recorded(path)
    trials = [trial for trial in trials if trial.seed == 0]
    return RecordedTable(path.stem, space, [trial.parameters for trial in trials], [trial.curve for trial in trials])


def taskset_tables(folder: Path) -> list[RecordedTable]:
    """One table a Parquet file of TaskSet (Metz et al., 2020), as the DPL repository keeps it."""
    return [_taskset_table(path) for path in sorted(folder.glob("*.parquet"))]


def _taskset_table(path: Path) -> RecordedTable:
    import pyarrow.parquet

    columns = pyarrow.parquet.read_table(path).to_pydict()
    losses = np.array([np.array(each, dtype=np.float64) for each in columns.pop("valid_loss")])
    columns.pop("test_loss")
    # Averaging constants are near 1, where what counts is the distance from it.
    names = {name: (f"1-{name}" if name.startswith("beta") else name) for name in columns}
    numbers = {
        names[name]: 1.0 - np.array(values) if name.startswith("beta") else np.array(values)
        for name, values in columns.items()
    }
    space = Space({}, {name: Range(float(each.min()), float(each.max()), log=True) for name, each in numbers.items()})
    configurations = [{name: float(each[row]) for name, each in numbers.items()} for row in range(len(losses))]
    # A diverged loss counts as the worst start: all policies see a number.
    worst = float(np.nanmax(losses[:, 0]))
    values = -np.minimum(np.where(np.isfinite(losses), losses, worst), worst)[:, _places(losses.shape[1])]
    curves = [Curve(tuple(map(float, row)), (1.0,) * EVALUATIONS) for row in values]
    return RecordedTable(path.stem, space, configurations, curves, has_seconds=False)


def _places(length: int) -> list[int]:
    return [math.ceil(length * (place + 1) / EVALUATIONS) - 1 for place in range(EVALUATIONS)]


class LCBenchTable:
    """One data set of LCBench (Zimmer et al., 2021) by the surrogate of YAHPO Gym (Pfisterer et al., 2022)."""

    EPOCHS = 52
    ORDER = ("batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout")
    SPACE = Space(
        {},
        {
            "batch_size": Range(16, 512, log=True, integer=True),
            "learning_rate": Range(1e-4, 1e-1, log=True),
            "momentum": Range(0.1, 0.99),
            "weight_decay": Range(1e-5, 1e-1),
            "num_layers": Range(1, 5, integer=True),
            "max_units": Range(64, 1024, log=True, integer=True),
            "max_dropout": Range(0.0, 1.0),
        },
    )
    SAMPLE = 2000
    has_seconds = True

    def __init__(self, name: str, session: Any, code: int) -> None:
        self.name, self.space, self._session, self._code = name, self.SPACE, session, code
        chance = RandomTrial(0)
        sample = self._curves([self.space.suggest(chance) for _ in range(self.SAMPLE)])
        reached = [max(curve.values) for curve in sample]
        self.best, self.median = max(reached), float(np.median(reached))
        self.mean_seconds = float(np.mean([sum(curve.seconds) for curve in sample]))

    def draw(self, configuration: Mapping[str, Scalar], taken: set[int]) -> Curve:
        del taken
        return self._curves([configuration])[0]

    def _curves(self, configurations: Sequence[Mapping[str, Scalar]]) -> list[Curve]:
        epochs = [place + 1 for place in _places(self.EPOCHS)]
        rows = [[epoch, *(each[name] for name in self.ORDER)] for each in configurations for epoch in epochs]
        inputs = {
            "x_cat": np.full((len(rows), 1), self._code, dtype=np.int32),
            "x_cont": np.array(rows, dtype=np.float32),
        }
        told = self._session.run(None, inputs)[0].reshape(len(configurations), EVALUATIONS, -1)
        # The surrogate's time is not monotonous in epochs; that of the whole trial is divided evenly.
        return [
            Curve(tuple(map(float, one[:, 1])), (max(1.0, float(one[-1, 0])) / EVALUATIONS,) * EVALUATIONS)
            for one in told
        ]


def lcbench_tables(folder: Path) -> list[LCBenchTable]:
    """One table a data set; needs onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
    codes = json.loads((folder / "encoding.json").read_text(encoding="utf-8"))["OpenML_task_id"]
    spec = json.loads((folder / "config_space.json").read_text(encoding="utf-8"))["hyperparameters"]
    names = next(each for each in spec if each["name"] == "OpenML_task_id")["choices"]
    return [LCBenchTable(name, session, codes[name]) for name in names]
