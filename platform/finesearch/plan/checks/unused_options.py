"""Warnings for options of a plan that have no effect."""

from finesearch.plan.sections.budget_section import BudgetPlan
from finesearch.plan.sections.report_section import ReportPlan
from finesearch.plan.sections.search_section import SearchPlan
from finesearch.plan.sections.task_kinds import TASK_KINDS
from finesearch.plan.sections.task_section import DataPlan, TaskPlan
from finesearch.plan.sections.training_section import TrainingPlan
from finesearch.plan.space.domains import Fixed
from finesearch.plan.space.search_space import Space


def unused_option_warnings(
    task: TaskPlan,
    space: Space,
    training: TrainingPlan,
    search: SearchPlan,
    budget: BudgetPlan,
    report: ReportPlan,
) -> tuple[str, ...]:
    """Sentences that name an option and why it has no effect; an option at its default is never named."""
    evaluations = space.largest("epochs", training.num_epochs) * training.evaluations_per_epoch
    return (
        *_task(task),
        *_form(task, space),
        *_head(task, space),
        *_prompting(task, space),
        *_data(task.data),
        *_space(space, training, budget),
        *_training(training),
        *_search(search, budget, evaluations),
        *_report(report, budget),
    )


def _report(report: ReportPlan, budget: BudgetPlan) -> list[str]:
    if report.top > budget.trials:
        return [f"report.top: {report.top} is more than budget.trials ({budget.trials}); all are ranked."]
    return []


def _task(task: TaskPlan) -> list[str]:
    found = []
    if task.revision is not None and task.model.startswith("package://"):
        found.append("task.revision has no effect: a model in a package has no revisions.")
    if task.no_relation is not None and task.kind != "relation-extraction":
        found.append(f"task.no_relation has no effect: {task.kind} has no relations.")
    generation = task.generation
    if generation is not None and generation.beams == 1 and generation.length_penalty != 1.0:
        found.append("task.generation.length_penalty has no effect: it weighs beams, and there is one.")
    return found


_WITHOUT_EFFECT = {"multi-label": ("label_smoothing",), "regression": ("label_smoothing", "class_weights")}
"""Parameters without effect for a form of the labels."""


def _form(task: TaskPlan, space: Space) -> list[str]:
    idle = _WITHOUT_EFFECT.get(task.form or "", ())
    named = [entry for entry in space.entries if entry.key in idle and entry.domain not in _OFF]
    found = [f"space.{entry.name} has no effect: task.form is {task.form}." for entry in named]
    if task.label_names and (task.form == "regression" or "spans" in task.columns):
        why = "task.form is regression" if task.form == "regression" else "spans name their labels themselves"
        found.append(f"task.label_names has no effect: {why}.")
    return found


_OFF = (Fixed(0.0), Fixed("none"))


def _head(task: TaskPlan, space: Space) -> list[str]:
    """Options of the output layer, in kinds of task that have none or do not pool."""
    kind, idle = TASK_KINDS[task.kind], {}
    if "pooling" not in kind.options:
        idle = dict.fromkeys(("pooling", "head_hidden_size"), f"{task.kind} pools no text")
    if kind.generates_text:
        idle["head_learning_rate"] = f"{task.kind} has no output layer beside the language model's"
    found = [f"space.{entry.name} has no effect: {idle[entry.key]}." for entry in space.entries if entry.key in idle]
    if "pooling" in space.values and task.pooling not in (None, kind.options.get("pooling")):
        found.append("task.pooling has no effect on the trials: space.pooling decides.")
    return found


def _prompting(task: TaskPlan, space: Space) -> list[str]:
    """Options that choose among answers have no effect where the answer is generated, or a number."""
    generates_text, is_number = TASK_KINDS[task.kind].generates_text, task.form == "regression"
    if not generates_text and not is_number:
        return _calibrated_similarity(space)
    found = []
    if is_number and task.verbalizers is not None:
        found.append("task.verbalizers has no effect: task.form is regression.")
    kind, how = (task.kind, "written") if generates_text else (f"{task.kind}, form regression,", "a number")
    for entry in space.entries:
        if entry.key == "calibrate" and entry.domain.contains(True):
            found.append(f"space.{entry.name} has no effect: in {kind} the answer is {how}, not chosen.")
        if generates_text and entry.key == "selection" and entry.domain.contains("balanced"):
            found.append(f"space.{entry.name}: balanced is random in {task.kind}, which has no labels to balance.")
    return found


def _calibrated_similarity(space: Space) -> list[str]:
    """Calibration has no effect on similarities: there is no likelihood to divide by."""
    return [
        f"space.adaptation.{branch}.calibrate has no effect: it divides a likelihood, and method is similarity."
        for branch, domains in space.selectors["adaptation"].items()
        if domains.get("calibrate", Fixed(False)).contains(True) and domains.get("method") == Fixed("similarity")
    ]


