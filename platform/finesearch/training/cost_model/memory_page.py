"""Prints docs/memory.md: what models of public shapes take, by the forecast; ``python -m`` this module.

Nothing in it is measured. The shapes are those of public configurations of Llama models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from finesearch.plan import Recipe
from finesearch.training.cost_model.activation_sizes import Pass
from finesearch.training.cost_model.memory_forecast import MemoryForecast, Model, Setting, forecast
from finesearch.training.model.dimensions import Dimensions, LinearShape, StackDimensions

ROWS, TOKENS, RANK = 8, 1024, 16
GPUS = (1, 8, 64)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A Llama: grouped keys and values, a gated inner layer, RMSNorm. ``tied``: the output layer is the embeddings."""

    name: str
    hidden: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    vocabulary: int
    tied: bool = False

    @property
    def model(self) -> Model:
        keys = self.hidden // self.heads * self.key_heads
        attention = (("q", self.hidden, self.hidden), ("k", self.hidden, keys), ("v", self.hidden, keys))
        linear = tuple(LinearShape(name=f"self_attn.{n}_proj", inputs=i, outputs=o) for n, i, o in attention)
        linear += (LinearShape(name="self_attn.o_proj", inputs=self.hidden, outputs=self.hidden),)
        linear += tuple(
            LinearShape(name=f"mlp.{n}_proj", inputs=self.hidden, outputs=self.inner) for n in ("gate", "up")
        )
        linear += (LinearShape(name="mlp.down_proj", inputs=self.inner, outputs=self.hidden),)
        weights = sum(each.inputs * each.outputs for each in linear)
        table = self.vocabulary * self.hidden
        stack = StackDimensions(blocks=self.layers, weights=weights, vectors=2 * self.hidden, linear=linear)
        sizes = Dimensions(
            stacks=(stack,),
            hidden_size=self.hidden,
            embedding_weights=table,
            output_weights=table,
            heads=self.heads,
            vocabulary=self.vocabulary,
            norms_scale_alone=True,
        )
        parameters = self.layers * (weights + 2 * self.hidden) + self.hidden + table * (1 if self.tied else 2)
        return Model(sizes, parameters, self.layers)


SHAPES = (
    Shape(name="1 B", hidden=2048, inner=8192, layers=16, heads=32, key_heads=8, vocabulary=128256, tied=True),
    Shape(name="3 B", hidden=3072, inner=8192, layers=28, heads=24, key_heads=8, vocabulary=128256, tied=True),
    Shape(name="8 B", hidden=4096, inner=14336, layers=32, heads=32, key_heads=8, vocabulary=128256),
    Shape(name="14 B", hidden=5120, inner=17408, layers=40, heads=40, key_heads=8, vocabulary=151936),
    Shape(name="70 B", hidden=8192, inner=28672, layers=80, heads=64, key_heads=8, vocabulary=128256),
)
LORA = Recipe(adaptation="lora", adaptation_parameters={"rank": RANK, "targets": "all_linear", "lora_dropout": 0.0})
WAYS = (("full", Recipe(), "fp32"), ("LoRA", LORA, "bf16"), ("4-bit LoRA", LORA, "nf4"))


def setting(frozen: str, gpus: int, is_full: bool) -> Setting:
    """One worker a GPU, ZeRO 3 where everything trains on several, else each with the whole base."""
    run = Pass(rows=ceil(ROWS / gpus), tokens=TOKENS, compute=2, on_gpu=True)
    stage = 0 if gpus == 1 else 3 if is_full else 2
    return Setting(run=run, frozen=frozen, zero_stage=stage, workers=gpus, checkpoints=True, evaluated=16384)


def rows() -> Iterator[tuple[str, str, int, MemoryForecast]]:
    """Model, way, GPUs and forecast of each row of the table."""
    for shape in SHAPES:
        for way, recipe, frozen in WAYS:
            for gpus in GPUS:
                yield shape.name, way, gpus, forecast(recipe, shape.model, setting(frozen, gpus, way == "full"))


