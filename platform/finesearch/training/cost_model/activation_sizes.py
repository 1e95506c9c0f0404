"""Bytes that a block keeps for its backward pass, by the shapes of its linear layers; counted as autograd keeps them.

Under bf16 the residual stream stays in fp32, and each linear layer that trains keeps a cast copy of its own input. In
fp32 layers with the same input share it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from finesearch.training.model.dimensions import Dimensions, LinearShape, StackDimensions

FP32 = 4
RESIDUALS_AN_ATTENTION = 1
SCORE_COPIES = 3
"""Matrices of tokens × tokens in fp32 that attention keeps with dropout on a CPU: scores, mask, and their product."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One forward and backward pass of a worker.

    rows, tokens: of the batch that the worker computes at once, and of its longest row. labelled: share of the tokens
    that the loss counts. is_padded: rows differ in length, so that attention gets a mask. compute: bytes of a number
    in the type that matrices are multiplied in. dropout, attention_dropout: whether there is any.
    """

    rows: int
    tokens: int
    labelled: float = 1.0
    is_padded: bool = True
    compute: int = FP32
    on_gpu: bool = False
    dropout: bool = False
    attention_dropout: bool = False

    @property
    def all_tokens(self) -> int:
        return self.rows * self.tokens


@dataclass(frozen=True)
class Trained:
    """What of a block trains: its matrices, its norms, or adapters beside ``adapted`` layers."""

    matrices: bool = False
    vectors: bool = False
    adapted: tuple[LinearShape, ...] = ()
    rank: int = 0
    adapter_dropout: bool = False


def kept_by_block(stack: StackDimensions, sizes: Dimensions, run: Pass, trained: Trained) -> float:
    """Bytes that one block keeps for one pass, its weights not counted."""
    a_token = (
        _stream(stack, sizes, run, trained)
        + _attention(stack, sizes, run)
        + _feed_forward(stack, sizes, run)
        + _inputs(stack, sizes, run, trained)
    )
    return a_token * run.all_tokens


def backward_workspace(stack: StackDimensions, sizes: Dimensions, run: Pass) -> float:
    """Bytes of the gradients that one block's backward pass holds besides what was kept."""
    widest = max((max(each.inputs, each.outputs) for each in stack.linear), default=4 * sizes.hidden_size)
    return float(run.all_tokens * (2 * widest * run.compute + 3 * sizes.hidden_size * FP32))


def num_attentions(stack: StackDimensions) -> int:
    """Attentions in a block: two in the decoder of an encoder-decoder.

    >>> square = [LinearShape(name=f"self_attn.{name}_proj", inputs=8, outputs=8) for name in "qkvo"]
    >>> num_attentions(StackDimensions(blocks=1, weights=256, linear=square))
    1
    """
    layers, _ = _parts(stack)
    fused = any(each.outputs > 2 * each.inputs for each in layers)
    return max(1, round(len(layers) / (2 if fused else 4)))


def _parts(stack: StackDimensions) -> tuple[list[LinearShape], list[LinearShape]]:
    """The linear layers of attention, and the others."""
    attention = [each for each in stack.linear if "att" in each.name.lower()]
    return attention, [each for each in stack.linear if each not in attention]


def _stream(stack: StackDimensions, sizes: Dimensions, run: Pass, trained: Trained) -> float:
    """Inputs of the norms, and masks of the dropout before each sum."""
    sums = num_attentions(stack) + 1
    kept = float(sums * sizes.hidden_size * FP32)
    if sizes.norms_scale_alone and (trained.matrices or trained.vectors):
        kept += sums * sizes.hidden_size * FP32
    if run.dropout:
        kept += sums * sizes.hidden_size * (1 if run.on_gpu else run.compute)
    return kept


def _attention(stack: StackDimensions, sizes: Dimensions, run: Pass) -> float:
    layers, _ = _parts(stack)
    attentions, width = num_attentions(stack), sizes.hidden_size
    made = sum(each.outputs for each in layers) or 4 * width
    queries = max((each.inputs for each in layers if each.outputs == width), default=width)
    kept = made - attentions * width + attentions * queries
    if run.attention_dropout and not run.on_gpu:
        scores = SCORE_COPIES * sizes.heads * run.tokens * FP32
        return float(attentions * (scores + 3 * queries * FP32))
    if run.is_padded:  # keys and values of grouped heads are repeated
        kept = 4 * attentions * queries
    return float(kept * run.compute + attentions * sizes.heads * FP32)


def _feed_forward(stack: StackDimensions, sizes: Dimensions, run: Pass) -> float:
    up = [each.outputs for each in _parts(stack)[1] if each.inputs == sizes.hidden_size]
    kept = sum(up) * (1.5 if len(up) > 1 else sizes.activation_copies)
    return float((kept or 4 * sizes.hidden_size) * run.compute)


def _inputs(stack: StackDimensions, sizes: Dimensions, run: Pass, trained: Trained) -> float:
    """Inputs of linear layers, as far as their weights or adapters train."""
    casts = run.compute < FP32
    if not trained.matrices:
        own = casts or trained.adapter_dropout
        kept = sum(each.inputs for each in trained.adapted) if own else _shared(trained.adapted, sizes)
        masks = sum(each.inputs for each in trained.adapted) if trained.adapter_dropout else 0
        rank = trained.rank * len(trained.adapted)
        return float((kept + rank) * run.compute + masks * (1 if run.on_gpu else FP32))
    attention, others = _parts(stack)
    if not attention:
        return float(6 * sizes.hidden_size * run.compute)
    # The input of attention's output layer is kept by attention itself.
    read = [each for each in attention if not each.name.rpartition(".")[2].startswith(("o", "dense", "c_proj"))]
    counted = [*read, *others]
    return float(run.compute * (sum(each.inputs for each in counted) if casts else _shared(counted, sizes)))


def _shared(layers: Collection[LinearShape], sizes: Dimensions) -> int:
    """Inputs of some layers, where those of attention, and those of one width beside it, read the same."""
    return sum({("att" in each.name.lower(), each.inputs): each.inputs for each in layers}.values())
