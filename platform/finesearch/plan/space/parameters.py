"""The registry of searchable parameters: the keys of ``space``, their values, and where they have an effect."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

from finesearch.plan.space.list_values import join, list_problem

Scalar = float | int | bool | str | None
Kind = Literal["float", "integer", "boolean", "word", "names", "patterns", "text"]

ENCODER_REGULARIZERS = frozenset({"dropout", "attention_dropout", "l2sp", "mixout", "neftune", "layer_drop"})
"""Parameters that act inside the encoder; frozen layers ignore them, so they need a layer that trains."""

NEED_TRAINED_LAYERS = ENCODER_REGULARIZERS | {"layerwise_decay", "reinit_top_layers"}
"""Parameters without effect where no layer trains."""


Pooling = Literal["auto", "own", "cls", "mean", "max", "last", "attention"]
"""``auto``: as the model's folder asks, else ``own``: the head of the architecture's class in transformers."""

POOLINGS: tuple[str, ...] = get_args(Pooling)[2:]
"""How the states of a text's tokens can become one vector: see ``pooling.py`` in training."""


@dataclass(frozen=True)
class ParameterSpec:
    """A parameter that a plan may fix, choose or draw from a range.

    ``low`` and ``high`` bound its values, inclusive unless ``open_low`` or ``open_high``. A value of the kind ``names``
    or ``patterns`` (regular expressions) is a list, see ``list_values.py``; a single one of ``words`` may replace it.
    """

    name: str
    kind: Kind
    doc: str
    low: float = -math.inf
    high: float = math.inf
    _: KW_ONLY
    open_low: bool = False
    open_high: bool = False
    words: tuple[str, ...] = ()
    nullable: bool = False

    @property
    def is_numeric(self) -> bool:
        return self.kind in ("float", "integer")

    @property
    def is_list(self) -> bool:
        """Whether one value is a list: then a plan's flat list is one value, not a choice among its items."""
        return self.kind in ("names", "patterns")

    @property
    def expected(self) -> str:
        """The values of this parameter in words.

        >>> PARAMETERS["dropout"].expected
        'a number of at least 0 and below 1, or null'
        """
        if self.kind == "word":
            return f"one of {', '.join(self.words)}"
        if self.kind == "boolean":
            return "true or false"
        if self.kind == "text":
            return "a text"
        if self.is_list:
            noun = "regular expressions" if self.kind == "patterns" else "names"
            words = "".join(f"{word}, " for word in self.words)
            return f"{words}{'or ' if words else ''}a list of {noun} without spaces"
        bounds = []
        if math.isfinite(self.low):
            bounds.append(f"{'above' if self.open_low else 'of at least'} {self.low:g}")
        if math.isfinite(self.high):
            bounds.append(f"{'below' if self.open_high else 'of at most'} {self.high:g}")
        noun = "a whole number" if self.kind == "integer" else "a number"
        others = [*self.words, *(["null"] if self.nullable else [])]
        return " ".join([noun, " and ".join(bounds)]).strip() + "".join(f", or {other}" for other in others)

    def problem(self, value: object) -> str:
        """Why a list is not accepted, where ``expected`` is not enough; "" otherwise."""
        is_text = isinstance(value, str | list) and value and self.is_list
        why = list_problem(value, self.words, are_patterns=self.kind == "patterns") if is_text else None
        return f" ({why})" if why else ""

    def accepts(self, value: object) -> bool:
        """Whether ``value`` is one of this parameter's values.

        >>> PARAMETERS["dropout"].accepts(1.0), PARAMETERS["dropout"].accepts(0), PARAMETERS["epochs"].accepts(2.0)
        (False, True, False)
        """
        if value is None:
            return self.nullable
        if self.is_numeric and isinstance(value, str):
            return value in self.words
        if self.kind == "word":
            return isinstance(value, str) and value in self.words
        if self.kind == "text":
            return isinstance(value, str) and value != ""
        if self.is_list:
            return list_problem(value, self.words, are_patterns=self.kind == "patterns") is None
        if isinstance(value, bool) or self.kind == "boolean":
            return isinstance(value, bool) and self.kind == "boolean"
        if isinstance(value, int):
            # The study's database cannot store more than 64 bits.
            if abs(value) >= 2**63:
                return False
        elif self.kind == "integer" or not isinstance(value, float) or not math.isfinite(value):
            return False
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def normalized(self, value: Scalar | list[str]) -> Scalar:
        """An accepted value in canonical form: ``0`` is ``0.0`` for a float parameter, a list is one text."""
        if isinstance(value, list) or (self.is_list and isinstance(value, str)):
            return join(value)
        return float(value) if self.kind == "float" and isinstance(value, int) else value


