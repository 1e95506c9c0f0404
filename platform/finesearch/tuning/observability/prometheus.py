"""Prometheus metrics of a search, exported through Ray's metrics.

Ray puts ``ray_`` before a name and ``_total`` behind that of a counter, and adds the labels WorkerId, NodeAddress and
SessionName, so that each process has its own series: dashboards aggregate them. Ours carry ``run``, the search's name,
and labels with few values; never a trial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from finesearch.training.runtime.counters import (
    CACHE_HITS,
    CACHE_MISSES,
    CACHE_READ_BYTES,
    CHECKPOINT_SECONDS,
    CHECKPOINTS,
    TOKENS,
)

TRIALS, TRIALS_WANTED, BEST = "trials", "trials_wanted", "best_value"
GROUPS, DEVICE_HOURS, SEARCH_SECONDS = "worker_groups", "device_hours", "search_seconds"
CACHE_BYTES = "prefix_cache_bytes"


@dataclass(frozen=True)
class MetricDefinition:
    """One metric: a ``gauge`` is a current value, a ``counter`` a running total."""

    name: str
    kind: Literal["gauge", "counter"]
    description: str
    labels: tuple[str, ...] = ()

    @property
    def exported(self) -> str:
        """The name in Prometheus.

        >>> METRIC_DEFINITIONS["tokens"].exported, METRIC_DEFINITIONS["trials"].exported
        ('ray_finesearch_tokens_total', 'ray_finesearch_trials')
        """
        return f"ray_finesearch_{self.name}" + ("_total" if self.kind == "counter" else "")


METRIC_DEFINITIONS = {
    definition.name: definition
    for definition in (
        MetricDefinition(TRIALS, "gauge", "Trials by state: complete, pruned, failed, running.", ("state",)),
        MetricDefinition(TRIALS_WANTED, "gauge", "Finished trials that the budget asks for."),
        MetricDefinition(BEST, "gauge", "The metric of the best trial: complete, or pruned.", ("metric", "state")),
        MetricDefinition(GROUPS, "gauge", "Worker groups: busy, waiting (for devices or processes), idle.", ("state",)),
        MetricDefinition(DEVICE_HOURS, "gauge", "Hours of training times devices, over all resumes."),
        MetricDefinition(SEARCH_SECONDS, "gauge", "Seconds that the search has taken, over all resumes."),
        MetricDefinition(TOKENS, "counter", "Training tokens, padding left out."),
        MetricDefinition(CACHE_HITS, "counter", "Rows whose frozen layers' output was read instead of computed."),
        MetricDefinition(CACHE_MISSES, "counter", "Rows whose frozen layers' output was computed."),
        MetricDefinition(CACHE_READ_BYTES, "counter", "Bytes of kept outputs that were read from disk."),
        MetricDefinition(
            CACHE_BYTES, "gauge", "Bytes of kept outputs on the node's disk; each of its workers says the same."
        ),
        MetricDefinition(CHECKPOINTS, "counter", "Checkpoints that were written."),
        MetricDefinition(CHECKPOINT_SECONDS, "counter", "Seconds that writing them took, beside training."),
    )
}


class PrometheusMetrics:
    """Sets and counts the metrics of one search in this process, which must be connected to Ray."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._made: dict[str, Any] = {}

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._instrument(name).set(value, tags={"run": self._run, **labels})

    def add(self, name: str, amount: float, **labels: str) -> None:
        """Increase a counter by ``amount``; does nothing where it is 0."""
        if amount > 0:
            self._instrument(name).inc(amount, tags={"run": self._run, **labels})

    def _instrument(self, name: str) -> Any:
        if name not in self._made:
            from ray.util import metrics

            definition = METRIC_DEFINITIONS[name]
            kind = metrics.Gauge if definition.kind == "gauge" else metrics.Counter
            keys = ("run", *definition.labels)
            self._made[name] = kind(f"finesearch_{name}", description=definition.description, tag_keys=keys)
        return self._made[name]
