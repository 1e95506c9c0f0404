"""Text classification whose labels are lists of names, or numbers."""

import json
from collections.abc import Callable
from typing import Any

import datasets
import pytest
import torch
from scipy import stats
from sklearn import metrics
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

from finesearch.errors import DataError
from finesearch.plan import TASK_KINDS, TaskPlan, parse_plan
from finesearch.plan.auto_choices import choose_target_scaling
from finesearch.tasks import RawSplits, Task, TaskFacts, make_task

Splits = Callable[..., RawSplits]
Plans = Callable[..., TaskPlan]
TEXTS = ["one", "two, and longer than the others", "three", "four"]
LABELS: dict[str, list[Any]] = {
    "multi-label": [["b"], ["a", "c"], ["c", "a"], ["b", "c"]],
    "regression": [0.5, 3.0, -1.25, 2.0],
}
FORMS = sorted(LABELS)


def rows(labels: list[Any]) -> dict[str, list[Any]]:
    return {"text": TEXTS[: len(labels)], "label": labels}


@pytest.fixture(params=FORMS)
def made(request: pytest.FixtureRequest, make_plan: Plans, make_splits: Splits) -> tuple[Task, RawSplits, TaskFacts]:
    plan = make_plan(form=request.param)
    splits = make_splits(*[rows(LABELS[request.param])] * 3, plan=plan)
    task = make_task(plan)
    return task, splits, task.read(splits)


def token_rows(task: Task, splits: RawSplits, facts: TaskFacts, tokenizer: Any) -> list[dict[str, Any]]:
    encoded = task.encode(splits.plain_rows("train"), tokenizer, facts)
    return [dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True)]


def batch_and_outputs(
    task: Task, splits: RawSplits, facts: TaskFacts, tokenizer: Any, model_folder: str, some: slice = slice(None)
) -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(model_folder, num_hidden_layers=1, **task.model_settings(facts))
    model = AutoModelForSequenceClassification.from_config(config).eval()
    batch = task.collate(token_rows(task, splits, facts, tokenizer)[some], tokenizer)
    return batch, model(**task.model_inputs(batch)), model


def test_the_loss_is_the_one_that_transformers_picks(
    made: tuple[Task, RawSplits, TaskFacts], tokenizer: Any, model_folder: str
) -> None:
    batch, outputs, model = batch_and_outputs(*made, tokenizer, model_folder)
    assert made[0].loss(outputs, batch).item() == pytest.approx(model(**batch).loss.item())


def test_the_loss_of_a_batch_is_the_weighted_mean_of_its_pieces(
    made: tuple[Task, RawSplits, TaskFacts], tokenizer: Any, model_folder: str
) -> None:
    task = made[0]
    parts = []
    for some in (slice(None), slice(0, 1), slice(1, 4)):
        batch, outputs, _ = batch_and_outputs(*made, tokenizer, model_folder, some)
        other = SequenceClassifierOutput(logits=outputs.logits * 1.5)
        parts.append(
            (task.weight(batch), task.loss(outputs, batch).item(), task.divergence(outputs, other, batch).item())
        )
    (total, loss, divergence), *pieces = parts
    assert total == 4
    assert sum(weight * piece for weight, piece, _ in pieces) / total == pytest.approx(loss, rel=1e-4)
    assert sum(weight * piece for weight, _, piece in pieces) / total == pytest.approx(divergence, rel=1e-3)


def test_predictions_are_json_and_score_every_metric_of_the_form(
    made: tuple[Task, RawSplits, TaskFacts], tokenizer: Any, model_folder: str
) -> None:
    task, splits, facts = made
    batch, outputs, _ = batch_and_outputs(*made, tokenizer, model_folder)
    predictions, references = task.predict(outputs, batch), task.references(token_rows(task, splits, facts, tokenizer))
    assert json.loads(json.dumps(predictions)) == predictions
    assert task.answers(splits.plain_rows("train"), facts) == references
    known = set(TASK_KINDS[task.kind].metrics_of(task.plan.form))
    assert set(task.score(predictions, references)) == known
    best, weakest = task.score(references, references), task.score(task.majority(references, 4), references)
    goals = TASK_KINDS[task.kind].metrics_of(task.plan.form)
    assert all(best[name] == pytest.approx(1.0 if goals[name] == "max" else 0.0) for name in known)
    assert all(best[name] > weakest[name] if goals[name] == "max" else best[name] < weakest[name] for name in known)
    assert all(
        task.metric(name)(predictions, references) == task.score(predictions, references)[name] for name in known
    )