def _rate(name: str, doc: str) -> ParameterSpec:
    return ParameterSpec(name, "float", doc, low=0.0, high=1.0, open_high=True)


def _dropout(name: str, doc: str) -> ParameterSpec:
    return ParameterSpec(name, "float", doc, low=0.0, high=1.0, open_high=True, nullable=True)


def _between(name: str, doc: str) -> ParameterSpec:
    return ParameterSpec(name, "float", doc, 0.0, 1.0, open_low=True, open_high=True, nullable=True)


PARAMETERS: dict[str, ParameterSpec] = {
    parameter.name: parameter
    for parameter in (
        ParameterSpec("learning_rate", "float", "Peak learning rate; 5e-5 unless given.", low=0.0, open_low=True),
        ParameterSpec(
            "schedule",
            "word",
            "How the learning rate moves after the warm-up: it stays, falls in a line to 0, or in half a cosine to 0.",
            words=("constant", "linear", "cosine"),
        ),
        ParameterSpec(
            "warmup_fraction", "float", "Share of all steps over which the rate rises from 0.", low=0.0, high=1.0
        ),
        ParameterSpec(
            "layerwise_decay",
            "float",
            "What the learning rate is multiplied with from each layer to the one below it; 1 leaves all alike.",
            low=0.0,
            high=1.0,
            open_low=True,
        ),
        ParameterSpec("weight_decay", "float", "Decoupled weight decay; biases and norms are spared.", low=0.0),
        _dropout("dropout", "Dropout of the layers that train; null keeps the model's own."),
        _dropout(
            "attention_dropout", "Dropout of attention weights in the layers that train; null keeps the model's own."
        ),
        _dropout("head_dropout", "Dropout before the output layer; null keeps the model's own."),
        ParameterSpec(
            "head_init",
            "word",
            "What the output layer starts from: random weights, or a solved probe (Kumar et al., 2022).",
            words=("random", "probe"),
        ),
        _rate("label_smoothing", "Share of a label's weight that is spread over all labels."),
        ParameterSpec(
            "class_weights",
            "word",
            "Weight of an example's loss: none counts all alike, balanced makes rare classes count as much as others.",
            words=("none", "balanced"),
        ),
        ParameterSpec("l2sp", "float", "L2-SP: decoupled decay towards the pretrained weights.", low=0.0),
        ParameterSpec("rdrop", "float", "R-Drop: weight of the disagreement of two dropout passes.", low=0.0),
        _rate("mixout", "Mixout: share of weights that a pass takes from the pretrained model."),
        ParameterSpec("neftune", "float", "NEFTune: size of the noise on the embeddings; 5 to 15 is usual.", low=0.0),
        _rate("layer_drop", "Share of the layers that a step leaves out."),
        _between("ema_decay", "Decay of a moving average of the weights, which is scored and kept; null has none."),
        _between("swa_start", "Share of all steps after which weights are averaged (SWA); null averages none."),
        ParameterSpec(
            "gradient_clipping",
            "float",
            "Largest norm of the gradient; null clips nothing.",
            low=0.0,
            open_low=True,
            nullable=True,
        ),
        ParameterSpec(
            "early_stopping_patience",
            "integer",
            "Evaluations without a better metric after which the trial ends; null never ends it.",
            low=1,
            nullable=True,
        ),
        ParameterSpec(
            "pooling",
            "word",
            "How token states become the vector that a text is classified by, instead of task.pooling.",
            words=get_args(Pooling),
        ),
        ParameterSpec(
            "head_hidden_size",
            "integer",
            "Width of a hidden layer between the pooled states and the output layer; null: none.",
            low=1,
            nullable=True,
        ),
        ParameterSpec(
            "head_learning_rate",
            "float",
            "What the learning rate is multiplied with for the output layer and all else that the model did not have.",
            low=0.0,
            open_low=True,
        ),
        ParameterSpec(
            "reinit_top_layers",
            "integer",
            "How many of the top layers start from random weights (Zhang et al., 2021), as far as they train.",
            low=0,
        ),
        ParameterSpec("epochs", "integer", "Passes over the training split, instead of training.epochs.", low=1),
        ParameterSpec(
            "batch_size", "integer", "Examples a step over all workers, instead of training.batch_size.", low=1
        ),
    )
}
"""Parameters of every configuration, in drawing order."""
