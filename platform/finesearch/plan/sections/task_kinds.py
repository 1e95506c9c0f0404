"""The kinds of task a plan may name, with their columns and metrics. A new kind is one more entry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Goal = Literal["max", "min"]

ONE_CLASS_METRICS = ("f1", "precision", "recall")
"""Metrics of single-label classification that count one class, ``task.positive``."""
PROBABILITY_METRICS = ("roc_auc", "average_precision", "log_loss")
"""Metrics of single-label classification over probabilities; predictions are probabilities if one of them ranks."""
CORRELATIONS = ("pearson", "spearman")
REGRESSION = "regression"
"""The form of text classification whose labels are numbers."""
LATIN, UNICODE = "latin", "unicode"
BLEU_TOKENIZERS = ("13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "flores101", "flores200", "spBLEU-1K", "none")
"""Tokenizers of BLEU, by sacrebleu's names."""
ROUGE_TOKENIZERS = (LATIN, UNICODE)


@dataclass(frozen=True)
class Form:
    """One of several forms that the answers of a kind can have, with metrics of its own."""

    doc: str
    metrics: dict[str, Goal]
    default_metric: str


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """What a plan can say about one kind of task.

    ``required_columns`` and ``optional_columns`` are roles; the plan maps a role to a column of the data.
    ``column_choices`` are groups of roles; a plan gives all roles of exactly one group.
    ``metrics`` maps each quality metric of the default form to its better direction; ``forms`` are the other forms,
    empty for a kind whose answers have one form.
    ``placeholders`` are allowed in prompt templates, a role of an optional column only where the plan gives it;
    ``asked`` is the placeholder of the answer.
    ``conditional_metrics`` are scored only where ``metric`` or another key of the plan asks for them.
    ``teacher_forced_metrics`` score true answers that the model reads, not text that it generates.
    ``floors`` are the baselines without a neural network, by name in ``report.baselines``, the quickest first.
    ``metric_tokenizers`` are what ``metric_tokenizer`` may name, beside ``auto``.
    ``options`` are the keys of ``task`` that only some kinds take, with their defaults (``generation``: its section's).
    """

    kind: str
    doc: str
    required_columns: tuple[str, ...]
    optional_columns: tuple[str, ...]
    metrics: dict[str, Goal]
    default_metric: str
    floors: tuple[str, ...]
    column_choices: tuple[tuple[str, ...], ...] = ()
    default_form: str | None = None
    forms: dict[str, Form] = field(default_factory=dict)

    def metrics_of(self, form: str | None) -> dict[str, Goal]:
        return self.forms[form].metrics if form in self.forms else self.metrics

    def default_metric_of(self, form: str | None) -> str:
        return self.forms[form].default_metric if form in self.forms else self.default_metric

    @property
    def form_names(self) -> tuple[str, ...]:
        """All forms, the default one first."""
        return (*([self.default_form] if self.default_form else []), *self.forms)

    options: Mapping[str, Any] = field(default_factory=dict)
    metric_tokenizers: tuple[str, ...] = ()
    teacher_forced_metrics: tuple[str, ...] = ()
    conditional_metrics: tuple[str, ...] = ()
    placeholders: tuple[str, ...] = ()
    asked: str = "label"

    def placeholders_of(self, columns: Mapping[str, str]) -> tuple[str, ...]:
        """Placeholders that templates of a plan with these columns may use."""
        absent = {role for role in self.optional_columns if role not in columns}
        return tuple(name for name in self.placeholders if name not in absent)

    @property
    def generates_text(self) -> bool:
        """Whether the answer is text that the model generates."""
        return "generation" in self.options

    @property
    def columns(self) -> tuple[str, ...]:
        """Every role, required ones first."""
        chosen = tuple(role for group in self.column_choices for role in group)
        return self.required_columns + chosen + self.optional_columns


