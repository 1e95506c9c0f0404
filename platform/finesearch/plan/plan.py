"""The plan of a search: what to search, how, and within which limits."""

import hashlib
import json
import re
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, field_validator, model_validator

from finesearch.plan.checks.compatibility import objectives_of, plan_problems
from finesearch.plan.checks.secret_check import secret_problems
from finesearch.plan.checks.unused_options import unused_option_warnings
from finesearch.plan.parsing.yaml_lines import write_yaml
from finesearch.plan.problems import Problem, Problems, SourceLocations, format_value, problem_error
from finesearch.plan.sections.budget_section import BudgetPlan
from finesearch.plan.sections.report_section import FLOORS, ReportPlan
from finesearch.plan.sections.search_section import Objective, SearchPlan
from finesearch.plan.sections.task_kinds import TASK_KINDS
from finesearch.plan.sections.task_section import TaskPlan
from finesearch.plan.sections.tracking_section import TrackingPlan
from finesearch.plan.sections.training_section import TrainingPlan
from finesearch.plan.space.parse_space import AUTO_SPACE, parse_space
from finesearch.plan.space.search_space import Space

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
AUTO_OPTIONS = ("metric_tokenizer", "target_scaling")
"""Keys of ``task`` whose ``auto`` a new run replaces by what it chooses; a run of an older version keeps it."""
_WITHOUT_INFLUENCE = ("budget", "report", "tracking", "storage", "study", "base", "source")


def _read_space(raw: object) -> object:
    return parse_space(raw) if isinstance(raw, dict | str) else raw


