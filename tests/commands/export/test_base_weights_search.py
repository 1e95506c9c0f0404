"""A search over base weights in bf16 and in 4 bits by the front door: ranked, verified in clean processes, exported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusters import environment, ray_folder
from paths import ROOT
from tiny_writers import word_pairs, write_tiny_writer

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PLAN = """\
name: bits
task:
  kind: translation
  model: model
  data: {train: train.jsonl, validation: validation.jsonl, test: test.jsonl}
  columns: {source: en, target: de}
  separator: " => "
  metric: chrf
  max_length: 24
  max_target_length: 12
  generation: {max_new_tokens: 8, batch_size: 8}
space:
  learning_rate: 5.0e-3
  adaptation: {one_of: {lora: {rank: 4, targets: all-linear, base_weights: [bf16, nf4]}}}
training: {epochs: 2, batch_size: 16}
search: {sampler: grid, pruner: none}
budget: {trials: 2}
report: {top: 2, baselines: [majority]}
"""


def test_both_are_ranked_reloaded_and_exported(tmp_path: Path) -> None:
    write_tiny_writer(tmp_path / "model", "llama", hidden_size=64, intermediate_size=128)
    for seed, (split, rows) in enumerate((("train", 96), ("validation", 20), ("test", 20))):
        pairs = zip(*word_pairs(rows, seed), strict=True)
        lines = [json.dumps({"en": source, "de": target}) for source, target in pairs]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "bits.yaml").write_text(PLAN, encoding="utf-8")
    with ray_folder() as ray:
        done = subprocess.run(
            [sys.executable, str(ROOT / "platform" / "search.py"), "bits.yaml"],
            cwd=tmp_path, env=environment() | {"RAY_TMPDIR": str(ray)}, text=True, capture_output=True, timeout=500,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    ranked = json.loads((tmp_path / "reports" / "bits" / "report.json").read_text(encoding="utf-8"))["ranked"]
    by_type = {row["parameters"]["adaptation.lora.base_weights"]: rank for rank, row in enumerate(ranked, 1)}
    assert set(by_type) == {"bf16", "nf4"}
    assert all(row["validation"] == row["revalidated"] for row in ranked)

    command = [sys.executable, "-m", "finesearch.cli", "export", "runs/bits"]
    rank = ["--rank", str(by_type["nf4"])]
    told = subprocess.run([*command, "whole", *rank], cwd=tmp_path, env=environment(), text=True, capture_output=True)
    assert told.returncode == 0, told.stderr
    assert "merged in bf16: chrf" in told.stderr
    assert "with base weights in nf4" in told.stderr
    card = (tmp_path / "whole" / "README.md").read_text(encoding="utf-8")
    assert "merged in bf16: chrf" in card
    subprocess.run([*command, "adapter", "--adapter", *rank], cwd=tmp_path, env=environment(), check=True)
    code = (tmp_path / "adapter" / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert "load_in_4bit=True" in code
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "adapter", check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