def test_labels_become_numbers_and_keep_their_names(make_splits: Splits, make_plan: Plans, tokenizer: Any) -> None:
    plan = make_plan(form="multi-label")
    task, splits = make_task(plan), make_splits(*[rows(LABELS["multi-label"])] * 3, plan=plan)
    facts = task.read(splits)
    assert facts.label_names == ("a", "b", "c")
    assert task.answers(splits.plain_rows("train"), facts) == [[1], [0, 2], [0, 2], [1, 2]]
    assert [row["labels"] for row in token_rows(task, splits, facts, tokenizer)][:2] == [[0, 1, 0], [1, 0, 1]]
    assert task.model_settings(facts)["problem_type"] == "multi_label_classification"


def test_rows_without_a_label_are_all_zeros_and_counted(make_splits: Splits, make_plan: Plans, tokenizer: Any) -> None:
    plan = make_plan(form="multi-label")
    task = make_task(plan)
    splits = make_splits(rows([[], ["a"], [], ["a", "b"]]), rows([[], ["a"], ["b"], ["a"]]), rows([[]] * 4), plan=plan)
    facts = task.read(splits)
    encoded = token_rows(task, splits, facts, tokenizer)
    assert [row["labels"] for row in encoded] == [[0, 0], [1, 0], [0, 0], [1, 1]]
    assert task.references(encoded) == [[], [0], [], [0, 1]]
    assert facts.notes == (
        "2 of the 4 train rows have no label: all classes are 0 there.",
        "1 of the 4 validation rows have no label: all classes are 0 there.",
        "None of the 4 test rows has a label: F1 is 0 there, whatever is predicted.",
    )
    assert task.score([[], [0], [], [0]], [[], [0], [], [0, 1]]) == {
        "micro_f1": pytest.approx(0.8), "macro_f1": pytest.approx(0.5), "subset_accuracy": pytest.approx(0.75),
    }  # fmt: skip
    assert task.majority([[], [0], []], 2) == [[], []]


def test_declared_names_keep_their_order(make_splits: Splits, make_plan: Plans) -> None:
    plan = make_plan(form="multi-label")
    feature = datasets.List(datasets.ClassLabel(names=["z", "y", "never"]))
    splits = make_splits(*[rows([[0], [1], [0, 1], [1]])] * 3, plan=plan, label=feature)
    facts = make_task(plan).read(splits)
    assert facts.label_names == ("z", "y", "never")
    assert make_task(plan).answers(splits.plain_rows("train"), facts) == [[0], [1], [0, 1], [1]]


def test_numbers_are_read_from_text_and_whole_numbers(make_splits: Splits, make_plan: Plans) -> None:
    plan = make_plan(form="regression")
    splits = make_splits(
        rows(["1", "2.5", "-3e0", "0"]), rows(["1", "2", "3", "4"]), rows(["0", "1", "1", "0"]), plan=plan
    )
    task = make_task(plan)
    facts = task.read(splits)
    assert task.answers(splits.plain_rows("train"), facts) == [1.0, 2.5, -3.0, 0.0]
    assert facts.label_names == ()
    assert task.model_settings(facts) == {"num_labels": 1, "problem_type": "regression"}


