"""Which precision a run trains in, measured once on every node before the first trial."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from finesearch.plan import TrainingPlan
    from finesearch.training.runtime.precision_benchmark import LayerShape, PrecisionRates

TIMEOUT_S = 60.0
"""Time limit for a node to start a process, import torch and measure."""
HERE = "this machine"


@dataclass(frozen=True)
class PrecisionDecision:
    """The precision of a run, the note about it, and the addresses of the nodes that were measured.

    It stays ``auto`` where no node was: each worker then goes by what its device reports.
    """

    name: Literal["auto", "fp32", "bf16"]
    note: str
    nodes: tuple[str, ...] = ()


def decide_precision(rates: Mapping[str, PrecisionRates], silent: tuple[str, ...] = ()) -> PrecisionDecision:
    """bf16 where every measured node gains by it, else fp32, which is exact everywhere.

    rates: by the node's address. silent: nodes that could not be measured.
    """
    missing = f"; not measured: {', '.join(silent)}" if silent else ""
    if not rates:
        why = "no node answered" if silent else "the cluster had no node that holds a worker"
        note = f"precision auto: each worker goes by what its device reports; {why} when the run began{missing}."
        return PrecisionDecision("auto", note)
    losing = [node for node, rate in rates.items() if rate.faster == "fp32"]
    name: Literal["fp32", "bf16"] = "fp32" if losing else "bf16"
    # One line of a large cluster: the nodes that decided, and of those the first.
    decisive = (losing or list(rates))[:1]
    measured = "".join(f"; {node} trains {rates[node].text}" for node in decisive)
    if len(rates) > 1:
        gaining = len(rates) - len(losing)
        measured = f"; {gaining} of {len(rates)} nodes gain by bf16{measured}"
    return PrecisionDecision(name, f"precision auto: {name}{measured}{missing}.", tuple(rates))


def measure_run_precision(training: TrainingPlan, shape: LayerShape) -> PrecisionDecision:
    """Measure every node that can hold a worker; on a lone machine without GPUs this process measures itself.

    Ray must be connected where a cluster was joined (``RAY_ADDRESS``) or workers hold GPUs.
    """
    from finesearch.training.runtime.precision_benchmark import measure_precisions

    if not os.environ.get("RAY_ADDRESS") and not training.gpus_per_worker:
        return decide_precision({HERE: measure_precisions(shape, training.cpus_per_worker)})
    rates, silent = _measure_nodes(training, shape)
    return decide_precision(rates, silent)


def _measure_nodes(training: TrainingPlan, shape: LayerShape) -> tuple[dict[str, PrecisionRates], tuple[str, ...]]:
    """Rates by address, and the nodes that did not answer."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from finesearch.training.runtime.precision_benchmark import measure_precisions

    every: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    # No device is reserved, so that a busy cluster answers; a GPU is seen all the same.
    task: Any = ray.remote(num_cpus=0, max_retries=0)(measure_precisions)
    asked = {
        node["NodeManagerAddress"]: task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(shape, training.cpus_per_worker, training.gpus_per_worker)
        for node in every
        if node["Alive"] and _holds_a_worker(node["Resources"], training)
    }
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=TIMEOUT_S)
    rates: dict[str, PrecisionRates] = {}
    for address, reference in asked.items():
        try:
            rates[address] = ray.get(reference, timeout=0)
        except ray.exceptions.RayError:
            ray.cancel(reference, force=True)
    return rates, tuple(address for address in asked if address not in rates)


def _holds_a_worker(resources: Mapping[str, float], training: TrainingPlan) -> bool:
    has_gpus = resources.get("GPU", 0.0) >= min(1.0, training.gpus_per_worker)
    return has_gpus and resources.get("CPU", 0.0) >= training.cpus_per_worker


@dataclass(frozen=True)
class MeasuredNodes:
    """The nodes that chose bf16 for a run; a worker on another one tells what it loses."""

    addresses: tuple[str, ...]
    training: TrainingPlan
    shape: LayerShape

    def late_node_note(self) -> str | None:
        """In a worker: what its node loses, if it joined later and is slower in bf16; takes about 0.2 s there."""
        import ray

        from finesearch.training.runtime.precision_benchmark import measure_precisions

        address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        if HERE in self.addresses or address in self.addresses:
            return None
        rates = measure_precisions(self.shape, self.training.cpus_per_worker, self.training.gpus_per_worker)
        if rates.faster == "bf16":
            return None
        return (
            f"precision bf16: chosen when the run began, and kept; node {address} joined later and is slower in it "
            f"({rates.text})."
        )
