"""Features of a frozen model on a node's disk: computed by the first process that needs them, mapped by all.

    <cache>/features/<key>/train-006.npy  validation-006.npy   inputs of the output layer after layer 6: float32 (n, d)
                           rows.npy                            token rows of train that they are of
                           manifest.json                       sizes and checksums
                           solutions/                          see ``solutions.py``
    <cache>/features/<key>.lock                                held by the process that builds (see ``build_once``)

The key says everything that the features depend on, so that a killed or damaged build is built again and no old file is
ever read. Features that depend on a seed serve one attempt (``<key>-trial-7-a1``), and are removed when it has
read them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.data.build_once import build_once
from finesearch.storage import checksummed_dirs
from finesearch.training.adaptations.adapt import ADAPTATIONS, attach
from finesearch.training.model.model_config import build_skeleton
from finesearch.training.probing.feature_pass import CutModel, FeaturePass
from finesearch.training.probing.layer_cut import cut_base, num_layers
from finesearch.training.probing.output_layer import find_output_layer, output_parameters
from finesearch.training.probing.probe_units import ProbeUnits, units_of
from finesearch.training.runtime.precision import compute_in, move

if TYPE_CHECKING:
    from torch import Tensor

    from finesearch.plan import Recipe
    from finesearch.training.model.base_model import PretrainedBase
    from finesearch.training.runtime.distributed import Processes
    from finesearch.training.task_context import TaskContext

LAYOUT = 1
MOST_BYTES = 1 << 29
"""Largest features of train, float32: solving takes about four times as much memory. Beyond it, rows are drawn."""

MOST_NAMED = 4

ROWS = "rows.npy"


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureRequest:
    """Which features are needed: of a recipe's model, at some layers.

    base: with the recipe's head, not cut. layers: computed in one pass. seed: of the parameters that the base lacks.
    owner: trial and attempt that the features are for alone, and that removes them once it has read them; None: they
    are kept, for all trials that ask for the same.
    """

    context: TaskContext
    base: PretrainedBase
    recipe: Recipe
    layers: tuple[int, ...]
    seed: int
    precision: str
    processes: Processes
    beat: Callable[[], None] = field(default=lambda: None)
    owner: tuple[int, int] | None = None

    @cached_property
    def output(self) -> OutputShape:
        """The output layer, from the model without weights."""
        skeleton = build_skeleton(self.base.config, self.base.kind, self.base.folder)
        name = find_output_layer(skeleton)
        layer: Any = skeleton.get_submodule(name)
        return OutputShape(
            name, output_parameters(skeleton, name), layer.in_features, layer.out_features, layer.bias is not None
        )

    @property
    def drawn(self) -> tuple[str, ...]:
        """Parameters under the output layer that the base lacks, so that features depend on the seed."""
        return tuple(sorted(self.base.fresh - set(self.output.parameters)))

    @property
    def drawn_names(self) -> str:
        """``drawn`` as a sentence names them."""
        more = len(self.drawn) - MOST_NAMED
        return ", ".join(self.drawn[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")

    @property
    def _adds_input(self) -> bool:
        return self.recipe.adaptation in ADAPTATIONS and ADAPTATIONS[self.recipe.adaptation].changes_input

    @property
    def depends_on_seed(self) -> bool:
        return bool(self.drawn) or self._adds_input

    @cached_property
    def key(self) -> str:
        """First 32 hex digits of the SHA-256 over all that the features depend on."""
        depends_on: dict[str, Any] = {
            "layout": LAYOUT,
            "weights": self.context.base_reference.sha256,
            "config": self.base.config.to_dict(),
            "kind": self.base.kind,
            "tokens": self.context.tokens.key,
            "layers": self.layers,
            "most": MOST_BYTES,
            "precision": self.precision,
            "device": self.processes.device.type,
            "libraries": [version("torch"), version("transformers")],
        }
        if self.depends_on_seed:
            depends_on |= {"seed": self.seed, "fresh": sorted(self.base.fresh)}
        if self._adds_input:
            depends_on["adaptation"] = [self.recipe.adaptation, self.recipe.adaptation_parameters]
        return hashlib.sha256(json.dumps(depends_on, sort_keys=True, default=str).encode()).hexdigest()[:32]

    @property
    def folder(self) -> Path:
        """Where the features lie on this node."""
        own = "" if self.owner is None else f"-trial-{self.owner[0]}-a{self.owner[1]}"
        return self.context.cache / "features" / f"{self.key}{own}"

    def build_models(self) -> dict[int, CutModel]:
        """The models whose output layers' inputs are the features, by layer; they share the base's weights."""
        models, whole = {}, self.base
        if len(self.layers) > 1:
            # Moved once: each model would have its own copy on a GPU.
            device = self.processes.device
            whole = replace(whole, tensors={name: tensor.to(device) for name, tensor in whole.tensors.items()})
        for layer in self.layers:
            base = cut_base(whole, layer)
            model, _ = base.build(self.recipe, self.seed, shares=True)
            if self._adds_input:
                attach(model, self.recipe.adaptation, self.recipe.adaptation_parameters, base.fresh, self.seed)
            model.requires_grad_(False)
            base.place_weights(model)
            compute_in(model, self.precision, self.processes.device)
            move(model, self.processes.device)
            models[layer] = CutModel(base, model)
        return models


@dataclass(frozen=True)
class OutputShape:
    """A model's output layer: its name and those of its parameters, inputs d, outputs C."""

    name: str
    parameters: tuple[str, ...]
    inputs: int
    outputs: int
    has_bias: bool


