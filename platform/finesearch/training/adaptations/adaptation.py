"""The interface of every adaptation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from finesearch.errors import ModelError
from finesearch.training.model.module_structure import ModuleStructure, backbone_prefix, num_blocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finesearch.training.adaptations.unfreezing_schedule import UnfreezingSchedule

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class AdaptationContext:
    """An adaptation's inputs besides the model and its own parameters.

    fresh: names of the parameters that the base model did not have. steps: optimizer steps of the whole trial.
    """

    structure: ModuleStructure
    fresh: Collection[str]
    steps: int


class Adaptation(ABC):
    """One way to adapt a model. Stateless; its parameters come with every call."""

    name: ClassVar[str] = ""
    trains: ClassVar[bool] = True
    """Whether any parameter trains."""
    changes_input: ClassVar[bool] = False
    """Whether frozen layers get a trained input, so that their outputs change as well."""
    checked: ClassVar[tuple[str, ...]] = ()
    """Parameters whose values ``check`` depends on."""

    def check(self, model: PreTrainedModel, parameters: Parameters) -> None:  # noqa: B027 - most models suit
        """Check that the model supports the adaptation; ``model`` may be a skeleton without weights.

        Raises:
            ModelError: the model does not have what the adaptation needs; says what would work.
        """

    def check_positions(  # noqa: B027 - most add no tokens
        self, model: PreTrainedModel, parameters: Parameters, positions: int
    ) -> None:
        """Check that the added tokens leave enough positions for the task, which needs ``positions`` of them.

        Raises:
            ModelError: it does not; says what would fit.
        """

    def attach(  # noqa: B027 - most adaptations add nothing
        self, model: PreTrainedModel, parameters: Parameters, fresh: Collection[str]
    ) -> None:
        """Add the adaptation's parameters in place to a checked model; ``fresh`` as in ``AdaptationContext``."""

    @abstractmethod
    def trained(self, model: PreTrainedModel, parameters: Parameters, context: AdaptationContext) -> Iterable[str]:
        """Names of the trained parameters of a checked model, besides those that the base did not have."""

    def unfreezing(
        self, model: PreTrainedModel, parameters: Parameters, context: AdaptationContext
    ) -> UnfreezingSchedule | None:
        """The schedule of gradual unfreezing; None if everything trains from the start."""
        return None

    def notes(self, model: PreTrainedModel, parameters: Parameters, context: AdaptationContext) -> tuple[str, ...]:
        """Notes for the report about the adapted model."""
        return ()


def check_layers(parameter: str, layers: int, model: PreTrainedModel) -> None:
    """Check that the model has at least ``layers`` separate blocks, as ``parameter`` asks.

    Raises:
        ModelError: the model has fewer, or its layers share one block.
    """
    architecture, available = type(model).__name__, num_blocks(model)
    if layers and not available:
        raise ModelError(
            f"{parameter}: {architecture} shares one block among all of its layers, so that none can be treated "
            f"alone. Use freeze_embeddings or head_only, or leave it out."
        )
    if layers > available:
        raise ModelError(
            f"{parameter}: {architecture} has {available} layers, so expected at most {available}, "
            f"got {layers}. Lower the number, or choose a deeper model."
        )


def head_parameters(model: PreTrainedModel) -> set[str]:
    """Names of the parameters above the backbone; none where the model has no separate head."""
    prefix = backbone_prefix(model)
    return {name for name, _ in model.named_parameters() if prefix and not name.startswith(prefix)}


def task_head(model: PreTrainedModel) -> set[str]:
    """Names of the parameters above the backbone, without the output layer that a language model came with."""
    output = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    own = set() if output is None else {id(parameter) for parameter in output.parameters()}
    return {name for name in head_parameters(model) if id(model.get_parameter(name)) not in own}
