"""Benchmark of this machine's matrix multiplication, the basis of cost estimates before any trial has run."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from finesearch.training.cost_model.cost_model import NOMINAL, MachineSpeed
from finesearch.training.runtime.torch_threads import torch_threads

if TYPE_CHECKING:
    from finesearch.plan import TrainingPlan

TOKENS = 512  # rows of the matrix that stands for a batch
MEASURED_S = 0.25
EFFICIENCY = {"bf16": 0.5, "fp32": 0.7}
"""Share of the pure matrix-product rate that a transformer's training reached, by precision: other operations are not
counted, and weigh more where products are fast. Measured with MiniLM on two cores."""


def benchmark_machine(training: TrainingPlan, hidden_size: int) -> tuple[MachineSpeed, str]:
    """Speed of this machine for one worker of the plan, and a description of the measurement; takes about 0.3 s.

    ``precision: auto`` is what this machine gains by, measured in another 0.2 s.
    """
    import torch

    from finesearch.training.runtime.precision_benchmark import LayerShape, measure_precisions

    device = torch.device("cuda" if training.gpus_per_worker > 0 and torch.cuda.is_available() else "cpu")
    precision, chosen = training.precision, ""
    if precision == "auto":
        shape = LayerShape.of_model(hidden_size, training.batch_size)
        rates = measure_precisions(shape, training.cpus_per_worker, training.gpus_per_worker)
        precision = rates.faster
        chosen = f"; precision auto takes {precision} here, by {rates.text}"
    with torch_threads(training.cpus_per_worker):
        rate = _matrix_rate(device, torch.bfloat16 if precision == "bf16" else torch.float32, hidden_size)
    where = "GPU" if device.type == "cuda" else f"{max(1, int(training.cpus_per_worker))} CPU thread(s)"
    words = f"{rate / 1e9:,.0f} billion operations a second in {precision} on {where}{chosen}"
    return replace(NOMINAL, operations_per_s=rate * EFFICIENCY[precision]), words


def _matrix_rate(device: object, kind: object, hidden_size: int) -> float:
    """Operations per second of products (TOKENS, h) x (h, 4h), the median of those run in ``MEASURED_S``."""
    import torch

    rows = torch.randn(TOKENS, hidden_size, device=device, dtype=kind)  # type: ignore[call-overload]
    weights = torch.randn(4 * hidden_size, hidden_size, device=device, dtype=kind)  # type: ignore[call-overload]
    repeats = 4
    took: list[float] = []
    _multiply(rows, weights, repeats)
    deadline = time.perf_counter() + MEASURED_S
    while not took or time.perf_counter() < deadline:
        took.append(_multiply(rows, weights, repeats))
    return 2.0 * TOKENS * hidden_size * 4 * hidden_size * repeats / sorted(took)[len(took) // 2]


def _multiply(rows: object, weights: object, repeats: int) -> float:
    import torch

    began = time.perf_counter()
    with torch.no_grad():
        for _ in range(repeats):
            product = torch.nn.functional.linear(rows, weights)  # type: ignore[arg-type]
        product.ravel()[0].item()  # waits for a GPU
    return time.perf_counter() - began
