"""Adaptations that train some parameters of every layer: norms, biases (BitFit), or those matching a pattern."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import regex

from finesearch.errors import ModelError
from finesearch.training.adaptations.adaptation import Adaptation, AdaptationContext, Parameters, task_head
from finesearch.training.model.module_structure import backbone_prefix

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_S = 1.0
"""For one pattern in one name: some patterns take time that doubles with every letter."""


class NormsOnly(Adaptation):
    """The scales and shifts of all normalisations are trained, and the head."""

    name = "norms_only"

    def check(self, model: PreTrainedModel, parameters: Parameters) -> None:
        if not norm_parameters(model):
            raise ModelError(
                f"adaptation.norms_only: {type(model).__name__} has no normalisation with parameters. "
                f"Use biases_only, or pattern with names of your own."
            )

    def trained(self, model: PreTrainedModel, parameters: Parameters, context: AdaptationContext) -> Iterable[str]:
        return norm_parameters(model) | task_head(model)


class BiasesOnly(Adaptation):
    """All bias terms are trained, those of norms included, and the head of a task.

    BitFit (Ben Zaken, Ravfogel and Goldberg, 2022).
    """

    name = "biases_only"

    def check(self, model: PreTrainedModel, parameters: Parameters) -> None:
        if not bias_parameters(model):
            raise ModelError(
                f"adaptation.biases_only: {type(model).__name__} has no biases. Use norms_only, or pattern with names "
                f"of your own."
            )

    def trained(self, model: PreTrainedModel, parameters: Parameters, context: AdaptationContext) -> Iterable[str]:
        return bias_parameters(model) | task_head(model)


class Pattern(Adaptation):
    """Parameters are trained if one of the regular expressions ``patterns`` matches anywhere in their name."""

    name = "pattern"
    checked = ("patterns",)

    def check(self, model: PreTrainedModel, parameters: Parameters) -> None:
        names = [name for name, _ in model.named_parameters()]
        for pattern in parameters["patterns"].split():
            if not any(_is_found(pattern, name) for name in names):
                raise ModelError(
                    f"adaptation.pattern.patterns: '{pattern}' is found in the name of no parameter of "
                    f"{type(model).__name__}. Near it: {', '.join(near_names(pattern, names))}."
                )

    def trained(self, model: PreTrainedModel, parameters: Parameters, context: AdaptationContext) -> Iterable[str]:
        patterns = parameters["patterns"].split()
        return {name for name, _ in model.named_parameters() if any(_is_found(pattern, name) for pattern in patterns)}


def _is_found(pattern: str, name: str) -> bool:
    """Whether a regular expression matches anywhere in a name.

    Raises:
        ModelError: that takes too long to say.
    """
    try:
        return regex.search(pattern, name, timeout=MOST_S) is not None
    except TimeoutError:
        why = f"takes more than {MOST_S:g} seconds to look for in the name {name}"
    except regex.error as error:
        why = f"is no regular expression: {error}"
    raise ModelError(
        f"adaptation.pattern.patterns: '{pattern}' {why}. Write it without repetitions of repetitions, such as (a+)+."
    )


def norm_parameters(model: PreTrainedModel) -> set[str]:
    """Names of the backbone's parameters owned by a normalisation layer, whatever its class is called."""
    prefix = backbone_prefix(model)
    return {
        f"{name}.{own}"
        for name, module in model.named_modules()
        if name.startswith(prefix) and "norm" in type(module).__name__.lower()
        for own, _ in module.named_parameters(recurse=False)
    }


def bias_parameters(model: PreTrainedModel) -> set[str]:
    """Names of the backbone's biases."""
    prefix = backbone_prefix(model)
    return {name for name, _ in model.named_parameters() if name.startswith(prefix) and name.endswith("bias")}


def near_names(pattern: str, names: list[str]) -> list[str]:
    """Up to three of ``names`` that are most similar to ``pattern``.

    >>> near_names(r"encodr\\.layers\\.1\\.", ["bert.embeddings.weight", "bert.encoder.layer.1.query.weight"])
    ['bert.encoder.layer.1.query.weight', 'bert.embeddings.weight']
    """
    # Escapes such as \\. and \\d say nothing about letters.
    words = re.findall(r"\w+", re.sub(r"\\.", " ", pattern))

    def distance(name: str) -> float:
        parts = name.split(".")
        similarity = sum(max(difflib.SequenceMatcher(None, word, part).ratio() for part in parts) for word in words)
        # Among equally similar names, the shortest.
        return len(parts) / 100 - similarity

    return sorted(names, key=distance)[:3]
