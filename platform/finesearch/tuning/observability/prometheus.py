"""The numbers that a search shows to Prometheus, through Ray's own metrics.

Ray puts ``ray_`` before a name and ``_total`` behind that of a counter, and adds the labels WorkerId, NodeAddress and
SessionName, so that one number comes as a series for each process: dashboards aggregate them. Ours carry ``run``, the
search's name, and words of which there are few; never a trial.
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
class Measure:
    """One number: a ``gauge`` says what is now, a ``counter`` what there was in all."""

    name: str
    kind: Literal["gauge", "counter"]
    description: str
    labels: tuple[str, ...] = ()

    @property
    def exported(self) -> str:
        """The name in Prometheus.

        >>> MEASURES["tokens"].exported, MEASURES["trials"].exported
        ('ray_finesearch_tokens_total', 'ray_finesearch_trials')
        """
        return f"ray_finesearch_{self.name}" + ("_total" if self.kind == "counter" else "")


MEASURES = {
    measure.name: measure
    for measure in (
        Measure(TRIALS, "gauge", "Trials by state: complete, pruned, failed, running.", ("state",)),
        Measure(TRIALS_WANTED, "gauge", "Finished trials that the budget asks for."),
        Measure(BEST, "gauge", "The metric of the best complete trial.", ("metric",)),
        Measure(GROUPS, "gauge", "Worker groups: busy, waiting (for devices or processes), idle.", ("state",)),
        Measure(DEVICE_HOURS, "gauge", "Hours of training times devices, over all resumes."),
        Measure(SEARCH_SECONDS, "gauge", "Seconds that the search has taken, over all resumes."),
        Measure(TOKENS, "counter", "Training tokens, padding left out."),
        Measure(CACHE_HITS, "counter", "Rows whose frozen layers' output was read instead of computed."),
        Measure(CACHE_MISSES, "counter", "Rows whose frozen layers' output was computed."),
        Measure(CACHE_READ_BYTES, "counter", "Bytes of kept outputs that were read from disk."),
        Measure(CACHE_BYTES, "gauge", "Bytes of kept outputs on the node's disk; each of its workers says the same."),
        Measure(CHECKPOINTS, "counter", "Checkpoints that were written."),
        Measure(CHECKPOINT_SECONDS, "counter", "Seconds that writing them took, beside training."),
    )
}


class Instruments:
    """Sets and counts the measures of one search in this process, which must be connected to Ray."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._made: dict[str, Any] = {}

    def set(self, name: str, value: float, **labels: str) -> None:
        """The value of a gauge now."""
        self._instrument(name).set(value, tags={"run": self._run, **labels})

    def add(self, name: str, amount: float, **labels: str) -> None:
        """Count ``amount`` more; nothing where it is 0."""
        if amount > 0:
            self._instrument(name).inc(amount, tags={"run": self._run, **labels})

    def _instrument(self, name: str) -> Any:
        if name not in self._made:
            from ray.util import metrics

            measure = MEASURES[name]
            kind = metrics.Gauge if measure.kind == "gauge" else metrics.Counter
            keys = ("run", *measure.labels)
            self._made[name] = kind(f"finesearch_{name}", description=measure.description, tag_keys=keys)
        return self._made[name]