@pytest.mark.parametrize(
    ("form", "labels", "text"),
    [
        ("multi-label", [["a"], None, ["b"], ["a"]], r"row 2: no list of labels in column 'label', expected one in"),
        ("multi-label", [[], [], [], []], r"the label column 'label' names no class in any row, expected at least two"),
        (
            "multi-label",
            [["a"], ["b", ""], ["b"], ["a"]],
            r"row 2: '' in the list of column 'label', expected the name",
        ),
        ("multi-label", [["a"], ["b", "b"], ["b"], ["a"]], r"row 2: the label 'b' stands twice in column 'label'"),
        (
            "multi-label",
            [[0.5], [1.0], [0.5], [1.0]],
            r"row 1: 0\.5 in the list of column 'label', expected the name of",
        ),
        ("multi-label", ["a", "b", "a", "b"], r"the label column 'label' holds string \(row 1: 'a'\), expected a list"),
        ("multi-label", [["a"], ["a"], ["a"], ["a"]], r"the label column 'label' names one class only, 'a', expected"),
        ("regression", [1.0, float("nan"), 2.0, 3.0], r"row 2: nan in column 'label', expected a finite number, since"),
        ("regression", ["1", "2", "high", "3"], r"row 3: 'high' in column 'label', expected a finite number, since"),
        ("regression", [1.0, None, 2.0, 3.0], r"row 2: nothing in column 'label', expected a finite number"),
        ("regression", [1.0, float("inf"), 2.0, 3.0], r"row 2: inf in column 'label', expected a finite number"),
        ("regression", [True, False, True, False], r"row 1: True in column 'label', expected a finite number"),
        (
            "regression",
            [-1, -1, -1, -1],
            r"every one of the 4 train rows has -1 in column 'label', expected numbers that",
        ),
        ("single-label", [0.5, 1.0, 0.0, 2.0], r"to learn a quantity, set `task\.form: regression`"),
        ("single-label", [["a"], ["b"], ["a"], ["b"]], r"for lists set `task\.form: multi-label`"),
    ],
)
def test_rows_that_do_not_suit_the_form_are_refused(
    form: str, labels: list[Any], text: str, make_splits: Splits, make_plan: Plans
) -> None:
    plan = make_plan(form=form)
    with pytest.raises(DataError, match=text):
        make_task(plan).read(make_splits(*[rows(labels)] * 3, plan=plan))


def test_classes_are_no_quantities(make_splits: Splits, make_plan: Plans) -> None:
    plan = make_plan(form="regression")
    splits = make_splits(*[rows([0, 1, 0, 1])] * 3, plan=plan, label=datasets.ClassLabel(names=["a", "b"]))
    with pytest.raises(DataError, match="the label column 'label' holds the names of classes, expected numbers"):
        make_task(plan).read(splits)


def test_a_name_that_train_lacks_is_refused_with_file_and_row(make_splits: Splits, make_plan: Plans) -> None:
    plan = make_plan(form="multi-label")
    known = rows([["good"], ["bad"], ["good"], ["bad"]])
    splits = make_splits(known, known, rows([["good"], ["bad"], ["good", "bd"], ["bad"]]), plan=plan)
    text = (
        r"split 'test', row 3: the test split has the label 'bd' in column 'label', which no row of train has.\n  Did"
    )
    with pytest.raises(DataError, match=text):
        make_task(plan).read(splits)


@pytest.mark.parametrize("form", FORMS)
def test_a_split_that_is_cut_needs_no_shares(form: str, make_splits: Splits, make_plan: Plans) -> None:
    plan = make_plan(form=form)
    texts, labels = [f"text {i}" for i in range(40)], [LABELS[form][i % 4] for i in range(40)]
    splits = make_splits({"text": texts, "label": labels}, plan=plan)
    assert [len(splits[split]) for split in ("train", "validation", "test")] == [32, 4, 4]
    assert not any("in the shares of" in note for note in splits.notes)


def test_multi_label_scores_are_scikit_learns(make_plan: Plans) -> None:
    predictions, references = [[0], [0, 2], [], [1]], [[0], [2], [1], [1, 2]]
    given, true = ([[int(i in row) for i in range(3)] for row in side] for side in (predictions, references))
    assert make_task(make_plan(form="multi-label")).score(predictions, references) == {
        "micro_f1": metrics.f1_score(true, given, average="micro"),
        "macro_f1": metrics.f1_score(true, given, average="macro"),
        "subset_accuracy": metrics.accuracy_score(true, given),
    }


def test_scores_of_numbers_are_scipys_and_scikit_learns(make_plan: Plans) -> None:
    predictions, references = [0.1, 0.9, 0.4, 3.0], [0.0, 1.0, 2.0, 3.0]
    task = make_task(make_plan(form="regression", metric="rmse"))
    assert task.score(predictions, references) == pytest.approx(
        {
            "pearson": stats.pearsonr(predictions, references).statistic,
            "spearman": stats.spearmanr(predictions, references).statistic,
            "rmse": metrics.root_mean_squared_error(references, predictions),
            "mae": metrics.mean_absolute_error(references, predictions),
            "r2": metrics.r2_score(references, predictions),
        }
    )
    errors = task.example_scores("mae", predictions, references)
    assert errors == pytest.approx([0.1, 0.1, 1.6, 0.0])
    assert task.score([1.5] * 4, references)["r2"] == 0.0
    assert task.scale("rmse", 1e5) == 1e5, "errors are in the unit of the numbers"
    assert {name: TASK_KINDS[task.kind].metrics_of("regression")[name] for name in ("rmse", "mae", "r2")} == {
        "rmse": "min", "mae": "min", "r2": "max",
    }  # fmt: skip


