"""The active regularizers of one trial, behind one interface for the training loop."""

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

# LayerDrop inspects unmodified blocks, so it comes before the methods that modify their modules.
METHODS: tuple[type[Regularizer], ...] = (LayerDrop, L2SP, Mixout, NEFTune, RDrop, EMA, SWA)


@dataclass(frozen=True, eq=False)
class Regularizers:
    """The active methods, in the order of ``METHODS``. Without any, there is no overhead."""

    methods: tuple[Regularizer, ...]

    @property
    def copies(self) -> int:
        """How many times each row occurs in a forward pass."""
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
        """The total loss and the task's own loss; means over the batch's units, scalars."""
        for method in self.methods:
            if isinstance(method, RDrop) and not method.inactive_reason:
                return method.losses(forward, task, inputs, batch, label_smoothing)
        loss = task.loss(forward(**inputs), batch, label_smoothing)
        return loss, loss

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside the block the model holds averaged weights, if the recipe averages and averaging has started."""
        if self._average is None:
            yield
            return
        with self._average.in_place():
            yield

    @property
    def raw_weights(self) -> Mapping[str, Tensor] | None:
        """The weights that training continues from, while the model holds averaged ones."""
        return self._average.raw if self._average else None

    def resume_from(self, weights: Path) -> None:
        """Restore the average from a checkpoint's weights."""
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