def _data(data: DataPlan) -> list[str]:
    found = []
    if data.format != "auto" and data.source != "files":
        found.append(f"task.data.format has no effect: the rows come from {data.source}.")
    if data.csv is not None and data.source != "files":
        found.append(f"task.data.csv has no effect: the rows come from {data.source}.")
    defaults = {name: field.default for name, field in DataPlan.model_fields.items()}
    for split in ("validation", "test"):
        name = f"{split}_fraction"
        if split in data.files and getattr(data, name) != defaults[name]:
            found.append(f"task.data.{name} has no effect: the {split} split is given.")
    if {"validation", "test"} <= data.files.keys() and data.split_seed != defaults["split_seed"]:
        found.append("task.data.split_seed has no effect: every split is given.")
    return found


def _space(space: Space, training: TrainingPlan, budget: BudgetPlan) -> list[str]:
    found = [f"space.{name} has no effect under any branch of this space." for name in space.without_effect]
    unfreezing = space.selectors["adaptation"].get("gradual_unfreezing", {})
    if "every_fraction" in unfreezing and not unfreezing.get("every_steps", Fixed(None)).contains(None):
        found.append("space.adaptation.gradual_unfreezing.every_fraction has no effect: every_steps is given.")
    if not len(space) and budget.trials > 1:
        found.append("space: it holds one configuration; further trials only repeat it with other seeds.")
    for key in ("epochs", "batch_size"):
        if key in space.values and getattr(training, key) != TrainingPlan.model_fields[key].default:
            found.append(f"training.{key} has no effect on the trials: space.{key} decides.")
    return found


def _training(training: TrainingPlan) -> list[str]:
    found = []
    if training.zero_stage and training.workers_per_trial == 1:
        found.append(f"training.zero_stage {training.zero_stage} saves no memory: one worker has nobody to share with.")
    where = training.prefix_cache
    if training.prefix_cache_disk_gib is not None and where in ("off", "memory"):
        found.append(f"training.prefix_cache_disk_gib has no effect: training.prefix_cache is {where}.")
    memory_gib = TrainingPlan.model_fields["prefix_cache_memory_gib"].default
    if training.prefix_cache_memory_gib != memory_gib and where == "off":
        found.append("training.prefix_cache_memory_gib has no effect: training.prefix_cache is off.")
    return found


def _cost_weight(search: SearchPlan) -> list[str]:
    if not search.cost_weight or search.sampler == "tpe":
        return []
    return [f"search.cost_weight has no effect: it chooses among what tpe proposes, not {search.sampler}."]


def _search(search: SearchPlan, budget: BudgetPlan, evaluations: int) -> list[str]:
    found = []
    defaults = {name: field.default for name, field in SearchPlan.model_fields.items()}
    if search.sampler == "freeze_thaw":
        for key in ("pruner", "reduction_factor"):
            if getattr(search, key) != defaults[key]:
                found.append(f"search.{key} has no effect: freeze_thaw itself decides which trials go on.")
        whole = budget.trials * evaluations
        if search.startup_trials >= whole:
            found.append(
                f"search.sampler has no effect: freeze_thaw proposes trials after the first {search.startup_trials}, "
                f"and the budget allows at most {whole} evaluations; lower search.startup_trials."
            )
        return found + _cost_weight(search)
    if search.reduction_factor != defaults["reduction_factor"] and search.pruner in ("none", "median"):
        found.append(f"search.reduction_factor has no effect: the pruner is {search.pruner}.")
    if search.min_evaluations != defaults["min_evaluations"] and search.pruner == "none":
        found.append("search.min_evaluations has no effect: the pruner is none.")
    if search.pruner != "none" and search.min_evaluations >= evaluations:
        found.append(
            f"search.pruner has no effect: a trial is evaluated {evaluations} time(s), and {search.pruner} waits for "
            f"{search.min_evaluations}; raise training.evaluations_per_epoch or epochs."
        )
    is_modelled = search.sampler in ("tpe", "gp", "cmaes")
    if search.startup_trials != defaults["startup_trials"] and not is_modelled and search.pruner != "median":
        found.append(f"search.startup_trials has no effect with {search.sampler} and {search.pruner}.")
    if is_modelled and search.startup_trials >= budget.trials:
        found.append(
            f"search.sampler has no effect: {search.sampler} proposes trials after the first {search.startup_trials}, "
            f"and budget.trials is {budget.trials}; lower search.startup_trials."
        )
    found += _cost_weight(search)
    if search.sampler == "grid" and search.seed != defaults["seed"]:
        found.append("search.seed decides only the order of a grid.")
    return found