def test_the_majority_is_the_most_frequent_set_and_the_mean(make_plan: Plans) -> None:
    assert make_task(make_plan(form="multi-label")).majority([[1], [0, 2], [0, 2], [1, 2]], 2) == [[0, 2]] * 2
    assert make_task(make_plan(form="regression")).majority([1.0, 2.0, 6.0], 2) == [3.0, 3.0]


def test_a_yes_of_a_rare_class_counts_for_more(make_plan: Plans) -> None:
    task = make_task(make_plan(form="multi-label"))
    targets = [[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]]
    weights = task.class_weights(targets, TaskFacts(kind=task.kind, label_names=("a", "b", "c")))
    assert weights == [1 / 3, 3.0, 1.0]
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    batch = {"labels": torch.tensor(targets, dtype=torch.float32), "class_weights": torch.tensor(weights)}
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weights))(logits, batch["labels"])
    assert task.loss(SequenceClassifierOutput(logits=logits), batch).item() == pytest.approx(expected.item())


def test_numbers_are_standardised_by_train_and_come_back_as_they_were(
    make_splits: Splits, make_plan: Plans, tokenizer: Any
) -> None:
    train, other = [1e9 + 1, 1e9 + 2, 1e9 + 3, 1e9 + 6], [1e9, 1e9 + 3, 1e9 + 9, 1e9 + 1]
    plan = make_plan(form="regression", target_scaling="standard")
    splits, task = make_splits(rows(train), rows(other), rows(other), plan=plan), make_task(plan)
    facts = task.read(splits)
    assert facts.target_scale is not None
    assert (facts.target_scale.mean, facts.target_scale.deviation) == (1e9 + 3, 3.5**0.5)
    assert facts.notes[-1].startswith("The model learns 'label' less 1e+09, in units of 1.87083: mean and standard")
    encoded = token_rows(task, splits, facts, tokenizer)
    assert [row["labels"] for row in encoded] == pytest.approx([n / 3.5**0.5 for n in (-2, -1, 0, 3)])
    assert task.references(encoded) == task.answers(splits.plain_rows("train"), facts) == train
    assert task.combine([row["labels"] for row in encoded], encoded, facts) == pytest.approx(train, abs=1e-5)
    assert TaskFacts.model_validate_json(facts.model_dump_json()) == facts


def test_a_run_of_an_older_version_has_the_same_token_rows(
    make_splits: Splits, make_plan: Plans, tokenizer: Any
) -> None:
    plan = make_plan(form="regression")
    splits, task = make_splits(*[rows(LABELS["regression"])] * 3, plan=plan), make_task(plan)
    facts = task.read(splits)
    assert plan.target_scaling == "auto"
    assert set(facts.encoding) == {"kind", "label_names", "special_tokens"}
    assert [row["labels"] for row in token_rows(task, splits, facts, tokenizer)] == LABELS["regression"]
    with pytest.raises(ValueError, match="task.target_scaling: expected task.form regression, got 'single-label'"):
        make_plan(target_scaling="none")


def test_a_run_goes_on_with_the_scale_that_it_began_with() -> None:
    data = {"train": "a.csv", "validation": "b.csv", "test": "c.csv"}
    task = {"kind": "text-classification", "model": "m", "data": data, "columns": {"text": "t", "label": "l"}}
    plan = parse_plan(json.dumps({"name": "probe", "task": {**task, "form": "regression"}, "space": {"epochs": 1}}))
    begun, notes = choose_target_scaling(plan)
    assert notes == ("task.target_scaling auto: standard.",)
    again = parse_plan(begun.to_yaml())
    assert plan.continuing(again).task.target_scaling == "standard"
    assert plan.continuing(again).differences(again) == []
    assert plan.continuing(plan).task.target_scaling == "auto", "a run of an older version stays unscaled"
