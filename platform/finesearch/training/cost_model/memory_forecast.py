"""Forecast of a worker's memory: bytes on its device and on its host, by recipe, ZeRO stage and number of workers.

Pure arithmetic on a model's sizes: nothing is loaded, and torch is not needed. What is held is written down for
each moment of a step (end of the forward pass, backward pass, update, evaluation); the largest of them is the peak.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from finesearch.plan import ADAPTATIONS, Recipe
from finesearch.plan.checks.checkpointing_limits import excluding_part
from finesearch.plan.checks.zero_limits import is_enabled
from finesearch.plan.space.frozen_layers import num_frozen_blocks
from finesearch.training.cost_model.activation_sizes import FP32, Pass, Trained, backward_workspace, kept_by_block
from finesearch.training.cost_model.trained_parameters import WHOLE, adapted_layers, trained_parameters
from finesearch.training.model.dimensions import Dimensions

BF16 = 2
FROZEN_BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "nf4": 0.5 + 1 / 64 + 4 / (64 * 256)}
"""Bytes of a frozen number in a block's matrix. nf4 has a scale in 8 bits for each block of 64 numbers, and one in fp32
for 256 of those; int8 has one a row."""
PROCESS_BYTES = 800_000_000
"""Measured: a worker before any model, with torch, transformers, peft and DeepSpeed imported."""
BUCKET = 50_000_000
"""Numbers in a bucket of gradients; see ``LARGEST_BUCKET`` of ``runtime/deepspeed_engine.py``."""
STATE_BYTES = {"adamw": 8.0, "adamw_8bit": 2.0 + 8 / 256, "lion": 4.0, "sgd": 4.0, "adafactor": 0.02}
"""Optimizer state of a trained number; Adafactor keeps rows and columns, 8-bit AdamW a scale a block of 256."""
UPDATE_COPIES = {"adamw": 0, "adamw_8bit": 0, "sgd": 0, "lion": 1, "adafactor": 3}
"""Temporary copies of the largest matrix in an update; AdamW and SGD are fused."""
AUTO_FROM = 1_000_000_000
"""Parameters from which blocks are computed again where the memory of the device is not known."""
STARTS_WHOLE_UNDER_ZERO_3 = True
"""A rank builds the whole model in fp32 before ZeRO 3 divides it."""


@dataclass(frozen=True)
class Model:
    """What a forecast needs of a model. parameters: of backbone and head. num_layers: see ``num_frozen_blocks``."""

    sizes: Dimensions
    parameters: int
    num_layers: int

    @property
    def block_weights(self) -> int:
        return sum(stack.blocks * stack.weights for stack in self.sizes.stacks)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a trial runs, beside its recipe.

    frozen: type of frozen matrices, one of ``FROZEN_BYTES``. evaluated: tokens of an evaluation's pass.
    cache: bytes of cached outputs that a worker holds. accumulates: a step takes several passes.
    """

    run: Pass
    frozen: str = "fp32"
    zero_stage: int = 0
    workers: int = 1
    checkpoints: bool = False
    accumulates: bool = False
    evaluated: int = 1024
    cache: int = 0


@dataclass(frozen=True, kw_only=True)
class MemoryForecast:
    """Bytes of one worker. Kinds on the device are not all there at once: ``device`` is their peak, ``host`` is what
    the process takes of its node besides (on a CPU, all of it, and ``device`` with it)."""

    weights: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0
    activations: float = 0.0
    logits: float = 0.0
    workspace: float = 0.0
    cache: float = 0.0
    device: float = 0.0
    host: float = 0.0

    def kinds(self) -> dict[str, float]:
        """Bytes on the device by kind."""
        return {field.name: getattr(self, field.name) for field in fields(self)[:7]}


