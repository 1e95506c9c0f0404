"""What the tests of kept outputs share: trials that freeze, and what they leave behind and agree on."""

from pathlib import Path

import pytest

from finesearch.training.prefix_cache import disk_entries
from finesearch.training.trial_types import Evaluation, TrialResult
from training_cases import without_clock

READ = "prefix cache: outputs of frozen layers were computed once and reused by epochs, evaluations and trials."

FROZEN = {
    "freeze_bottom": {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 3}},
    "train_top": {"adaptation": "train_top", "adaptation_parameters": {"layers": 2}},
    "head_only": {"adaptation": "head_only"},
    "rdrop": {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 2}, "rdrop": 0.5},
    "layer_drop": {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 2}, "layer_drop": 0.3},
    "ema": {"adaptation": "train_top", "adaptation_parameters": {"layers": 1}, "ema_decay": 0.5},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test finds nothing kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))


def kept() -> dict[int, list[Path]]:
    """Cut -> folders of whole entries."""
    found: dict[int, list[Path]] = {}
    for entry in disk_entries.list_entries():
        found.setdefault(entry.cut, []).append(entry.path)
    return found


def alike(one: TrialResult, other: TrialResult) -> bool:
    """The same evaluations but for rounding."""
    return len(one.history) == len(other.history) and all(
        _alike(ours, theirs)
        for ours, theirs in zip(without_clock(one.history), without_clock(other.history), strict=True)
    )


def _alike(one: Evaluation, other: Evaluation) -> bool:
    assert one.train_loss is not None
    assert other.train_loss is not None
    return (
        one.metrics == pytest.approx(other.metrics, rel=1e-4, abs=1e-4)
        and one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
        and one.tokens == other.tokens
    )
