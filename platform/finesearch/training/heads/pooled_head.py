"""The head of a pooled classifier: which pooling, and whether a hidden layer follows it; kept in the model's config."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from finesearch.errors import ModelError
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
    """The head that a config asks for; None where it has the architecture's own.

    Raises:
        ModelError: the config's field is malformed.
    """
    fields = getattr(config, FIELD, None)
    if fields is None:
        return None
    if not isinstance(fields, dict) or fields.keys() - PooledHead.__dataclass_fields__.keys():
        raise _malformed(fields)
    pooling, size = fields.get("pooling"), fields.get("hidden_size")
    if not isinstance(pooling, str) or pooling not in POOLINGS:
        raise _malformed(fields)
    if size is not None and (not isinstance(size, int) or size < 1):
        raise _malformed(fields)
    return PooledHead(**fields)


def _malformed(fields: object) -> ModelError:
    return ModelError(
        f"task.model: config.json says {FIELD} {fields!r}, expected an object with pooling ({', '.join(POOLINGS)}), "
        f"hidden_size and normalizes. Export the model again, or take the field out."
    )
