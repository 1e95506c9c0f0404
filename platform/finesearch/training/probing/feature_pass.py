"""One forward pass of a frozen model: the inputs of its output layer, for several layers at once.

The deepest model runs; models that are cut lower go on from what its blocks have put out. Where an architecture cannot
be entered in the middle (see ``block_outputs``), each of them runs on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from finesearch.errors import ModelError
from finesearch.training.batching import inference_batches, model_inputs, to_device
from finesearch.training.prefix_cache.block_outputs import NotCacheable, OutputInjector, capture
from finesearch.training.prefix_cache.self_test import TOLERANCE
from finesearch.training.probing.output_layer import find_output_layer, without_output_layer
from finesearch.training.probing.probe_units import select_units

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from finesearch.data import TokenizedSplit
    from finesearch.tasks import Task
    from finesearch.training.model.base_model import PretrainedBase
    from finesearch.training.runtime.distributed import Processes


@dataclass(frozen=True, eq=False)
class CutModel:
    """A model in eval mode on its device, with the base that it was built from; cut after a number of layers."""

    base: PretrainedBase
    model: PreTrainedModel


@dataclass(eq=False)
class FeaturePass:
    """Computes features of token rows. models: by layer. precision: ``fp32`` or ``bf16``."""

    task: Task
    models: Mapping[int, CutModel]
    precision: str
    processes: Processes
    beat: Callable[[], None]
    _injectors: dict[int, OutputInjector] = field(default_factory=dict, init=False)
    _is_checked: bool = field(default=False, init=False)

    @property
    def _deepest(self) -> CutModel:
        return self.models[max(self.models)]

    def run(self, tokens: TokenizedSplit, rows: np.ndarray, write: Callable[[int, np.ndarray, Tensor], None]) -> None:
        """Compute the features of the rows ``rows`` of a split.

        write: called with a layer, the places of some rows in ``rows``, and the features of their units, (n, d)
        for all of them together.

        Raises:
            ModelError: the model's logits are no linear function of what its output layer gets.
        """
        picked = _Picked(tokens, rows)
        with ExitStack() as stack:
            for cut in self.models.values():
                cut.model.train(False)
            if not self._is_checked:
                self._check(self._inputs(picked.tokens.rows(rows[:2])))
            for cut in self.models.values():
                stack.enter_context(without_output_layer(cut.model, find_output_layer(cut.model)))
            for places in inference_batches(self.task, picked, self.processes):
                batch = self._batch(picked.rows(places))
                inputs = model_inputs(self.task, self._deepest.base, batch)
                for layer, features in self._features(inputs).items():
                    write(layer, places, select_units(features, batch))
                self.beat()

    def _batch(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        tokenizer = self._deepest.base.tokenizer
        return to_device(self.task.collate(rows, tokenizer, self.processes.padding_multiple), self.processes)

    def _inputs(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        return model_inputs(self.task, self._deepest.base, self._batch(rows))

    def _features(self, inputs: dict[str, Tensor]) -> dict[int, Tensor]:
        with torch.no_grad():
            if not self._injectors:
                return {layer: cut.model(**inputs).logits for layer, cut in self.models.items()}
            deepest = self._deepest
            found = capture(deepest.model, deepest.base.structure, inputs, self.models.keys())
            features = {}
            for layer, cut in self.models.items():
                injector = self._injectors[layer]
                injector.inject({layer: found[layer][0]})
                try:
                    features[layer] = cut.model(**inputs).logits
                finally:
                    injector.inject(None)
            return features

    def _check(self, inputs: dict[str, Tensor]) -> None:
        """Check on some rows that the output layer is linear, and whether models can be entered in the middle."""
        self._is_checked = True
        own = {}
        with torch.no_grad():
            for layer, cut in self.models.items():
                name = find_output_layer(cut.model)
                logits, linear = cut.model(**inputs).logits, cut.model.get_submodule(name)
                with without_output_layer(cut.model, name):
                    own[layer] = cut.model(**inputs).logits
                if not self._is_alike(logits, _through(linear, own[layer])):
                    raise ModelError(
                        f"{type(cut.model).__name__}: its logits are no linear function of what {name} gets, so that "
                        f"no probe can be solved. Use head_init: random and no linear_probe."
                    )
            if len(self.models) > 1 and not self._enter(inputs, own):
                self._injectors = {}

    def _enter(self, inputs: dict[str, Tensor], own: Mapping[int, Tensor]) -> bool:
        """Prepare the models to go on from given outputs; False if one then computes something else."""
        deepest = self._deepest
        try:
            found = capture(deepest.model, deepest.base.structure, inputs, self.models.keys())
        except (NotCacheable, IndexError):  # IndexError: layers that share one block
            return False
        if found.keys() != set(self.models):
            return False
        for layer, cut in self.models.items():
            forms = {layer: found[layer][1]}
            self._injectors[layer] = OutputInjector(cut.model, cut.base.structure, [layer], forms)
        with ExitStack() as stack:
            for cut in self.models.values():
                stack.enter_context(without_output_layer(cut.model, find_output_layer(cut.model)))
            features = self._features(inputs)
        return all(self._is_alike(own[layer], features[layer]) for layer in self.models)

    def _is_alike(self, one: Tensor, other: Tensor) -> bool:
        # What is not finite is refused where it is to be solved on: other layers may be finite.
        finite = torch.isfinite(one)
        if one.shape != other.shape or not torch.equal(finite, torch.isfinite(other)):
            return False
        if not finite.any():
            return True
        limit = TOLERANCE[self.precision] * float(one[finite].abs().max())
        return bool((one[finite] - other[finite]).abs().max() <= limit)


def _through(linear: Any, features: Tensor) -> Tensor:
    if features.shape[-1] != linear.in_features:
        return features.new_zeros(0)
    out: Tensor = linear(features)
    return out


class _Picked:
    """Some rows of a split, numbered by their places."""

    def __init__(self, tokens: TokenizedSplit, numbers: np.ndarray) -> None:
        self.tokens, self._numbers = tokens, numbers
        self.lengths = tokens.lengths[numbers]

    def __len__(self) -> int:
        return len(self._numbers)

    def rows(self, indices: Any = None) -> Sequence[dict[str, Any]]:
        return self.tokens.rows(self._numbers if indices is None else self._numbers[indices])
