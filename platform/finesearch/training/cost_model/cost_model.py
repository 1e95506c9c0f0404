"""Cost model: estimates a recipe's run time from operations, weight updates and calls, before it runs.

A block costs 1 forward. Its backward costs 2 if its matrices train, 1 if only a gradient flows through it (LoRA, norms,
biases, prompts), and nothing below the lowest trained layer. Cached outputs of frozen bottom layers (``cached``) cost
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from finesearch.plan import ADAPTATIONS, Recipe, TrainingPlan
from finesearch.plan.space.frozen_layers import num_frozen_blocks
from finesearch.training.cost_model.trained_parameters import trained_parameters
from finesearch.training.cost_model.workload import TokenCounts, Workload
from finesearch.training.steps.lr_schedule import evaluation_steps

THROUGH_ONLY = frozenset({"lora", "ia3", "norms_only", "biases_only", "prompt_tuning", "p_tuning", "prefix_tuning"})
"""Adaptations under which a gradient flows through every block, but no block's matrices train."""
PROMPT_TOKENS = 12  # in a template's own words
ANSWER_TOKENS = 2  # in a candidate that a prompted model scores
SOLVER_PASSES = 400  # over the features of train, on a path of some 200 iterations


@dataclass(frozen=True)
class MachineSpeed:
    """Speed of one worker.

    ``operations_per_s``: additions and multiplications of a transformer's blocks. ``updates_per_s``: weights updated by
    an optimizer. ``call_s``: a block's overhead besides its operations. ``step_s``: an optimizer step's overhead.
    """

    operations_per_s: float = 1e11
    updates_per_s: float = 4e8
    call_s: float = 2e-4
    step_s: float = 2e-3


NOMINAL = MachineSpeed()
"""Speed of no particular machine, for uses where only relative cost matters."""


@dataclass(frozen=True)
class Cost:
    """Amount of work: ``calls`` counts runs of a block over a batch, ``updates`` weights times steps."""

    operations: float = 0.0
    updates: float = 0.0
    calls: float = 0.0
    steps: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.operations + other.operations,
            self.updates + other.updates,
            self.calls + other.calls,
            self.steps + other.steps,
        )

    def __mul__(self, times: float) -> Cost:
        return Cost(self.operations * times, self.updates * times, self.calls * times, self.steps * times)

    def seconds(self, machine: MachineSpeed) -> float:
        return (
            self.operations / machine.operations_per_s
            + self.updates / machine.updates_per_s
            + self.calls * machine.call_s
            + self.steps * machine.step_s
        )


def uses_prefix_cache(training: TrainingPlan) -> bool:
    """Whether outputs of frozen bottom layers are cached."""
    return training.prefix_cache != "off"