def page() -> str:
    """The whole page."""
    lines = [HEAD.format(rows=ROWS, tokens=TOKENS, rank=RANK)]
    lines += ["| model | hidden | inner | layers | heads | key-value heads | vocabulary | parameters |"]
    lines += ["| --- " * 8 + "|"]
    for each in SHAPES:
        tied = ", tied" if each.tied else ""
        lines.append(
            f"| {each.name} | {each.hidden} | {each.inner} | {each.layers} | {each.heads} | {each.key_heads} | "
            f"{each.vocabulary}{tied} | {each.model.parameters / 1e9:.2f} G |"
        )
    lines += [
        "",
        "## Bytes a GPU",
        "",
        TABLE,
        "| model | recipe | GPUs | weights | gradients | optimizer | activations ",
    ]
    lines[-1] += "| logits | **peak** | host |"
    lines += ["| --- " * 10 + "|"]
    for name, way, gpus, told in rows():
        values = (told.weights, told.gradients, told.optimizer, told.activations, told.logits)
        cells = " | ".join(f"{value / 1e9:.1f}" for value in values)
        lines.append(f"| {name} | {way} | {gpus} | {cells} | **{told.device / 1e9:.1f}** | {told.host / 1e9:.1f} |")
    arithmetic = [f"| {kind} | {text} |" for kind, text in ARITHMETIC.items()]
    return "\n".join([*lines, "", "## Arithmetic", "", "| kind | bytes |", "| --- | --- |", *arithmetic, "", PEAK])


HEAD = """# Memory

What a trial takes is forecast before it runs. `--dry-run` and `finesearch doctor PLAN` show it for each branch of
the space; `finesearch doctor PLAN --devices 8xH100-80GB` answers for hardware that is not here, and names the
smallest change that makes a branch fit. This page is what `training/cost_model/memory_page.py` prints: every figure
is computed, none is measured. [Benchmarks](benchmarks.md#memory-of-models) has forecasts beside measured peaks.

A batch of {rows} rows of {tokens} tokens, divided among the GPUs, at least one row each; bf16, AdamW, activation
checkpointing, an evaluation of 16,384 tokens a pass. LoRA adapts every linear layer with rank {rank}. 4-bit weights
are nf4 with doubly quantized scales, embeddings in bf16.

## Shapes
"""
TABLE = """\
In gigabytes (a billion bytes) of one GPU and of the host, for one worker. `full` on several GPUs is ZeRO 3, LoRA is
ZeRO 2. Kinds are not all there at once, so the peak is less than their sum. Under ZeRO 3 a rank first holds the
whole model in fp32: where that is the largest moment, more GPUs do not lower the peak.
"""
ARITHMETIC = {
    "weights": (
        "frozen: 4 a parameter in fp32, 2 in bf16, 1 in int8, 0.516 in nf4; trained: 4, in a copy of their "
        "own. ZeRO 3: 4 a parameter over the workers, and the largest layer"
    ),
    "gradients": ("4 a trained parameter; ZeRO 2 and 3: over the workers, and a bucket of 50 M numbers (two on a GPU)"),
    "optimizer": (
        "AdamW 8 a trained parameter, Lion and SGD with momentum 4, Adafactor near 0; over the workers from "
        "ZeRO 1 on, where 4 more are the partitions' own weights"
    ),
    "activations": (
        "for each block through which a gradient flows and each token: inputs of norms (4 × hidden, twice), "
        "queries, keys, values and output of attention, inner layer (3 × inner if gated), a copy of the input "
        "of each layer that trains or is adapted; recomputed blocks: 4 × hidden, and one whole block"
    ),
    "logits": ("tokens × vocabulary × 4, and 8 more for each labelled token; in an evaluation 4 + 2 under bf16"),
    "casts": ("2 a number of a block's matrices that are fp32 and computed in bf16"),
    "host": ("the process (0.8 GB, measured), on a GPU the base weights and a copy of what trains"),
}
PEAK = """\
The peak is the largest of: end of the forward pass, backward pass, update, evaluation, each beside weights and
optimizer state.
"""

if __name__ == "__main__":
    print(page(), end="")
