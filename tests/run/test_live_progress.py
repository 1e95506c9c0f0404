"""Between two evaluations of a long epoch, a search shows how far each trial is, its speed and its loss."""

import csv
import io
import re
from pathlib import Path

import pytest

from finesearch.commands.run_search import run_search
from finesearch.plan import load_plan
from finesearch.run import progress
from finesearch.run.open_search import SearchRequest
from finesearch.run.progress import Progress
from tiny_models import sentences, write_tiny_model

PLAN = """
name: live
task:
  kind: text-classification
  model: model
  data: {train: train.csv, validation: validation.csv, test: validation.csv}
  columns: {text: text, label: label}
  max_length: 32
space: {learning_rate: 1e-3}
training: {epochs: 1, batch_size: 2, precision: fp32, prefix_cache: off}
search: {sampler: random, pruner: none}
budget: {trials: 1}
report: {top: 1, baselines: []}
storage: runs
"""


@pytest.mark.slow
def test_a_long_epoch_shows_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_model(tmp_path / "model")
    for seed, (split, count) in enumerate((("train", 6000), ("validation", 20))):
        with (tmp_path / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *zip(*sentences(count, seed), strict=True)])
    (tmp_path / "plan.yaml").write_text(PLAN)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.5)
    monkeypatch.setattr(progress, "READ_LIVE_EVERY_S", 0.2)
    monkeypatch.chdir(tmp_path)
    stream = io.StringIO()
    plan = load_plan(tmp_path / "plan.yaml")
    run_search(SearchRequest(plan, tmp_path / "reports"), Progress(plan, stream))
    told = re.findall(
        r"^  trial 0: epoch (\d\.\d\d) of 1, ([\d,]+) tokens/s(?:, loss (\S+))?$", stream.getvalue(), re.M
    )
    shares = [float(epoch) for epoch, _, _ in told]
    assert len({share for share in shares if 0.0 < share < 1.0}) > 1, stream.getvalue()
    assert shares == sorted(shares)
    assert all(int(rate.replace(",", "")) > 0 for _, rate, _ in told)
    assert any(0.0 < float(loss) < 2.0 for _, _, loss in told if loss)
