"""The training floor on a GPU, without Ray: tokens a second against a bare loop and against what the device can do.

    python tests/benchmarks/gpu.py [--device cuda|cpu] [--layers 12] [--hidden 768] [--rows 4000] [--json FILE]

A BERT of random weights (speed does not hang on them) on made sentences, bf16 where the device has it. Trials run
through ``TrialRunner``: full, two thirds of the layers frozen, all of them; each without the prefix cache and, twice,
with it in the device's memory, the second time warm. The bare loop is a careful hand-written one on the same batches.
Floors: the matrix operations of a step at the measured rate of a large product, and the bytes of an optimizer step at
the measured rate of a copy. Last, a step under each ZeRO stage. Without a GPU it says so and ends; ``--device cpu``
tries the script itself.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "platform"), str(ROOT / "tests" / "support")]

BATCH_SIZE = 32
EPOCHS = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print("gpu: not run, this machine has no GPU")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options, Path(folder))
    print(f"device {figures['device']}: {figures['matrix_tflops']:.1f} TFLOP/s, {figures['copy_gb_per_s']:.0f} GB/s")
    print(f"{'trial':<16}{'prefix cache':<14}{'seconds':>9}{'tokens/s':>12}{'of the floor':>14}")
    for row in figures["trials"]:
        print(
            f"{row['trial']:<16}{row['cache']:<14}{row['seconds']:>9.2f}{row['tokens_per_s']:>12,.0f}"
            f"{row['share_of_floor']:>13.0%}"
        )
    print(f"bare loop, full: {figures['bare_tokens_per_s']:,.0f} tokens/s; ours to bare {figures['ratio']:.3f}")
    for stage, seconds in figures["zero_ms"].items():
        print(f"ZeRO {stage}, one worker: {seconds:.1f} ms a step")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    """All figures; ``home`` is empty."""
    import torch

    from finesearch.training.loop.trial_runner import TrialRunner
    from tiny_models import sentences, write_tiny_model

    heads = max(1, options.hidden // 64)
    write_tiny_model(home / "model", layers=options.layers, hidden=options.hidden, heads=heads)
    for seed, (split, count) in enumerate((("train", options.rows), ("validation", 200), ("test", 50))):
        parts = [sentences(count, seed=7 * seed + part) for part in range(3)]
        texts = [" ".join(three) for three in zip(*(part[0] for part in parts), strict=True)]
        with (home / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *zip(texts, parts[0][1], strict=True)])

    def bench(cache: str, stage: int = 0) -> TrialRunner:
        gpus = 1.0 if options.device == "cuda" else 0.0
        training = plan(
            gpus_per_worker=gpus, zero_stage=stage, prefix_cache=cache, prefix_cache_memory_gib=16.0, epochs=EPOCHS
        )
        return TrialRunner(task(), training, str(home), str(home / "cache"), "accuracy", "max")

    device = torch.device(options.device)
    tflops, copied = matrix_rate(device), copy_rate(device)
    frozen = options.layers * 2 // 3
    trials: list[dict[str, Any]] = []
    kinds = (
        ("full", "full", {}),
        (f"freeze {frozen}", "freeze_bottom", {"layers": frozen}),
        ("freeze all", "head_only", {}),
    )
    without, kept = bench("off"), bench("memory")
    for cache, work in (("off", without), ("memory", kept), ("memory, warm", kept)):
        for number, (name, adaptation, parameters) in enumerate(kinds):
            if cache == "off" and not number:
                run(work, home / "warm-up", adaptation, parameters)
            result = run(work, home / f"{cache}-{name}", adaptation, parameters)
            trained = options.layers - {"full": 0, "freeze_bottom": frozen, "head_only": options.layers}[adaptation]
            ahead = options.layers if cache == "off" else trained
            floor = floor_s(options, result.tokens, result.trainable_parameters, ahead, trained, tflops, copied)
            trials.append(
                {
                    "trial": name,
                    "cache": cache,
                    "seconds": result.seconds,
                    "tokens_per_s": result.tokens / result.seconds,
                    "share_of_floor": floor / result.seconds,
                }
            )
    bare = bare_loop(bench("off"), device)
    full = next(row for row in trials if row["trial"] == "full" and row["cache"] == "off")
    stages = {}
    for stage in range(4):
        result = run(bench("off", stage), home / f"zero-{stage}", "full", {})
        stages[stage] = 1000 * result.seconds / (EPOCHS * -(-options.rows // BATCH_SIZE))
    return {
        "benchmark": "gpu",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "matrix_tflops": tflops / 1e12,
        "copy_gb_per_s": copied / 1e9,
        "trials": trials,
        "bare_tokens_per_s": bare,
        "ratio": full["tokens_per_s"] / bare,
        "zero_ms": stages,
    }


def task() -> Any:
    from finesearch.plan import DataPlan, TaskPlan

    files = {split: (f"{split}.csv",) for split in ("train", "validation", "test")}
    columns = {"text": "text", "label": "label"}
    return TaskPlan(kind="text-classification", model="model", data=DataPlan(**files), columns=columns, max_length=64)


def plan(**settings: Any) -> Any:
    from finesearch.plan import TrainingPlan

    return TrainingPlan(batch_size=BATCH_SIZE, **settings)


def run(work: Any, directory: Path, adaptation: str, parameters: dict[str, Any]) -> Any:
    from finesearch.plan import Recipe
    from finesearch.training.trial_types import TrialSpec

    recipe = Recipe(
        adaptation=adaptation,
        adaptation_parameters=parameters,
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        learning_rate=1e-4,
    )
    spec = TrialSpec(number=0, recipe=recipe, directory=str(directory))
    return work.run(spec, lambda evaluation: True, lambda: None)


def floor_s(
    options: argparse.Namespace, tokens: int, trained: int, ahead: int, behind: int, rate: float, copied: float
) -> float:
    """Seconds that matrix operations of ``ahead`` blocks forward and ``behind`` back take, and the optimizer's bytes.

    A block has 8 h² weights in its products (the feed-forward part of these models is 2 h wide), 2 operations each and
    token; backward is twice that. AdamW reads weight, gradient and two moments and writes three: 28 bytes a parameter.
    """
    block = 2 * 8 * options.hidden**2
    steps = EPOCHS * -(-options.rows // BATCH_SIZE)
    return tokens * block * (ahead + 2 * behind) / rate + steps * 28 * trained / copied


def matrix_rate(device: Any) -> float:
    """Operations a second of a large product in bf16 (fp32 where the device has no bf16)."""
    import torch

    from finesearch.training.runtime.precision import has_native_bf16

    size, kind = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    if has_native_bf16(device):
        kind = torch.bfloat16
    one = torch.randn(size, size, device=device, dtype=kind)
    return 2 * size**3 / best_s(lambda: one @ one, device)


def copy_rate(device: Any) -> float:
    """Bytes a second that a copy reads and writes."""
    import torch

    values = torch.empty((1 << 28) if device.type == "cuda" else (1 << 24), device=device)
    target = torch.empty_like(values)
    return 2 * 4 * values.numel() / best_s(lambda: target.copy_(values), device)


def best_s(work: Any, device: Any) -> float:
    import torch

    times = []
    for _ in range(6):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def bare_loop(work: Any, device: Any) -> float:
    """Tokens a second of the loop as written by hand, on the batches of the trial's first epoch."""
    import torch
    from torch.nn.functional import cross_entropy

    from finesearch.data import training_batches
    from finesearch.plan import ORDINARY
    from finesearch.training.runtime.precision import has_native_bf16
    from finesearch.training.steps.optimizers import parameter_groups

    work._prepare()
    context = work._context
    tokens, tokenizer = context.tokens.train, context.base.tokenizer
    model, _ = context.base.build(ORDINARY, seed=0)
    model.to(device).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.0), lr=1e-4, fused=True)
    batches = training_batches(tokens.lengths, BATCH_SIZE, seed=0, epoch=0)
    multiple = 8 if device.type == "cuda" else 1

    def step(rows: Any) -> None:
        batch = {n: t.to(device) for n, t in context.task.collate(tokens.rows(rows), tokenizer, multiple).items()}
        labels = batch.pop("labels")
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_native_bf16(device)):
            logits = model(**batch).logits
        cross_entropy(logits.float(), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step(batches[0])
    started = time.perf_counter()
    for rows in batches:
        step(rows)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return float(sum(tokens.lengths[rows].sum() for rows in batches)) / (time.perf_counter() - started)


if __name__ == "__main__":
    raise SystemExit(main())