def forecast(recipe: Recipe, model: Model, setting: Setting) -> MemoryForecast:
    """Memory of one worker that trains a recipe; of an asking or solving one, the weights and an evaluation's pass."""
    run, sizes = with_virtual_tokens(recipe, setting.run), model.sizes
    trained = trained_parameters(recipe, sizes, model.parameters, model.num_layers)
    share = 1 / setting.workers
    weights, at_start = _weights(model, setting, trained)
    master = FP32 * trained * (share if setting.zero_stage in (1, 2) else 0.0)
    if recipe.ema_decay is not None or recipe.swa_start is not None:
        master += FP32 * trained
    optimizer = _state(recipe) * trained * (share if setting.zero_stage else 1.0) + master
    gradients = FP32 * trained * (share if setting.zero_stage >= 2 else 1.0)
    bucket = FP32 * min(BUCKET, trained) * (2 if run.on_gpu else 1) if setting.zero_stage else 0
    kept, casts, workspace = _activations(recipe, model, setting, run)
    logits = _logits(sizes, run, ADAPTATIONS[recipe.adaptation].trains)
    evaluation = _evaluation(sizes, setting, run)
    if not trained:
        kept = workspace = casts = 0.0
    forward = kept + max(logits, casts + logits / 2 if setting.checkpoints else 0.0)
    forward += gradients if setting.accumulates else 0.0
    backward = max(kept + workspace, gradients + workspace)
    update = gradients + _update(recipe, sizes, trained)
    resident = weights + optimizer + bucket + setting.cache
    device = max(resident + max(forward, backward, update, evaluation), at_start)
    base = model.parameters * _frozen_bytes(model, setting)
    host = PROCESS_BYTES + base + FP32 * trained if run.on_gpu else PROCESS_BYTES + device
    return MemoryForecast(
        weights=weights,
        gradients=gradients + bucket,
        optimizer=optimizer,
        activations=kept,
        logits=max(logits, evaluation),
        workspace=workspace,
        cache=float(setting.cache),
        device=device,
        host=host,
    )


def with_virtual_tokens(recipe: Recipe, run: Pass) -> Pass:
    """The pass with the recipe's virtual tokens and dropout, and twice the rows under R-Drop."""
    more = int(recipe.adaptation_parameters.get("virtual_tokens") or 0)
    dropout = run.dropout if recipe.dropout is None else recipe.dropout > 0
    attention = run.attention_dropout if recipe.attention_dropout is None else recipe.attention_dropout > 0
    rows = run.rows * (2 if is_enabled(recipe.rdrop) else 1)
    return replace(run, rows=rows, tokens=run.tokens + more, dropout=dropout, attention_dropout=attention)


def decide_checkpointing(
    wanted: str, recipe: Recipe, model: Model, setting: Setting, device_bytes: float | None
) -> bool:
    """Whether blocks are computed again: what ``training.activation_checkpointing`` says.

    ``auto`` does so where the device's memory does not hold the trial without it, and, where that memory is not known,
    for models of ``AUTO_FROM`` parameters and more.
    """
    if wanted != "auto" or not can_checkpoint(recipe):
        return wanted == "on" and ADAPTATIONS[recipe.adaptation].trains
    if device_bytes is None:
        return model.parameters >= AUTO_FROM
    without = forecast(recipe, model, replace(setting, checkpoints=False))
    return (without.device if setting.run.on_gpu else without.host) > device_bytes


def can_checkpoint(recipe: Recipe) -> bool:
    """Whether activation checkpointing changes anything for a recipe, and works with it."""
    return ADAPTATIONS[recipe.adaptation].trains and recipe.adaptation != "head_only" and excluding_part(recipe) is None


def _frozen_bytes(model: Model, setting: Setting) -> float:
    """Mean bytes of a number of the base: matrices of blocks alone are quantized."""
    each = FROZEN_BYTES[setting.frozen]
    if setting.frozen not in ("int8", "nf4"):
        return each
    inner = min(model.block_weights, model.parameters)
    return (each * inner + BF16 * (model.parameters - inner)) / max(1, model.parameters)


