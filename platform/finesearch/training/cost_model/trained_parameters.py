"""How many parameters a recipe trains, by the model's sizes alone."""

from __future__ import annotations

from collections.abc import Sequence

from finesearch.plan import ADAPTATIONS, Recipe
from finesearch.plan.space.frozen_layers import num_frozen_blocks
from finesearch.training.model.dimensions import Dimensions, LinearShape, StackDimensions
from finesearch.training.model.module_structure import ending_in

WHOLE = frozenset({"full", "pattern", "gradual_unfreezing"})
"""Adaptations that may train everything."""
LSTM_WIDTHS = 48
"""Squared widths in p_tuning's ``lstm``: 46 in two layers and in what stands above, 2 for biases."""


def trained_parameters(recipe: Recipe, sizes: Dimensions, parameters: int, num_layers: int) -> int:
    """The number of parameters that a recipe trains; at most that number, where names of parameters decide.

    parameters: of backbone and head. num_layers: blocks that can be frozen from the bottom.
    """
    name, given = recipe.adaptation, recipe.adaptation_parameters
    if not ADAPTATIONS[name].trains:
        return 0
    if name in WHOLE:
        return parameters
    blocks = [stack.weights + stack.vectors for stack in sizes.stacks for _ in range(stack.blocks)]
    cut = num_frozen_blocks(name, given, num_layers)
    beside = max(0, parameters - sizes.embedding_weights - sum(blocks))
    head, width = max(0, beside - sizes.output_weights), sizes.hidden_size
    match name:
        case "lora":
            return head + sum(stack.blocks * _lora(stack, sizes, recipe) for stack in sizes.stacks)
        case "ia3":
            return head + sum(stack.blocks * _sides(stack.linear) for stack in sizes.stacks)
        case "norms_only" | "biases_only":
            return head + sum(stack.blocks * stack.vectors for stack in sizes.stacks)
        case "prompt_tuning":
            return head + int(given["virtual_tokens"]) * width
        case "p_tuning":
            inner = int(given["hidden_size"] or width)
            network = inner * (2 * width + inner)
            if given["encoder"] == "lstm":
                network = LSTM_WIDTHS * max(inner, width) ** 2
            return head + int(given["virtual_tokens"]) * width + network
        case "prefix_tuning":
            keys = 2 * sizes.stacks[-1].blocks * width
            inner = int(given["hidden_size"] or width)
            network = inner * (width + keys) if given["projection"] else 0
            return head + int(given["virtual_tokens"]) * (width if given["projection"] else keys) + network
        case _:
            return max(0, parameters - sizes.embedding_weights - sum(blocks[:cut]))


def _lora(stack: StackDimensions, sizes: Dimensions, recipe: Recipe) -> int:
    given, targets = recipe.adaptation_parameters, adapted_layers(recipe, stack, sizes)
    lengths = sum(each.outputs for each in targets) if given["dora"] else 0
    return int(given["rank"]) * _sides(targets) + lengths


def adapted_layers(recipe: Recipe, stack: StackDimensions, sizes: Dimensions) -> tuple[LinearShape, ...]:
    """The linear layers of a block that LoRA adapts; none under other adaptations."""
    if recipe.adaptation != "lora":
        return ()
    wanted = str(recipe.adaptation_parameters["targets"]).split()
    named = ending_in(sizes.usual_targets if wanted == ["auto"] else wanted, [each.name for each in stack.linear])
    # all_linear names none; where no usual one is found, all are adapted.
    return tuple(each for each in stack.linear if not named or each.name in named)


def _sides(layers: Sequence[LinearShape]) -> int:
    return sum(each.inputs + each.outputs for each in layers)
