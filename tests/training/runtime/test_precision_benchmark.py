"""The benchmark that chooses between fp32 and bf16."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
import torch

from finesearch.training.runtime import precision_benchmark
from finesearch.training.runtime.precision_benchmark import (
    GAIN,
    MAX_ROUNDS,
    MIN_TOKENS,
    OPERATIONS_A_PASS,
    LayerShape,
    PrecisionRates,
    measure_precisions,
)


@pytest.mark.parametrize(
    ("fp32", "bf16", "faster"),
    [(160e9, 85e9, "fp32"), (100e9, 100e9, "fp32"), (100e9, 100e9 * GAIN, "bf16"), (50e12, 400e12, "bf16")],
)
def test_bf16_must_gain_to_be_chosen(fp32: float, bf16: float, faster: str) -> None:
    assert PrecisionRates(fp32, bf16).faster == faster


@pytest.mark.parametrize("width", [32, 384, 2048])
def test_both_precisions_are_measured_in_few_small_passes_and_leave_nothing_behind(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    passes: list[tuple[int, ...]] = []
    plain = precision_benchmark._pass

    def counted(layer: Any, states: torch.Tensor, precision: str) -> float:
        passes.append((*states.shape, layer.up.out_features))
        return plain(layer, states, precision)

    monkeypatch.setattr(precision_benchmark, "_pass", counted)
    rates = measure_precisions(LayerShape.of_model(width, batch_size=32))
    assert 4 <= len(passes) <= 2 * (MAX_ROUNDS + 1)
    tokens, hidden, intermediate = passes[0]
    assert 12 * tokens * hidden * intermediate <= max(OPERATIONS_A_PASS, 12 * MIN_TOKENS * hidden * intermediate)
    assert rates.device == "cpu"
    assert 1e8 < rates.bf16 < 1e15
    assert 1e8 < rates.fp32 < 1e15
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_a_busy_machine_changes_no_clear_choice() -> None:
    shape = LayerShape.of_model(384, batch_size=32)
    quiet = measure_precisions(shape)
    ratio = quiet.bf16 / quiet.fp32
    if 0.7 < ratio < 1.5:
        pytest.skip(f"no clear choice here: bf16 is {ratio:.2f} times as fast")
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(torch.get_num_threads())]
    try:
        time.sleep(0.2)
        assert measure_precisions(shape).faster == quiet.faster
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_a_wide_layer_is_measured_at_fewer_tokens() -> None:
    wide = LayerShape(8192, 28672, 65536)
    on_cpu, on_gpu = wide.bounded(on_cpu=True), wide.bounded(on_cpu=False)
    assert (on_cpu.hidden_size, on_cpu.intermediate_size) == (1024, 3584)
    assert on_cpu.tokens < on_gpu.tokens <= wide.tokens