def _weights(model: Model, setting: Setting, trained: int) -> tuple[float, float]:
    """Bytes of weights while training, and at most while the engine starts.

    On a CPU the base lies beside what trains, which has a copy of its own; on a GPU only what the model uses.
    """
    base, own = model.parameters * _frozen_bytes(model, setting), FP32 * trained
    if setting.zero_stage == 3:
        whole = FP32 * model.parameters
        largest = max((stack.weights for stack in model.sizes.stacks), default=0)
        fetched = FP32 * max(largest, model.sizes.embedding_weights)
        beside = 0.0 if setting.run.on_gpu else base
        steady = beside + whole / setting.workers + own / setting.workers + fetched
        return steady, (beside + whole if STARTS_WHOLE_UNDER_ZERO_3 else steady)
    inside = min(1.0, trained / max(1, model.parameters))
    frozen = base * (1.0 - inside) if setting.run.on_gpu else base
    return frozen + own, frozen + own


def _state(recipe: Recipe) -> float:
    if recipe.optimizer == "sgd" and not recipe.optimizer_parameters["momentum"]:
        return 0.0
    return STATE_BYTES[recipe.optimizer]


def _update(recipe: Recipe, sizes: Dimensions, trained: int) -> float:
    widest = max((each.inputs * each.outputs for stack in sizes.stacks for each in stack.linear), default=0)
    return float(FP32 * UPDATE_COPIES[recipe.optimizer] * min(trained, max(widest, sizes.embedding_weights)))


def _activations(recipe: Recipe, model: Model, setting: Setting, run: Pass) -> tuple[float, float, float]:
    """What is kept for the backward pass, casts of weights that are there in the forward pass alone, and workspace."""
    sizes = model.sizes
    lowest = num_frozen_blocks(recipe.adaptation, recipe.adaptation_parameters, model.num_layers)
    name, matrices = recipe.adaptation, recipe.adaptation in WHOLE
    kept = casts = largest = 0.0
    start = 0
    for stack in sizes.stacks:
        above = max(0, start + stack.blocks - max(start, lowest))
        start += stack.blocks
        if not above:
            continue
        trained = Trained(
            matrices=matrices or name in ("freeze_bottom", "train_top", "freeze_embeddings"),
            vectors=name in ("norms_only", "biases_only"),
            adapted=adapted_layers(recipe, stack, sizes),
            rank=int(recipe.adaptation_parameters.get("rank") or 0),
            adapter_dropout=bool(recipe.adaptation_parameters.get("lora_dropout")),
        )
        block = kept_by_block(stack, sizes, run, trained)
        cast = 0.0
        if run.compute < FP32 and (trained.matrices or setting.frozen == "fp32"):
            cast = float(run.compute * stack.weights)
        working = backward_workspace(stack, sizes, run)
        if setting.checkpoints:
            kept += above * run.all_tokens * sizes.hidden_size * FP32
            casts += above * cast if trained.matrices else 0.0
            largest = max(largest, block + cast + working)
        else:
            kept += above * (block + cast)
            largest = max(largest, working)
    kept += 2 * run.all_tokens * sizes.hidden_size * FP32  # the embeddings, and what the head reads
    return kept, casts, largest


def _logits(sizes: Dimensions, run: Pass, trains: bool) -> float:
    """All logits in fp32, and twice those of labelled tokens: chosen ones and their logarithms."""
    if not trains:
        return 0.0
    return float(sizes.vocabulary * run.all_tokens * (FP32 + 2 * FP32 * run.labelled))


def _evaluation(sizes: Dimensions, setting: Setting, run: Pass) -> float:
    """Logits of an evaluation's pass, first in the type they are computed in, and a block's intermediate results."""
    tokens = max(setting.evaluated, run.tokens)
    cast = run.compute if run.compute < FP32 else 0
    widest = max((max(each.inputs, each.outputs) for s in sizes.stacks for each in s.linear), default=0)
    return float(tokens * max(sizes.vocabulary * (FP32 + cast), 3 * widest * FP32))
