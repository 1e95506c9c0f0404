"""Benchmark of fp32 against bf16 on this machine: which one trains the model's layers faster.

Processor flags do not say it: a Xeon with AVX512-BF16 and no AMX multiplies about twice as fast in fp32.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from finesearch.training.runtime.torch_threads import torch_threads

MEASURED_S = 0.12
MIN_ROUNDS, MAX_ROUNDS = 3, 40
OPERATIONS_A_PASS = 1e9
"""Of a pass on a CPU, about 10 ms: short enough that some pass is not disturbed by another process."""
MIN_TOKENS, MAX_TOKENS = 32, 16384
MAX_WIDTH = 1024
"""Wider layers are measured at this width, where the rate hardly grows any more."""
HOPELESS = 3.0
"""bf16 that takes this many times as long in its first round is emulated, and is not measured any longer."""
GAIN = 1.05
"""bf16 is chosen from this gain on; below, the exact fp32 costs nothing."""


@dataclass(frozen=True)
class LayerShape:
    """Sizes of a feed-forward layer: hidden and intermediate units, and the tokens of a batch."""

    hidden_size: int = 384
    intermediate_size: int = 1536
    tokens: int = 1024

    @classmethod
    def of_model(cls, hidden_size: int, batch_size: int, tokens_per_row: int = 32) -> LayerShape:
        """The shape for a model, whose intermediate size is taken for the usual four hidden sizes."""
        return cls(hidden_size, 4 * hidden_size, batch_size * tokens_per_row)

    def bounded(self, on_cpu: bool) -> LayerShape:
        """These sizes, reduced so that a pass takes milliseconds.

        >>> LayerShape(hidden_size=4096, intermediate_size=11008, tokens=4096).bounded(on_cpu=True)
        LayerShape(hidden_size=1024, intermediate_size=2752, tokens=32)
        """
        hidden = min(self.hidden_size, MAX_WIDTH)
        intermediate = max(1, self.intermediate_size * hidden // self.hidden_size)
        most = int(OPERATIONS_A_PASS / (12 * hidden * intermediate)) if on_cpu else MAX_TOKENS
        return LayerShape(hidden, intermediate, max(MIN_TOKENS, min(self.tokens, most)))


@dataclass(frozen=True)
class PrecisionRates:
    """Operations a second of training one feed-forward layer, by precision; of the linear layers' products alone."""

    fp32: float
    bf16: float
    device: str = "cpu"

    @property
    def faster(self) -> Literal["fp32", "bf16"]:
        """The precision to train in: bf16 from a gain of :data:`GAIN` on.

        >>> PrecisionRates(fp32=160e9, bf16=85e9).faster, PrecisionRates(fp32=50e12, bf16=400e12).faster
        ('fp32', 'bf16')
        """
        return "bf16" if self.bf16 >= GAIN * self.fp32 else "fp32"

    @property
    def text(self) -> str:
        """Both rates in words.

        >>> PrecisionRates(fp32=160e9, bf16=85e9).text
        '160 billion operations a second in fp32 and 85 in bf16'
        """
        return f"{self.fp32 / 1e9:,.0f} billion operations a second in fp32 and {self.bf16 / 1e9:,.0f} in bf16"


class _FeedForward(nn.Module):
    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.hidden_size)
        self.up = nn.Linear(shape.hidden_size, shape.intermediate_size)
        self.down = nn.Linear(shape.intermediate_size, shape.hidden_size)

    def forward(self, states: Tensor) -> Tensor:
        """states, result: (tokens, hidden_size)."""
        hidden: Tensor = self.down(nn.functional.gelu(self.up(self.norm(states))))
        return states + hidden


def measure_precisions(shape: LayerShape, cpus: float = 1.0, gpus: float = 0.0) -> PrecisionRates:
    """Rates of this machine for a worker with so many CPUs and GPUs; takes about 0.2 s, on a GPU after its start.

    Forward and backward under autocast over fp32 weights, as trials train. The precisions take turns, and the shortest
    pass of each counts, so that another busy process delays both or none.
    """
    device = torch.device("cuda" if gpus > 0 and torch.cuda.is_available() else "cpu")
    shape = shape.bounded(on_cpu=device.type == "cpu")
    with torch_threads(cpus), torch.random.fork_rng(devices=[]):
        layer = _FeedForward(shape).to(device)
        states = torch.randn(shape.tokens, shape.hidden_size, device=device, requires_grad=True)
        seconds = _shortest_passes(layer, states)
    operations = 12.0 * shape.tokens * shape.hidden_size * shape.intermediate_size
    return PrecisionRates(operations / seconds["fp32"], operations / seconds["bf16"], device.type)


def _shortest_passes(layer: nn.Module, states: Tensor) -> Mapping[str, float]:
    _pass(layer, states, "fp32")
    _pass(layer, states, "bf16")
    shortest = {name: _pass(layer, states, name) for name in ("fp32", "bf16")}
    if shortest["bf16"] > HOPELESS * shortest["fp32"]:
        return shortest
    deadline = time.perf_counter() + MEASURED_S
    for done in range(1, MAX_ROUNDS):
        if done >= MIN_ROUNDS and time.perf_counter() > deadline:
            break
        for name in shortest:
            shortest[name] = min(shortest[name], _pass(layer, states, name))
    return shortest


def _pass(layer: nn.Module, states: Tensor, precision: str) -> float:
    """Seconds of one forward and backward pass."""
    _finish(states.device)
    began = time.perf_counter()
    with torch.autocast(states.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        loss = layer(states).float().sum()
    torch.autograd.grad(loss, [states, *layer.parameters()])
    _finish(states.device)
    return time.perf_counter() - began


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
