"""Checks that sampler, pruner, objectives and space of a plan are compatible."""

from finesearch.plan.checks.base_weights_limits import check_base_weights
from finesearch.plan.checks.checkpointing_limits import check_activation_checkpointing
from finesearch.plan.checks.template_check import template_problem
from finesearch.plan.checks.zero_limits import check_zero_stage
from finesearch.plan.problems import Problems, did_you_mean, format_value
from finesearch.plan.prompt_templates import AUTO
from finesearch.plan.sections.report_section import ReportPlan
from finesearch.plan.sections.search_section import Objective, SearchPlan
from finesearch.plan.sections.task_kinds import COSTS, ONE_CLASS_METRICS, PROBABILITY_METRICS, TASK_KINDS, Goal
from finesearch.plan.sections.task_section import TaskPlan
from finesearch.plan.sections.training_section import TrainingPlan
from finesearch.plan.space.branches import ADAPTATIONS
from finesearch.plan.space.domains import Choice, Domain, Range
from finesearch.plan.space.first_trials import read_configuration
from finesearch.plan.space.search_space import Space


def plan_problems(
    task: TaskPlan | None,
    space: Space | None,
    training: TrainingPlan | None,
    search: SearchPlan | None,
    report: ReportPlan | None,
    problems: Problems,
) -> None:
    """Add a problem for each incompatibility; a section that is None is invalid itself, and is not checked."""
    if task is not None and search is not None:
        _check_objectives(task, search, problems)
    if task is not None and report is not None and report.generation is not None and task.generation is None:
        text = f"report.generation: {task.kind} generates no text"
        takers = ", ".join(kind.kind for kind in TASK_KINDS.values() if "generation" in kind.options)
        problems.add(("report", "generation"), text, f"Remove it: it belongs to {takers}.")
    if task is not None and report is not None and report.generation is not None:
        kind = TASK_KINDS[task.kind]
        if task.metric in kind.teacher_forced_metrics:
            text = f"report.generation: {task.metric} does not look at what is written, so nothing can be chosen by it"
            others = ", ".join(name for name in kind.metrics if name not in kind.teacher_forced_metrics)
            problems.add(("report", "generation"), text, f"Remove it, or set task.metric to one of {others}.")
    if task is not None and report is not None:
        _check_baselines(task, report, problems)
    if search is not None:
        _check_several_objectives(search, problems)
    if space is not None and search is not None:
        _check_sampler(space, search, problems)
        # Configurations for an automatic space are checked once it is known.
        for index, configuration in enumerate(() if space.is_auto else search.first):
            read_configuration(space, configuration, problems, ("search", "first", index))
    if task is not None and space is not None:
        _check_templates(task, space, problems)
    if space is not None and training is not None:
        _check_batch_sizes(space, training, problems)
        check_zero_stage(space, training, problems)
        check_activation_checkpointing(space, training, problems)
        check_base_weights(space, training, problems)


def _check_baselines(task: TaskPlan, report: ReportPlan, problems: Problems) -> None:
    own = TASK_KINDS[task.kind].floors
    others = {name for kind in TASK_KINDS.values() for name in kind.floors} - set(own)
    for index, name in enumerate(report.baselines):
        if name in others:
            text = f"report.baselines.{index}: {task.kind} has no baseline {name}"
            advice = f"It has {', '.join(own)}; 'floors' stands for all that a task has."
            problems.add(("report", "baselines", index), text, advice)


def objectives_of(task: TaskPlan, search: SearchPlan) -> tuple[Objective, ...]:
    """The objectives with their goals; the task's metric alone unless the plan lists them."""
    goals = _goals(task)
    names = [objective.metric for objective in search.objectives] or [task.metric]
    return tuple(Objective(name=name, goal=goals[name]) for name in names)


def _goals(task: TaskPlan) -> dict[str, Goal]:
    costs: dict[str, Goal] = {name: "min" for name in COSTS}
    return task.goals | costs


def _check_objectives(task: TaskPlan, search: SearchPlan, problems: Problems) -> None:
    goals = _goals(task)
    seen: set[str] = set()
    for index, objective in enumerate(search.objectives):
        path, name = ("search", "objectives", index), objective.metric
        if name not in goals:
            problems.add(path, f"search.objectives.{index}: unknown metric '{name}'", did_you_mean(name, goals))
        elif name in seen:
            problems.add(path, f"search.objectives.{index}: '{name}' stands twice", "Keep one of them.")
        elif objective.goal not in (None, goals[name]):
            text = f"search.objectives.{index}: {name} is better as {goals[name]}, got goal {objective.goal}"
            problems.add(path, text, "Leave the goal out.")
        elif task.metric in TASK_KINDS[task.kind].teacher_forced_metrics and name in _written_metrics(task):
            text = (
                f"search.objectives.{index}: no text is written while trials train for {task.metric}; {name} needs some"
            )
            problems.add(path, text, f"Set task.metric to {name} and list it first, or drop it.")
        elif problem := _needs_another_metric(name, task):
            problems.add(path, f"search.objectives.{index}: {problem}", f"Set task.metric to {name} and list it first.")
        elif index == 0 and name != task.metric:
            text = f"search.objectives.0: expected the task's metric '{task.metric}' first, got '{name}'"
            problems.add(path, text, f"Ranking goes by it: list {task.metric} first, or set task.metric to '{name}'.")
        seen.add(name)


