"""The ``task`` section of a plan: the model, the data, and what is learned from them."""

import re
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator
from pydantic_core.core_schema import ValidationInfo

from finesearch.plan.problems import Problem, did_you_mean, format_value, problem_error
from finesearch.plan.sections.csv_section import CsvPlan
from finesearch.plan.sections.generation_section import GenerationPlan
from finesearch.plan.sections.section import Section as Section
from finesearch.plan.sections.section import as_tuple
from finesearch.plan.sections.task_kinds import (
    BLEU_TOKENIZERS,
    REGRESSION,
    ROUGE_TOKENIZERS,
    TASK_KINDS,
    Goal,
    TaskKind,
)
from finesearch.plan.space.parameters import Pooling

Text = Annotated[str, Field(min_length=1)]
_PATH_SCHEMA = {
    "anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
}
Paths = Annotated[tuple[Text, ...], BeforeValidator(partial(as_tuple, lone=str)), WithJsonSchema(_PATH_SCHEMA)]
_NAMES_SCHEMA = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 2, "uniqueItems": True}
Names = Annotated[tuple[Text, ...], BeforeValidator(as_tuple), WithJsonSchema(_NAMES_SCHEMA)]
Builtin = Literal["standard-library-docstrings"]
Format = Literal["auto", "csv", "jsonl", "json", "parquet", "arrow"]


class DataPlan(Section):
    """Where the rows come from: exactly one of files (``train`` …), ``folder``, ``hub`` and ``builtin``.

    Paths are relative to the plan's ``base``. An empty tuple of files means that the split is not given.
    """

    train: Annotated[Paths, Field(description="A file, or a list of files, with the training rows.")] = ()
    validation: Annotated[Paths, Field(description="Files with the validation rows; cut from train if absent.")] = ()
    test: Annotated[Paths, Field(description="Files with the test rows; cut from train if absent.")] = ()
    folder: Annotated[Text | None, Field(description="A folder that datasets' save_to_disk wrote.")] = None
    hub: Annotated[Text | None, Field(description="Id of a data set on the hub.")] = None
    config: Annotated[Text | None, Field(description="Configuration of the hub's data set.")] = None
    revision: Annotated[Text | None, Field(description="Revision of the hub's data set.")] = None
    builtin: Annotated[Builtin | None, Field(description="Data that needs no file.")] = None
    format: Annotated[Format, Field(description="Format of the files; auto goes by their names.")] = "auto"
    csv: Annotated[CsvPlan | None, Field(description="How CSV and TSV files are written.")] = None
    validation_fraction: Annotated[
        float, Field(gt=0.0, lt=1.0, description="Share of the rows cut off for validation where no split is given.")
    ] = 0.1
    test_fraction: Annotated[
        float,
        Field(
            gt=0.0,
            lt=1.0,
            validate_default=True,
            description="Share of the rows cut off for test where no split is given.",
        ),
    ] = 0.1
    evaluation_rows: Annotated[
        int | None, Field(ge=1, description="Rows of validation and of test that are scored at most; default: all.")
    ] = None
    # The last field has the check over all sources, since the others have been validated by then.
    split_seed: Annotated[int, Field(ge=0, validate_default=True, description="Seed of the cuts.")] = 0

    @field_validator("test_fraction")
    @classmethod
    def _fractions_leave_rows(cls, test_fraction: float, info: ValidationInfo) -> float:
        validation_fraction = info.data.get("validation_fraction", 0.0)
        if validation_fraction + test_fraction >= 1.0:
            text = (
                f"task.data: validation_fraction {validation_fraction:g} and test_fraction {test_fraction:g} "
                "leave no rows to train on"
            )
            raise problem_error(Problem(("test_fraction",), text, "Together they must stay below 1."))
        return test_fraction

    @field_validator("split_seed")
    @classmethod
    def _one_source(cls, split_seed: int, info: ValidationInfo) -> int:
        wrong = [name for name in ("train", "validation", "test", "folder", "hub", "builtin") if name not in info.data]
        given = [name for name in ("train", "folder", "hub", "builtin") if info.data.get(name)]
        problems: list[Problem] = []
        if len(given) > 1:
            text = f"task.data: expected one source, got {' and '.join(given)}"
            problems.append(Problem((given[1],), text, "Keep one of train, folder, hub and builtin."))
        for name in ("validation", "test"):
            if info.data.get(name) and "train" not in given and "train" not in wrong:
                problems.append(Problem((name,), f"task.data: '{name}' is given without 'train'", "Give 'train' too."))
        if not given and not wrong and not problems:
            advice = "Give train (a file), folder, hub, or 'builtin: standard-library-docstrings'."
            problems.append(Problem((), "task.data: expected a source of rows, got none", advice))
        for name in ("config", "revision"):
            if info.data.get(name) and not info.data.get("hub") and "hub" not in wrong:
                text = f"task.data: '{name}' belongs to a hub data set, and no 'hub' is given"
                problems.append(Problem((name,), text, f"Remove '{name}', or give 'hub'."))
        if problems:
            raise problem_error(*problems)
        return split_seed

    @property
    def source(self) -> Literal["files", "folder", "hub", "builtin"]:
        """Which of the four sources the plan gives."""
        if self.train:
            return "files"
        return "folder" if self.folder else "hub" if self.hub else "builtin"

    @property
    def files(self) -> dict[str, tuple[str, ...]]:
        """Split name to its files, for the splits that are given."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: files for split, files in splits.items() if files}


def _choice_problems(kind: TaskKind, columns: dict[str, str]) -> list[Problem]:
    """Problems of a kind that requires one of several groups of roles."""
    begun = [group for group in kind.column_choices if any(role in columns for role in group)]
    if not kind.column_choices or (len(begun) == 1 and all(role in columns for role in begun[0])):
        return []
    groups = ", or ".join(" and ".join(f"'{role}'" for role in group) for group in kind.column_choices)
    given = ", ".join(f"'{role}'" for group in begun for role in group if role in columns) or "none of them"
    text = f"task.columns: {kind.kind} needs {groups}, got {given}"
    return [Problem(("columns",), text, "Give one of these groups whole, and no role of the other.")]


LABELS = "labels"
"""Name of the column of lists that is made of several columns of 0 and 1."""
_FORMS = [form for kind in TASK_KINDS.values() for form in kind.form_names]
_METRICS = sorted(
    {metric for kind in TASK_KINDS.values() for form in (None, *kind.forms) for metric in kind.metrics_of(form)}
)
_ROLES: dict[str, dict[str, Any]] = {
    role: {"type": "string", "minLength": 1, "description": f"Name of the column that holds the {role}."}
    for kind in TASK_KINDS.values()
    for role in kind.columns
}
_ROLES["label"] = {
    "anyOf": [{"type": "string", "minLength": 1}, _NAMES_SCHEMA],
    "description": "Name of the column that holds the label; or, in form multi-label, of several columns of 0 and 1.",
}
_COLUMNS_SCHEMA = {"type": "object", "properties": _ROLES, "additionalProperties": False}


OWN_METRIC = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
"""A metric of the user's own: ``package.module:name``."""