class Plan(BaseModel):
    """All settings of a search; two plans are equal when their settings are, regardless of their files.

    ``base`` is the folder that relative paths of data and model start from (the plan file's by default). ``source`` is
    the file that it was read from. ``storage`` is a folder or a URI. ``study`` is the URL of the journal's database,
    where it is not SQLite.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    task: TaskPlan
    space: Annotated[InstanceOf[Space], BeforeValidator(_read_space)] = AUTO_SPACE
    training: TrainingPlan = Field(default_factory=TrainingPlan)
    search: SearchPlan = Field(default_factory=SearchPlan)
    budget: BudgetPlan = Field(default_factory=BudgetPlan)
    report: ReportPlan = Field(default_factory=ReportPlan)
    tracking: TrackingPlan = Field(default_factory=TrackingPlan)
    storage: str = "runs"
    study: str | None = Field(default=None, repr=False)
    base: Path = Field(default_factory=Path.cwd)
    source: Path | None = None

    @field_validator("name")
    @classmethod
    def _is_folder_name(cls, name: str) -> str:
        problem = name_problem(name)
        if problem is not None:
            raise problem_error(problem)
        return name

    @model_validator(mode="after")
    def _fits_together(self) -> "Plan":
        problems = Problems()
        plan_problems(self.task, self.space, self.training, self.search, self.report, problems)
        secret_problems(self.to_plain(), problems)
        problems.raise_if_any(SourceLocations(str(self.source or "plan")))
        return self

    def continuing(self, begun: "Plan") -> "Plan":
        """This plan for a run that began as ``begun``: ``auto`` stands for what was chosen then."""
        keys = [key for key in ("epochs", "precision") if getattr(self.training, key) == "auto"]
        training = self.training.model_copy(update={key: getattr(begun.training, key) for key in keys})
        named = [key for key in AUTO_OPTIONS if getattr(self.task, key) == "auto"]
        task = self.task.model_copy(update={key: getattr(begun.task, key) for key in named})
        space = begun.space if self.space.is_auto else self.space
        patience = begun.space.values.get("early_stopping_patience")
        if patience is not None and not space.gives("early_stopping_patience"):
            space = space.with_value("early_stopping_patience", patience)
        return self.model_copy(update={"task": task, "training": training, "space": space})

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives; the first is the task's metric."""
        return objectives_of(self.task, self.search)

    @property
    def baselines(self) -> tuple[str, ...]:
        """The baselines by name, each once: ``report.baselines`` with the task's floors in place of ``floors``."""
        of_task = TASK_KINDS[self.task.kind].floors
        named = [(of_task if name == FLOORS else (name,)) for name in self.report.baselines]
        return tuple(dict.fromkeys(name for names in named for name in names))

    @property
    def floors(self) -> tuple[str, ...]:
        """The baselines that need no neural network, besides the majority."""
        return tuple(name for name in self.baselines if name in TASK_KINDS[self.task.kind].floors)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for options that have no effect in this plan."""
        return unused_option_warnings(self.task, self.space, self.training, self.search, self.budget, self.report)

    @property
    def longest_task(self) -> TaskPlan:
        """The task with the longest texts that it may have to generate."""
        choices, own = self.report.generation, self.task.generation
        if choices is None or own is None:
            return self.task
        longest = max(own.max_new_tokens, *choices.max_new_tokens, 1)
        return self.task.model_copy(update={"generation": own.model_copy(update={"max_new_tokens": longest})})

    @property
    def max_evaluations(self) -> int:
        """Evaluations of the longest trial."""
        return self.space.largest("epochs", self.training.num_epochs) * self.training.evaluations_per_epoch

    @property
    def mean_epochs(self) -> float:
        """Epochs of a trial that draws the middle of its range, or the mean of its choices."""
        return fmean(self.space.possible("epochs", self.training.num_epochs))

    @property
    def ranks_stopped_trials(self) -> bool:
        """Whether a pruner, freeze_thaw or a limit on time may stop a trial, which its best checkpoint then ranks.

        With several objectives none is: a stopped trial does not have all of them.
        """
        stops = self.search.pruner != "none" or self.search.sampler == "freeze_thaw"
        return len(self.objectives) == 1 and (stops or self.budget.limits_time)

    def to_plain(self) -> dict[str, Any]:
        """The resolved plan as plain data: every default spelled out, ``base`` absolute, ``source`` left out."""
        sections = self.model_dump(mode="json", exclude={"space", "source", "base", "name", "storage", "study"})
        data = sections["task"]["data"]
        sections["task"]["data"] = {key: value for key, value in data.items() if value not in (None, [])}
        # Drop keys of other kinds, and keys that were not given and have no default.
        sections["task"] = {k: v for k, v in sections["task"].items() if v is not None or k == "revision"}
        return {
            "name": self.name,
            "task": sections["task"],
            "space": self.space.to_plain(),
            **{key: section for key, section in sections.items() if key != "task"},
            "storage": self.storage,
            **({} if self.study is None else {"study": self.study}),
            "base": str(self.base),
        }

    def to_yaml(self) -> str:
        """The resolved plan as YAML; ``parse_plan`` gives an equal plan from it, in any folder."""
        return write_yaml(self.to_plain())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all settings that affect trials; not of budget, report, tracking, storage and study."""
        text = json.dumps(self._result_settings(), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, older: "Plan") -> list[str]:
        """Settings in ``fingerprint`` that differ from ``older``, one entry a key: ``training.epochs: 5, was 3``."""
        ours, theirs = _flat(self._result_settings()), _flat(older._result_settings())
        keys = [*ours, *(key for key in theirs if key not in ours)]
        return [
            f"{key}: {_format_setting(ours, key)}, was {_format_setting(theirs, key)}"
            for key in keys
            # repr distinguishes 1 from 1.0 and from true; the keys are in order already.
            if repr(ours.get(key)) != repr(theirs.get(key))
        ]

    def _result_settings(self) -> dict[str, Any]:
        plain = {key: value for key, value in self.to_plain().items() if key not in _WITHOUT_INFLUENCE}
        # The settings of the prefix cache change no result.
        training = {key: value for key, value in plain["training"].items() if not key.startswith("prefix_cache")}
        return {**plain, "training": training}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.to_plain() == other.to_plain()

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def name_problem(name: object) -> Problem | None:
    """What is wrong with a plan's name, which becomes a folder name; None when nothing is."""
    if isinstance(name, str) and re.fullmatch(NAME_PATTERN, name):
        return None
    text = (
        f"name: expected letters, digits, '.', '_' and '-', starting with a letter or digit, got {format_value(name)}"
    )
    return Problem(("name",), text, "The name becomes a folder below storage and reports; at most 100 characters.")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys to values; lists and empty mappings are values."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flat(inner, f"{prefix}.{name}" if prefix else name)
    return flat


def _format_setting(flat: dict[str, Any], key: str) -> str:
    return json.dumps(flat[key], ensure_ascii=False) if key in flat else "not there"