TASK_KINDS: dict[str, TaskKind] = {
    kind.kind: kind
    for kind in (
        TaskKind(
            kind="text-classification",
            doc="A label, several labels or a number for a text, or for a pair of texts.",
            required_columns=("text", "label"),
            optional_columns=("text_pair",),
            metrics={
                **{name: "max" for name in ("accuracy", "macro_f1", "micro_f1", "mcc", *ONE_CLASS_METRICS)},
                "roc_auc": "max",
                "average_precision": "max",
                "log_loss": "min",
            },
            default_metric="accuracy",
            conditional_metrics=(*ONE_CLASS_METRICS, *PROBABILITY_METRICS),
            floors=("tfidf",),
            default_form="single-label",
            forms={
                "multi-label": Form(
                    doc="The label column holds a list of names, of which any number may be right, also none.",
                    metrics={"micro_f1": "max", "macro_f1": "max", "subset_accuracy": "max"},
                    default_metric="micro_f1",
                ),
                REGRESSION: Form(
                    doc="The label column holds a number.",
                    metrics={"pearson": "max", "spearman": "max", "rmse": "min", "mae": "min", "r2": "max"},
                    default_metric="pearson",
                ),
            },
            options={
                "verbalizers": None,
                "label_names": None,
                "label_columns": None,
                "positive": None,
                "pooling": "auto",
            },
            placeholders=("text", "text_pair", "labels", "label"),
        ),
        TaskKind(
            kind="token-classification",
            doc="Named entities: spans of a text, each with a label.",
            required_columns=(),
            column_choices=(("tokens", "tags"), ("text", "spans")),
            optional_columns=(),
            metrics={"precision": "max", "recall": "max", "f1": "max"},
            default_metric="f1",
            floors=("dictionary", "crf"),
            options={"verbalizers": None, "label_names": None},
            placeholders=("text", "word", "labels", "label"),
        ),
        TaskKind(
            kind="relation-extraction",
            doc="How two marked entities of a text are related.",
            required_columns=("head", "tail", "relation"),
            column_choices=(("tokens",), ("text",)),
            optional_columns=("head_type", "tail_type"),
            metrics={"micro_f1": "max", "macro_f1": "max", "accuracy": "max"},
            default_metric="micro_f1",
            floors=("tfidf",),
            options={"verbalizers": None, "label_names": None},
            placeholders=("text", "head", "tail", "labels", "label"),
        ),
        TaskKind(
            kind="question-answering",
            doc="The part of a context that answers a question, or that none does.",
            required_columns=("question", "context", "answers"),
            optional_columns=(),
            metrics={"f1": "max", "exact_match": "max"},
            default_metric="f1",
            floors=("best_sentence",),
            options={"stride": None, "max_answer_length": 30},
        ),
        TaskKind(
            kind="translation",
            doc="A text in another language.",
            required_columns=("source", "target"),
            optional_columns=(),
            metrics={"bleu": "max", "chrf": "max"},
            default_metric="bleu",
            floors=("copy", "nearest"),
            options={
                "prefix": "",
                "separator": "\n",
                "source_language": None,
                "target_language": None,
                "max_target_length": 128,
                "generation": None,
                "metric_tokenizer": "auto",
            },
            metric_tokenizers=BLEU_TOKENIZERS,
            placeholders=("source", "target"),
            asked="target",
        ),
        TaskKind(
            kind="summarization",
            doc="A short text that says what a long one does.",
            required_columns=("text", "summary"),
            optional_columns=(),
            metrics={"rouge1": "max", "rouge2": "max", "rougeL": "max"},
            default_metric="rougeL",
            floors=("lead",),
            # The prompt of GPT-2 (Radford et al., 2019).
            options={
                "prefix": "",
                "separator": "\nTL;DR: ",
                "max_target_length": 128,
                "generation": None,
                "metric_tokenizer": "auto",
            },
            metric_tokenizers=ROUGE_TOKENIZERS,
            placeholders=("text", "summary"),
            asked="summary",
        ),
        TaskKind(
            kind="dialogue",
            doc="The assistant's turns of conversations.",
            required_columns=(),
            column_choices=(("messages",), ("instruction", "output")),
            optional_columns=("input",),
            metrics={"perplexity": "min", "rougeL": "max", "bleu": "max"},
            default_metric="perplexity",
            floors=("bm25",),
            teacher_forced_metrics=("perplexity",),
            options={"chat_template": "auto", "system": None, "generation": None, "metric_tokenizer": "auto"},
            metric_tokenizers=BLEU_TOKENIZERS,
        ),
    )
}

COSTS: dict[str, str] = {
    "seconds": "training time of the trial, in seconds",
    "trainable_parameters": "number of parameters that were trained",
    "checkpoint_bytes": "size of the trial's checkpoint, in bytes",
}
"""Costs that can be a second objective; less is better."""
