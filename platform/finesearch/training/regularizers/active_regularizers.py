"""The regularizers of one trial, together: what the training loop calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.plan.checks.zero_limits import is_enabled
from finesearch.training.model.base_model import short_example
from finesearch.training.regularizers.ema import EMA
from finesearch.training.regularizers.l2sp import L2SP
from finesearch.training.regularizers.layer_drop import LayerDrop
from finesearch.training.regularizers.mixout import Mixout
from finesearch.training.regularizers.neftune import NEFTune
from finesearch.training.regularizers.rdrop import RDrop
from finesearch.training.regularizers.regularizer import Regularizer, RegularizerContext
from finesearch.training.regularizers.swa import SWA
from finesearch.training.regularizers.weight_average import WeightAverage

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from finesearch.plan import Recipe
    from finesearch.tasks import Task
    from finesearch.training.model.base_model import PretrainedBase

# LayerDrop looks at blocks as they are, so it comes before what changes what is inside them.
METHODS: tuple[type[Regularizer], ...] = (LayerDrop, L2SP, Mixout, NEFTune, RDrop, EMA, SWA)


@dataclass(frozen=True, eq=False)
class Regularizers:
    """Those that are on, in the order of ``METHODS``. A recipe without any costs nothing."""

    methods: tuple[Regularizer, ...]

    @property
    def copies(self) -> int:
        """How many times a forward pass holds each row."""
        return 2 if any(isinstance(method, RDrop) and not method.inactive_reason for method in self.methods) else 1

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(
            f"{m.name} {m.strength:g} has no effect: {m.inactive_reason}." for m in self.methods if m.inactive_reason
        )

    def before_step(self, step: int, learning_rate: float) -> None:
        for method in self.methods:
            method.before_step(step, learning_rate)

    def before_update(self) -> None:
        for method in self.methods:
            method.before_update()

    def after_step(self, step: int, steps: int) -> None:
        for method in self.methods:
            method.after_step(step, steps)

    def losses(
        self,
        forward: Callable[..., Any],
        task: Task,
        inputs: Mapping[str, Tensor],
        batch: Mapping[str, Tensor],
        label_smoothing: float,
    ) -> tuple[Tensor, Tensor]:
        """The loss to descend, and the task's own part of it; means over the batch's units, scalars."""
        for method in self.methods:
            if isinstance(method, RDrop) and not method.inactive_reason:
                return method.losses(forward, task, inputs, batch, label_smoothing)
        loss = task.loss(forward(**inputs), batch, label_smoothing)
        return loss, loss

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside the block the model holds averaged weights, where the recipe averages and the average has begun."""
        if self._average is None:
            yield
            return
        with self._average.in_place():
            yield

    @property
    def raw_weights(self) -> Mapping[str, Tensor] | None:
        """The weights that training goes on from, while averaged ones stand in the model."""
        return self._average.raw if self._average else None

    def resume_from(self, weights: Path) -> None:
        """Take up the average in a checkpoint's weights."""
        from safetensors.torch import load_file

        assert self._average is not None, "raw weights are written beside averaged ones only"
        self._average.resume_from(load_file(weights))

    @property
    def _average(self) -> WeightAverage | None:
        return next((method for method in self.methods if isinstance(method, WeightAverage)), None)


def attach(model: PreTrainedModel, base: PretrainedBase, recipe: Recipe, seed: int, rank: int) -> Regularizers:
    """Put the recipe's regularizers on an adapted model, which is left in training mode.

    Raises:
        ModelError: the architecture does not allow one of them.
    """
    wanted = [method for method in METHODS if is_enabled(getattr(recipe, method.name))]
    if not wanted:
        return Regularizers(())
    model.train()
    example = short_example(base.tokenizer, base.inputs, base.config.is_encoder_decoder)
    context = RegularizerContext(
        model=model,
        structure=base.structure,
        pretrained=base.tensors,
        example=example,
        recipe=recipe,
        seed=seed,
        rank=rank,
    )
    return Regularizers(tuple(method(getattr(recipe, method.name), context) for method in wanted))
