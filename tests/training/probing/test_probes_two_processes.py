"""Probes in two real processes: rank 0 solves, both ranks have what one process alone has."""

from pathlib import Path

import pytest

from pairs import seen_by_two
from probe_pair_worker import CASES
from training_cases import make_runner, run, trial


def test_the_other_rank_waits_longer_than_a_collective_does(tmp_path: Path) -> None:
    for seen in seen_by_two("wait_pair_worker.py", tmp_path, tmp_path):
        assert seen == {"result": "solved", "error": "no layer"}


@pytest.mark.slow
def test_two_processes_start_where_one_does(home: Path, tmp_path: Path) -> None:
    seen = seen_by_two("probe_pair_worker.py", home, tmp_path)
    for name, (_, settings) in CASES.items():
        alone, _ = run(make_runner(home), trial(tmp_path / "alone" / name, **settings))
        for rank in seen:
            (evaluation,) = rank[name]["history"]
            assert evaluation["metrics"] == pytest.approx(alone.history[0].metrics), name
            if alone.history[0].train_loss is not None:
                assert evaluation["train_loss"] == pytest.approx(alone.history[0].train_loss, rel=1e-4), name
            assert rank[name]["notes"] == list(alone.notes), name
