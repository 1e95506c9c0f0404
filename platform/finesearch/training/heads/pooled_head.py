"""The head of a pooled classifier: which pooling, and whether a hidden layer follows it; kept in the model's config."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from finesearch.plan.space.parameters import POOLINGS

if TYPE_CHECKING:
    from transformers import PretrainedConfig

FIELD = "finesearch_head"
"""The field of a config that names the head; the class of such a config is ours (see ``pooled_classifier``)."""


@dataclass(frozen=True)
class PooledHead:
    """pooling: one of ``POOLINGS``. hidden_size: width of a hidden layer between pooling and output; None: none.
    normalizes: whether the pooled states are divided by their length, as many sentence encoders were trained."""

    pooling: str
    hidden_size: int | None = None
    normalizes: bool = False

    def __post_init__(self) -> None:
        assert self.pooling in POOLINGS, self.pooling

    @property
    def config_fields(self) -> dict[str, Any]:
        """The fields of a config that make its class the pooled classifier with this head."""
        return {FIELD: asdict(self)}


def pooled_head(config: PretrainedConfig) -> PooledHead | None:
    """The head that a config asks for; None where it has the architecture's own."""
    fields = getattr(config, FIELD, None)
    return None if fields is None else PooledHead(**fields)