def _is_own_metric(name: str) -> bool:
    return re.fullmatch(OWN_METRIC, name) is not None


class TaskPlan(Section):
    """What is fine-tuned, on what, and which metric decides.

    ``columns`` maps a role of the task's kind (``text``) to the column of the data that holds it.
    """

    kind: Annotated[str, Field(description="Kind of task.", json_schema_extra={"enum": sorted(TASK_KINDS)})]
    model: Annotated[Text, Field(description="Hub id, folder, or package://NAME/FOLDER of an installed package.")]
    revision: Annotated[Text | None, Field(description="Revision of the hub's model.")] = None
    data: Annotated[DataPlan, Field(description="Where the rows come from.")]
    columns: Annotated[
        dict[str, Text], WithJsonSchema(_COLUMNS_SCHEMA), Field(description="Which column of the data holds what.")
    ]
    form: Annotated[
        str | None,
        Field(
            validate_default=True,
            description="What the labels are: one name, a list of names, or a number; default: the kind's first form.",
            json_schema_extra={"enum": [*_FORMS, None]},
        ),
    ] = None
    metric: Annotated[
        str,
        Field(
            validate_default=True,
            description="Metric that ranks; default: the kind's own. `package.module:name` is a function of your own.",
            json_schema_extra={"anyOf": [{"enum": _METRICS}, {"pattern": OWN_METRIC}]},
        ),
    ] = ""
    metric_goal: Annotated[
        Goal | None,
        Field(
            validate_default=True,
            description="Whether larger (max) or smaller values of a function of your own are better; default: max.",
        ),
    ] = None
    target_scaling: Annotated[
        Literal["auto", "standard", "none"] | None,
        Field(
            validate_default=True,
            description="Form regression: whether the model learns numbers less train's mean, in units of its standard "
            "deviation; predictions, scores and exports have the data's scale. auto: standard.",
        ),
    ] = None
    max_length: Annotated[int, Field(ge=4, description="Longest input in tokens; longer ones are cut.")] = 128
    pooling: Annotated[
        Pooling | None,
        Field(
            validate_default=True,
            description="How token states become the vector that a text is classified by. auto: as the model's folder "
            "asks, own where it says nothing; own: by the head of the architecture's class in transformers.",
        ),
    ] = None
    positive: Annotated[
        Text | None,
        Field(
            validate_default=True,
            description="Class that metrics of one class (f1, roc_auc, ...) count; default: the rarer of two.",
        ),
    ] = None
    label_names: Annotated[
        Names | None,
        Field(
            validate_default=True,
            description="Names of the numbers 0, 1, ... in the column of labels, tags or relations.",
        ),
    ] = None
    label_columns: Annotated[
        Names | None,
        Field(
            validate_default=True,
            description="Form multi-label: columns of 0 and 1, one for each label. A list in columns.label means this.",
        ),
    ] = None
    no_relation: Annotated[
        Text | None,
        Field(description="Relation that means none and is left out of F1; 'no_relation' where the data has it."),
    ] = None
    stride: Annotated[
        int | None,
        Field(
            ge=0,
            validate_default=True,
            description="Tokens that two windows of a long context share; default: a third of max_length.",
        ),
    ] = None
    max_answer_length: Annotated[
        int | None, Field(ge=1, validate_default=True, description="Longest answer that is given, in tokens.")
    ] = None
    chat_template: Annotated[
        Text | None,
        Field(validate_default=True, description="auto: the model's own; plain: roles before turns; or Jinja text."),
    ] = None
    system: Annotated[
        Text | None,
        Field(validate_default=True, description="System prompt of conversations that have none of their own."),
    ] = None
    # Options of some kinds: ``TaskKind.options`` lists which, with their defaults. None: not given.
    max_target_length: Annotated[
        int | None, Field(ge=2, validate_default=True, description="Longest target in tokens; longer ones are cut.")
    ] = None
    prefix: Annotated[str | None, Field(validate_default=True, description="Text before each source.")] = None
    separator: Annotated[
        str | None,
        Field(validate_default=True, description="Text between source and target; causal models only."),
    ] = None
    source_language: Annotated[
        Text | None, Field(validate_default=True, description="The source's language, as the tokenizer names it.")
    ] = None
    target_language: Annotated[
        Text | None,
        Field(
            validate_default=True,
            description="The target's language, as the tokenizer names it; generation opens with it.",
        ),
    ] = None
    metric_tokenizer: Annotated[
        str | None,
        Field(
            validate_default=True,
            description="What BLEU or ROUGE counts as words. auto: by the scripts of the validation answers; BLEU: a "
            "tokenizer of sacrebleu; ROUGE: latin (a-z and digits) or unicode (words of any script).",
            json_schema_extra={"enum": ["auto", *BLEU_TOKENIZERS, *ROUGE_TOKENIZERS, None]},
        ),
    ] = None
    generation: Annotated[
        GenerationPlan | None, Field(validate_default=True, description="How text is generated when it is scored.")
    ] = None

    verbalizers: Annotated[
        dict[str, Text] | None,
        Field(validate_default=True, description="What prompts call a label; default: its name."),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _label_columns_apart(cls, data: Any) -> Any:
        """A list under ``columns.label`` becomes ``label_columns``, and the column of lists that is made of them."""
        columns = data.get("columns") if isinstance(data, dict) else None
        if isinstance(columns, dict) and isinstance(columns.get("label"), list | tuple):
            label_columns = list(columns["label"])
            return {**data, "columns": {**columns, "label": LABELS}, "label_columns": label_columns}
        return data

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, kind: str) -> str:
        if kind not in TASK_KINDS:
            text = f"task.kind: unknown kind of task {format_value(kind)}"
            raise problem_error(Problem(("kind",), text, did_you_mean(kind, TASK_KINDS)))
        return kind

    @field_validator("columns")
    @classmethod
    def _known_roles(cls, columns: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        kind = TASK_KINDS.get(info.data.get("kind", ""))
        if kind is None:
            return columns
        problems = [
            Problem(("columns", role), f"unknown column role '{role}' of {kind.kind}", did_you_mean(role, kind.columns))
            for role in columns
            if role not in kind.columns
        ]
        for role in kind.required_columns:
            if role not in columns:
                text = f"task.columns: {kind.kind} needs '{role}': the name of a column of the data"
                problems.append(Problem(("columns",), text, f"Write '{role}: NAME'."))
        problems += _choice_problems(kind, columns)
        if "input" in columns and "messages" in columns:
            text = "task.columns: 'input' belongs to 'instruction' and 'output', and 'messages' is given"
            problems.append(Problem(("columns", "input"), text, "Remove 'input'."))
        first: dict[str, str] = {}
        for role, column in columns.items():
            if first.setdefault(column, role) != role:
                text = f"task.columns: '{first[column]}' and '{role}' are both the column '{column}'"
                problems.append(Problem(("columns", role), text, "Give each role a column of its own."))
        if problems:
            raise problem_error(*problems)
        return columns

    @field_validator("form")
    @classmethod
    def _known_form(cls, form: str | None, info: ValidationInfo) -> str | None:
        kind = TASK_KINDS.get(info.data.get("kind", ""))
        if kind is None:
            return form
        if form is None:
            return kind.default_form
        if not kind.form_names:
            text = f"task.form: {kind.kind} has one form only, got {format_value(form)}"
            raise problem_error(Problem(("form",), text, "Remove 'form'."))
        if form not in kind.form_names:
            text = f"task.form: unknown form {format_value(form)} of {kind.kind}"
            raise problem_error(Problem(("form",), text, did_you_mean(form, kind.form_names)))
        return form

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str, info: ValidationInfo) -> str:
        kind = TASK_KINDS.get(info.data.get("kind", ""))
        if kind is None or "form" not in info.data:
            return metric
        form = info.data["form"]
        known = kind.metrics_of(form)
        if metric == "":
            return kind.default_metric_of(form)
        if _is_own_metric(metric):
            return metric
        if metric not in known:
            of = f"{kind.kind}, form {form}" if form in kind.forms else kind.kind
            text = f"task.metric: unknown metric '{metric}' of {of}"
            raise problem_error(Problem(("metric",), text, did_you_mean(metric, known)))
        return metric

    @field_validator("metric_goal")
    @classmethod
    def _goal_of_own_metric(cls, goal: Goal | None, info: ValidationInfo) -> Goal | None:
        metric = info.data.get("metric", "")
        if goal is not None and metric and not _is_own_metric(metric):
            text = f"task.metric_goal: {metric} knows which direction is better, got {format_value(goal)}"
            raise problem_error(Problem(("metric_goal",), text, "Remove it: it belongs to a function of your own."))
        return goal

    @property
    def has_own_metric(self) -> bool:
        """Whether a function of the user's own ranks."""
        return _is_own_metric(self.metric)

    @property
    def goals(self) -> dict[str, Goal]:
        """Which direction of each metric is better."""
        own: dict[str, Goal] = {self.metric: self.metric_goal or "max"} if self.has_own_metric else {}
        return TASK_KINDS[self.kind].metrics_of(self.form) | own

    @field_validator("target_scaling")
    @classmethod
    def _scaling_of_numbers(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "form" not in info.data:
            return value
        if info.data["form"] == REGRESSION:
            return value or "auto"
        if value is not None:
            text = f"task.target_scaling: expected task.form {REGRESSION}, got {format_value(info.data['form'])}"
            raise problem_error(Problem(("target_scaling",), text, "Remove it: it belongs to numbers."))
        return None

    @field_validator(
        "max_target_length",
        "metric_tokenizer",
        "prefix",
        "separator",
        "source_language",
        "target_language",
        "generation",
        "verbalizers",
        "label_names",
        "label_columns",
        "positive",
        "pooling",
        "stride",
        "max_answer_length",
        "chat_template",
        "system",
    )
    @classmethod
    def _option_of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        kind = TASK_KINDS.get(info.data.get("kind", ""))
        if kind is None:
            return value
        name = str(info.field_name)
        if name not in kind.options:
            if value is None:
                return None
            takers = " and ".join(sorted(k.kind for k in TASK_KINDS.values() if name in k.options))
            text = f"task.{name}: {kind.kind} has no such option"
            raise problem_error(Problem((name,), text, f"Remove it: it belongs to {takers}."))
        if value is not None:
            limit = info.data.get("max_length")
            if name == "stride" and limit is not None and value >= limit:
                text = f"task.stride: expected fewer tokens than task.max_length ({limit}), got {value}"
                raise problem_error(Problem((name,), text, "Two windows cannot share all that one holds."))
            if name == "positive" and info.data.get("form") in kind.forms:
                text = f"task.positive: expected task.form {kind.default_form}, got {info.data['form']}"
                raise problem_error(Problem((name,), text, "Remove it: it belongs to metrics of one class."))
            if name == "label_columns" and info.data.get("form") not in (None, "multi-label"):
                text = f"task.label_columns: expected task.form multi-label, got {format_value(info.data['form'])}"
                raise problem_error(Problem((name,), text, "Set 'form: multi-label', or name one column of labels."))
            if name == "label_columns" and (both := set(value) & set(info.data.get("columns", {}).values())):
                text = f"task.label_columns: {format_value(min(both))} is another role's column too"
                raise problem_error(Problem((name,), text, "Give each role columns of its own."))
            if name in ("label_names", "label_columns") and len(set(value)) < max(2, len(value)):
                text = f"task.{name}: expected at least two different names, got {format_value(list(value))}"
                raise problem_error(Problem((name,), text, "Give each name once."))
            if name == "metric_tokenizer" and value not in (known := ("auto", *kind.metric_tokenizers)):
                text = f"task.metric_tokenizer: unknown tokenizer {format_value(value)} of {kind.kind}"
                raise problem_error(Problem((name,), text, did_you_mean(value, known)))
            return value
        return GenerationPlan() if name == "generation" else kind.options[name]
