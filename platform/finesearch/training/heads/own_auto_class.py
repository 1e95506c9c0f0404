"""What builds classes of our own, with the interface of transformers' auto classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class OwnAutoClass:
    """class_of: the class for a config's type; raises ``ValueError`` if there can be none."""

    class_of: Callable[[type], Any]

    def from_config(
        self, config: PretrainedConfig, trust_remote_code: bool = False, **settings: Any
    ) -> PreTrainedModel:
        """A model with random weights.

        Raises:
            ValueError: the head cannot be put on this architecture.
        """
        assert not trust_remote_code
        model: PreTrainedModel = self.class_of(type(config))._from_config(config, **settings)
        return model

    def from_pretrained(
        self, folder: str | Path, config: PretrainedConfig, trust_remote_code: bool = False, **settings: Any
    ) -> Any:
        """A model with the folder's weights; see ``PreTrainedModel.from_pretrained``."""
        assert not trust_remote_code
        return self.class_of(type(config)).from_pretrained(folder, config=config, **settings)