@dataclass(frozen=True)
class CostModel:
    """Costs of the recipes of one plan."""

    workload: Workload
    training: TrainingPlan
    machine: MachineSpeed = NOMINAL

    def seconds(self, recipe: Recipe, cached: bool = False) -> float:
        """Seconds of a whole trial with all its evaluations, without early stopping.

        cached: the outputs of the frozen bottom layers are cached already.
        """
        return self.cost(recipe, cached).seconds(self.machine) / self.training.workers_per_trial

    def prefix_build_seconds(self, cut: int) -> float:
        """Seconds to compute the lowest ``cut`` blocks once for train and validation."""
        load, batch = self.workload, self.workload.evaluation_batch_size
        passes = self._passes(load.train, 0, cut, 1.0) + self._passes(load.validation, 0, cut, 1.0)
        return replace(passes, calls=cut * ceil(load.rows / batch)).seconds(self.machine)

    def cut(self, recipe: Recipe) -> int:
        """How many bottom blocks the recipe leaves frozen; see :func:`num_frozen_blocks`."""
        blocks = self.workload.num_layers
        return num_frozen_blocks(recipe.adaptation, recipe.adaptation_parameters, blocks)

    def cost(self, recipe: Recipe, cached: bool = False) -> Cost:
        """Work of a whole trial, over all its workers."""
        branch = ADAPTATIONS[recipe.adaptation]
        if branch.is_prompted:
            return self._asking(recipe)
        if not branch.trains:
            return self._solving(recipe, cached)
        steps_per_epoch = ceil(self.workload.train_rows / recipe.batch_size)
        steps = steps_per_epoch * recipe.epochs
        evaluations = len(evaluation_steps(steps_per_epoch, recipe.epochs, self.training.evaluations_per_epoch))
        kept = self.cut(recipe) if cached else 0
        return (
            self._training_epoch(recipe, kept) * recipe.epochs
            + self._evaluation(recipe, kept) * evaluations
            + Cost(updates=self.trained_parameters(recipe) * _updates_a_step(recipe) * steps, steps=steps)
        )

    def trained_parameters(self, recipe: Recipe) -> int:
        """See :func:`~finesearch.training.cost_model.trained_parameters.trained_parameters`."""
        load = self.workload
        return trained_parameters(recipe, load.dimensions, load.parameters, load.num_layers)

    def _training_epoch(self, recipe: Recipe, kept: int) -> Cost:
        cut, blocks = self.cut(recipe), self.workload.dimensions.blocks
        backward = 1.0 if recipe.adaptation in THROUGH_ONLY else 2.0
        token_counts = _with_prompt(self.workload.train, self.workload.train_rows, recipe)
        ran = (1.0 - recipe.layer_drop) * (2.0 if recipe.rdrop else 1.0)
        work = self._passes(token_counts, kept, cut, ran) + self._passes(
            token_counts, cut, blocks, ran * (1.0 + backward)
        )
        batches = ceil(self.workload.train_rows / recipe.batch_size) * self.training.gradient_accumulation_steps
        calls = (max(0, cut - kept) + (1.0 + backward) * (blocks - cut)) * ran
        head = 2.0 * self.workload.dimensions.output_weights * token_counts[-1].tokens * (1.0 + backward)
        return replace(work, operations=work.operations + head, calls=calls * batches)

    def _evaluation(self, recipe: Recipe, kept: int) -> Cost:
        load, blocks = self.workload, self.workload.dimensions.blocks
        token_counts = _with_prompt(load.validation, load.validation_rows, recipe)
        work = self._passes(token_counts, kept, blocks, 1.0)
        batches = ceil(load.validation_rows / load.evaluation_batch_size)
        head = 2.0 * load.dimensions.output_weights * token_counts[-1].tokens
        work = replace(work, operations=work.operations + head, calls=float((blocks - kept) * batches))
        return work + self._generation(token_counts, batches)

    def _generation(self, token_counts: tuple[TokenCounts, ...], batches: int) -> Cost:
        """Prefill of the prompts, then decoding token by token in the last stack."""
        load = self.workload
        if not load.new_tokens:
            return Cost()
        last = load.dimensions.stacks[-1]
        written = load.validation_rows * load.new_tokens * load.beams
        weights = last.weights * last.blocks + load.dimensions.output_weights
        first = self._passes(token_counts, 0, load.dimensions.blocks, 1.0)
        return first + Cost(operations=2.0 * weights * written, calls=batches * load.new_tokens * last.blocks)

    def _asking(self, recipe: Recipe) -> Cost:
        """One evaluation of a prompted model; each shown example is about as long as a row."""
        load = self.workload
        shown = int(recipe.adaptation_parameters.get("examples") or 0)
        blocks, rows = load.dimensions.blocks, load.validation_rows
        prompted = tuple(reading.lengthened(PROMPT_TOKENS, rows) for reading in load.validation)
        token_counts = tuple(reading.repeated(1 + shown, load.positions) for reading in prompted)
        work = self._passes(token_counts, 0, blocks, 1.0)
        if recipe.adaptation_parameters.get("selection") == "similar":
            work += self._passes(load.train, 0, blocks, 1.0)
        if recipe.adaptation_parameters.get("method") == "likelihood":
            stack = load.dimensions.stacks[-1]
            answers = 2.0 * (stack.weights * stack.blocks + load.dimensions.output_weights)
            work += Cost(operations=answers * rows * load.candidates * ANSWER_TOKENS)
        batches = ceil(rows / load.evaluation_batch_size)
        return replace(work, calls=float(blocks * batches)) + self._generation(token_counts, batches)

    def _solving(self, recipe: Recipe, cached: bool) -> Cost:
        """A solved output layer: one pass over both splits, unless it is cached, and the solver's iterations."""
        load = self.workload
        layers = int(recipe.adaptation_parameters.get("layer") or load.dimensions.blocks)
        found = 2.0 * load.train_rows * load.dimensions.hidden_size * load.candidates * SOLVER_PASSES
        work = Cost(operations=found)
        if not cached:
            calls = layers * ceil(load.rows / load.evaluation_batch_size)
            work += self._passes(load.train, 0, layers, 1.0) + self._passes(load.validation, 0, layers, 1.0)
            work += Cost(calls=float(calls))
        return work

    def _passes(self, token_counts: tuple[TokenCounts, ...], low: int, high: int, times: float) -> Cost:
        """``times`` the forward operations of blocks ``low`` to ``high`` (not included), counted over all stacks."""
        total, start = 0.0, 0
        for stack, reading in zip(self.workload.dimensions.stacks, token_counts, strict=True):
            blocks = max(0, min(high, start + stack.blocks) - max(low, start))
            start += stack.blocks
            attention = 4.0 * self.workload.dimensions.hidden_size * reading.squares
            total += blocks * (2.0 * stack.weights * reading.tokens + attention)
        return Cost(operations=total * times)


def _with_prompt(token_counts: tuple[TokenCounts, ...], rows: int, recipe: Recipe) -> tuple[TokenCounts, ...]:
    virtual = recipe.adaptation_parameters.get("virtual_tokens")
    return (
        token_counts if virtual is None else tuple(reading.lengthened(int(virtual), rows) for reading in token_counts)
    )


def _updates_a_step(recipe: Recipe) -> float:
    """Passes over the trained weights in one step, relative to AdamW's."""
    beside = (recipe.l2sp, recipe.mixout, recipe.ema_decay, recipe.swa_start)
    return 1.0 + 0.5 * sum(bool(value) for value in beside)