@dataclass(frozen=True, eq=False)
class LayerFeatures:
    """Features (n, d) of one layer, mapped from ``folder``, with the units that they are of; num_train_rows: of train,
    all of which are there unless ``is_drawn``.
    """

    folder: Path
    train: np.ndarray
    train_units: ProbeUnits
    validation: np.ndarray
    validation_units: ProbeUnits
    num_train_rows: int

    @property
    def is_drawn(self) -> bool:
        """Whether only a part of train fitted into ``MOST_BYTES``."""
        return len(self.train_units.counts) < self.num_train_rows


def wanted_layers(context: TaskContext, base: PretrainedBase, layer: int) -> tuple[int, ...]:
    """The layers that one pass computes for a trial that needs ``layer``: all that the search space can probe."""
    total = num_layers(base.config)
    wanted = {each or total for each in context.probe_layers}
    return tuple(sorted(wanted)) if layer in wanted else (layer,)


@contextmanager
def open_features(request: FeatureRequest, layer: int) -> Iterator[LayerFeatures]:
    """The features of one of the request's layers, found or computed; on one process.

    Raises:
        ModelError: see ``FeaturePass.run``. DiskFullError, StorageError: the cache cannot be written.
    """
    folder, known = request.folder, request.context.known_features
    _remove_earlier(request)
    build_once(folder, partial(_build, request), lambda path: _is_intact(path, known))
    known.add(folder.name)
    try:
        yield _read(request, folder, layer)
    finally:
        if request.owner is not None:
            known.discard(folder.name)
            checksummed_dirs.remove_folder(folder)


def _remove_earlier(request: FeatureRequest) -> None:
    """Remove what earlier attempts at the same trial have left here: they were killed."""
    if request.owner is None:
        return
    number, attempt = request.owner
    for folder in (request.context.cache / "features").glob(f"{request.key}-trial-{number}-a*"):
        if folder.is_dir() and int(folder.name.partition(".")[0].rpartition("-a")[2]) < attempt:
            checksummed_dirs.remove_folder(folder)


def _is_intact(folder: Path, known: set[str]) -> bool:
    """Whether the folder is complete; its checksums are verified once a process."""
    if folder.name in known:
        return (folder / checksummed_dirs.MANIFEST).is_file()
    return folder.is_dir() and checksummed_dirs.damage(folder) is None


def _read(request: FeatureRequest, folder: Path, layer: int) -> LayerFeatures:
    context = request.context
    task, tokens = context.task, context.tokens
    return LayerFeatures(
        folder=folder,
        train=np.load(folder / file_name("train", layer), mmap_mode="r"),
        train_units=units_of(task, tokens.train).of_rows(np.load(folder / ROWS)),
        validation=np.load(folder / file_name("validation", layer), mmap_mode="r"),
        validation_units=units_of(task, tokens.validation),
        num_train_rows=len(tokens.train),
    )


def file_name(split: str, layer: int) -> str:
    return f"{split}-{layer:03d}.npy"


def _build(request: FeatureRequest, folder: Path) -> None:
    context = request.context
    task, tokens, width = context.task, context.tokens, request.output.inputs
    models = request.build_models()
    forward = FeaturePass(task, models, request.precision, request.processes, request.beat)
    rows = draw_rows(units_of(task, tokens.train).counts, MOST_BYTES // (4 * width))
    np.save(folder / ROWS, rows)
    for split, numbers in (("train", rows), ("validation", np.arange(len(tokens.validation)))):
        units = units_of(task, tokens[split]).of_rows(numbers)
        files = {layer: _new_file(folder / file_name(split, layer), len(units.labels), width) for layer in models}
        forward.run(tokens[split], numbers, partial(_write, files, units.starts))
        for file in files.values():
            file.flush()
    checksummed_dirs.write_manifest(folder)


def _new_file(path: Path, units: int, width: int) -> np.memmap:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(units, width))


def _write(files: Mapping[int, np.ndarray], starts: np.ndarray, layer: int, places: np.ndarray, found: Tensor) -> None:
    units = np.concatenate([np.arange(starts[place], starts[place + 1]) for place in places])
    files[layer][units] = found.float().cpu().numpy()


def draw_rows(counts: np.ndarray, most: int) -> np.ndarray:
    """Numbers of all rows, or of a random part of them with at most ``most`` units, in order.

    >>> draw_rows(np.array([2, 0, 1]), most=3).tolist(), len(draw_rows(np.ones(9, dtype=int), most=4))
    ([0, 1, 2], 4)
    """
    if counts.sum() <= most:
        return np.arange(len(counts))
    order = np.random.default_rng(0).permutation(len(counts))
    return np.sort(order[np.cumsum(counts[order]) <= most])