def _needs_another_metric(name: str, task: TaskPlan) -> str | None:
    """Why a metric cannot be computed beside the task's."""
    if "positive" not in TASK_KINDS[task.kind].options:
        return None
    if name in PROBABILITY_METRICS and task.metric not in PROBABILITY_METRICS:
        return f"{name} needs probabilities, which are kept where task.metric needs them too, got {task.metric}"
    if name in ONE_CLASS_METRICS and task.metric not in ONE_CLASS_METRICS and task.positive is None:
        return f"{name} counts one class, and neither task.positive nor task.metric ({task.metric}) asks for one"
    return None


def _written_metrics(task: TaskPlan) -> set[str]:
    return set(task.goals) - set(TASK_KINDS[task.kind].teacher_forced_metrics)


def _check_several_objectives(search: SearchPlan, problems: Problems) -> None:
    if len(search.objectives) < 2:
        return
    if search.pruner != "none":
        text = f"search.pruner: several objectives need the pruner none, got {search.pruner}"
        advice = "Write 'pruner: none': no one number says which trial is weak."
        problems.add(("search", "pruner"), text, advice)
    if search.cost_weight:
        text = f"search.cost_weight: it weighs the gain of one objective, got {len(search.objectives)} objectives"
        problems.add(("search", "cost_weight"), text, "Leave it out: as an objective, seconds weigh already.")
    if search.sampler in ("cmaes", "freeze_thaw"):
        text = f"search.sampler: {search.sampler} optimises one objective, got several"
        problems.add(("search", "sampler"), text, "Use tpe, gp, random, qmc or grid.")


def _check_sampler(space: Space, search: SearchPlan, problems: Problems) -> None:
    sampler, path = search.sampler, ("search", "sampler")
    conditional = [parameter.name for parameter in space.parameters if parameter.conditions]
    if sampler in ("cmaes", "gp", "qmc", "grid") and conditional:
        text = f"search.sampler: {sampler} takes no conditional parameters, got {', '.join(conditional)}"
        problems.add(path, text, "Use tpe or random, or keep one branch of adaptation and optimizer.")
    adaptations = space.selectors["adaptation"]
    if sampler == "freeze_thaw" and not any(ADAPTATIONS[name].trains for name in adaptations):
        text = f"search.sampler: freeze_thaw pauses training, and nothing trains in {', '.join(adaptations)}"
        problems.add(path, text, "Use tpe or random, or add an adaptation that trains.")
    choices = [parameter.name for parameter in space.parameters if isinstance(parameter.domain, Choice)]
    if sampler in ("cmaes", "qmc") and choices:
        text = f"search.sampler: {sampler} takes no choices, got {', '.join(choices)}"
        problems.add(path, text, "Use tpe, random or gp, or make each choice a range or one value.")
    continuous = [
        parameter.name
        for parameter in space.parameters
        if isinstance(parameter.domain, Range) and parameter.domain.is_continuous
    ]
    if sampler == "grid" and continuous:
        text = f"search.sampler: grid needs lists or ranges with a step, got plain ranges: {', '.join(continuous)}"
        problems.add(path, text, "Give each a list of values or a step, or use another sampler.")


def _check_templates(task: TaskPlan, space: Space, problems: Problems) -> None:
    kind = TASK_KINDS[task.kind]
    known = kind.placeholders_of(task.columns)
    for entry in space.entries:
        for value in entry.domain.grid if entry.key == "template" and not isinstance(entry.domain, Range) else ():
            if not known and value != AUTO:
                text = f"space.{entry.name}: {kind.kind} is asked without a template, got {format_value(value)}"
                problems.add(_address(entry.name), text, "Leave it out.")
                continue
            found = template_problem(str(value), known, kind.asked, at_end=kind.generates_text)
            if found is not None:
                text, advice = found
                problems.add(_address(entry.name), f"space.{entry.name}: {text} in {format_value(value)}", advice)


def _check_batch_sizes(space: Space, training: TrainingPlan, problems: Problems) -> None:
    for entry in space.entries:
        if entry.key != "batch_size":
            continue
        wrong = _not_multiple(entry.domain, training.divisor)
        if wrong is not None:
            text = (
                f"space.{entry.name}: expected multiples of {training.divisor} (training.workers_per_trial × "
                f"gradient_accumulation_steps), got {wrong}"
            )
            path = _address(entry.name)
            problems.add(path, text, "Choose among multiples, or give the range such a min and step.")


def _not_multiple(domain: Domain, divisor: int) -> int | None:
    """The first value that ``divisor`` does not divide."""
    if isinstance(domain, Range):
        # Two neighbours decide for all; a range may hold millions.
        values = [int(domain.low), int(domain.low) + int(domain.step or 1)]
    else:
        values = [int(value) for value in domain.grid if isinstance(value, int)]
    return next((value for value in values if value % divisor), None)


def _address(name: str) -> tuple[str, ...]:
    """Path of a flat parameter name in the plan file.

    >>> _address("adaptation.full.batch_size")
    ('space', 'adaptation', 'one_of', 'full', 'batch_size')
    """
    selector, *rest = name.split(".")
    return ("space", selector, "one_of", *rest) if rest else ("space", selector)
