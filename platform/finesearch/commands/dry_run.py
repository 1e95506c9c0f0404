"""``--dry-run``: describes a search after checking plan, data, model and disk; starts and writes nothing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from finesearch.commands.cost_estimate import estimate
from finesearch.commands.memory_lines import memory_lines
from finesearch.plan import Plan, Recipe
from finesearch.plan.space.strong_recipe import configuration_of
from finesearch.run.disk_check import check_disk
from finesearch.run.preflight import Preflight, run_preflight
from finesearch.run.run_storage import run_folder, run_store


def describe_search(plan: Plan) -> str:
    """The search in words.

    Raises:
        InputError: as :func:`~finesearch.commands.run_search.run_search`, except for problems that only a cluster can
            show.
    """
    folder = run_folder(plan)
    with tempfile.TemporaryDirectory(prefix="finesearch-dry-run-") as scratch:
        preflight = run_preflight(plan, Path(scratch))
    plan = preflight.plan
    most = max(1, int((os.cpu_count() or 1) // (plan.training.workers_per_trial * plan.training.cpus_per_worker)))
    concurrent = most if plan.search.concurrent_trials == "auto" else int(plan.search.concurrent_trials)
    need = check_disk(plan, folder, preflight.sizes.trained_bytes, concurrent)
    times = estimate(plan, preflight, concurrent)
    return "\n".join(_lines(plan, preflight, run_store(plan).shown, concurrent, need, times))


def _lines(plan: Plan, preflight: Preflight, where: str, concurrent: int, need: int, times: list[str]) -> list[str]:
    model, splits, budget = preflight.model, preflight.splits, plan.budget
    rows = ", ".join(f"{name} {len(splits[name]):,}" for name in ("train", "validation", "test"))
    limits = [f"{budget.trials} trials"]
    limits += [f"{budget.hours:g} h"] if budget.hours is not None else []
    limits += [f"{budget.device_hours:g} device-hours"] if budget.device_hours is not None else []
    limits += [f"a cost of {budget.cost.most:g}"] if budget.cost is not None and budget.cost.most is not None else []
    lines = [
        f"{plan.name}: {plan.task.kind}, {plan.task.metric} ({plan.objectives[0].goal})",
        f"  model    {plan.task.model}: {model.architecture}, {model.num_layers} layers, "
        f"{model.parameters / 1e6:.1f} M parameters",
        f"  data     {rows} rows; labels: {', '.join(preflight.facts.label_names) or 'none'}",
        *length_lines(preflight),
        f"  space    {len(plan.space.parameters)} parameters:",
        *(f"             {parameter.name}: {parameter.domain.text}" for parameter in plan.space.parameters),
        f"  search   {_search_words(plan)}; budget {', '.join(limits)}",
        f"  at once  {concurrent} trial(s) on this machine; on a cluster, as many as it holds",
        *(f"  {'memory' if not number else '':<8} {line}" for number, line in enumerate(memory_lines(preflight.sizes))),
        f"  disk     checkpoints take at most {need / (1 << 30):.2f} GiB in {where}",
        *times,
        f"  baselines {', '.join(plan.baselines) or 'none'}",
        *strong_lines(plan, preflight.strong),
        *(f"  note     {note}" for note in preflight.notes),
        *(f"  warning  {warning}" for warning in preflight.warnings),
        "Nothing was started.",
    ]
    return lines


def length_lines(preflight: Preflight) -> list[str]:
    """How long the inputs are, and what ``task.max_length`` cuts."""
    from finesearch.training.cost_model.input_lengths import measure_lengths

    found = measure_lengths(preflight.task, preflight.splits, preflight.facts, preflight.model)
    head, *rest = found.lines()
    return [f"  lengths  {head}", *(f"             {line}" for line in rest)]


def strong_lines(plan: Plan, strong: Recipe | None) -> list[str]:
    """A line that says what the strong recipe is, and whether the search tries it first."""
    if strong is None:
        return []
    place = "the first trial" if configuration_of(plan, strong) is not None else "beside the search: not in the space"
    settings = f"{strong.adaptation}, learning_rate {strong.learning_rate:g}, {strong.epochs} epochs"
    return [f"  strong   {settings}, output layer {strong.head_init}; {place}"]


def _search_words(plan: Plan) -> str:
    if plan.search.sampler == "freeze_thaw":
        return "freeze_thaw, which pauses trials itself"
    return f"{plan.search.sampler}, pruner {plan.search.pruner}"
