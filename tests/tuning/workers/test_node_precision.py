"""Which precision a run takes, by the rates of its nodes."""

from __future__ import annotations

import pytest

from finesearch.plan import TrainingPlan
from finesearch.training.runtime.precision_benchmark import LayerShape, PrecisionRates
from finesearch.tuning.workers.node_precision import HERE, MeasuredNodes, decide_precision, measure_run_precision

GAINS, LOSES = PrecisionRates(fp32=100e9, bf16=300e9), PrecisionRates(fp32=160e9, bf16=85e9)
SHAPE = LayerShape(32, 128, 64)


def test_bf16_is_taken_where_every_node_gains() -> None:
    decision = decide_precision({"10.0.0.1": GAINS, "10.0.0.2": GAINS})
    assert decision.name == "bf16"
    assert decision.nodes == ("10.0.0.1", "10.0.0.2")
    assert decision.note.startswith("precision auto: bf16; 2 of 2 nodes gain by bf16; 10.0.0.1 trains 100 billion")


def test_one_node_that_loses_decides_for_fp32_and_is_named() -> None:
    decision = decide_precision({"10.0.0.1": GAINS, "10.0.0.2": LOSES}, silent=("10.0.0.3",))
    assert decision.name == "fp32"
    assert decision.note == (
        "precision auto: fp32; 1 of 2 nodes gain by bf16; 10.0.0.2 trains 160 billion operations a second in fp32 and "
        "85 in bf16; not measured: 10.0.0.3."
    )


def test_without_a_measurement_each_worker_decides_by_its_own_device() -> None:
    silent, empty = decide_precision({}, silent=("10.0.0.1",)), decide_precision({})
    assert (silent.name, silent.nodes, empty.name) == ("auto", (), "auto")
    assert "no node answered when the run began; not measured: 10.0.0.1." in silent.note
    assert "the cluster had no node that holds a worker" in empty.note


def test_a_lone_machine_measures_itself_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    decision = measure_run_precision(TrainingPlan(), SHAPE)
    assert decision.nodes == (HERE,)
    assert decision.note.startswith(f"precision auto: {decision.name}; this machine trains ")
    assert not ray.is_initialized()


def test_a_node_that_joined_later_tells_what_it_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    from finesearch.training.runtime import precision_benchmark

    monkeypatch.setattr(precision_benchmark, "GAIN", float("inf"))  # wherever this runs, bf16 does not gain enough
    note = MeasuredNodes(("203.0.113.9",), TrainingPlan(), SHAPE).late_node_note()
    assert note is not None
    assert "joined later and is slower in it" in note
    monkeypatch.setattr(precision_benchmark, "GAIN", 0.0)
    assert MeasuredNodes(("203.0.113.9",), TrainingPlan(), SHAPE).late_node_note() is None
    assert MeasuredNodes((HERE,), TrainingPlan(), SHAPE).late_node_note() is None
