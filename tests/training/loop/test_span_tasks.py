"""Tasks about spans, trained for real: token rows are not examples, and a checkpoint says the same again."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finesearch.data import load_splits
from finesearch.plan import DataPlan, TaskPlan, TrainingPlan
from finesearch.tasks import make_task
from finesearch.training.export.export_checkpoint import export_checkpoint
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.trial_types import TrialResult
from tiny_models import WORDS, write_tiny_model
from training_cases import recipe, run, trial

GOOD, BAD = ("good", "great", "lovely"), ("bad", "poor", "awful")
OTHERS = tuple(sorted({*WORDS} - {*GOOD, *BAD}))


def write_rows(folder: Path, rows: dict[str, list[dict[str, Any]]]) -> Path:
    write_tiny_model(folder / "model")
    for split, some in rows.items():
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, some)) + "\n", encoding="utf-8")
    return folder


def task_plan(kind: str, columns: dict[str, str], **fields: Any) -> TaskPlan:
    data = DataPlan(**{split: (f"{split}.jsonl",) for split in ("train", "validation", "test")})
    settings = {"kind": kind, "model": "model", "data": data, "columns": columns, "max_length": 16, **fields}
    return TaskPlan(**settings)


def train(home: Path, plan: TaskPlan, folder: Path, **recipe: Any) -> tuple[TrialRunner, TrialResult]:
    training = TrainingPlan(epochs=6, batch_size=16, precision="fp32")
    work = TrialRunner(plan, training, str(home), str(home / "cache"), plan.metric, "max")
    settings = {"epochs": 6, "learning_rate": 1e-2, "weight_decay": 0.0, "label_smoothing": 0.0, **recipe}
    return work, run(work, trial(folder, **settings))[0]


def baseline(home: Path, plan: TaskPlan) -> float:
    """The metric of the majority on test."""
    task, splits = make_task(plan), load_splits(plan, home)
    facts = task.read(splits)
    true = {split: task.answers(splits.plain_rows(split), facts) for split in ("train", "test")}
    return task.score(task.majority(true["train"], len(true["test"])), true["test"])[plan.metric]


def tagged_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Texts of up to three windows with words of praise and blame in them."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        tokens = [draw.choice(draw.choice((GOOD, BAD, OTHERS, OTHERS))) for _ in range(draw.randint(4, 40))]
        tags = ["B-POS" if t in GOOD else "B-NEG" if t in BAD else "O" for t in tokens]
        rows.append({"tokens": tokens, "tags": tags})
    return rows


def test_entities_are_learned_and_scored_again_over_windows(tmp_path: Path) -> None:
    rows = {"train": tagged_rows(60, 0), "validation": tagged_rows(20, 1), "test": tagged_rows(20, 2)}
    home = write_rows(tmp_path / "home", rows)
    plan = task_plan("token-classification", {"tokens": "tokens", "tags": "tags"})
    work, result = train(home, plan, tmp_path / "trial")
    assert result.best is not None
    assert result.best.metrics["f1"] > 0.8 > baseline(home, plan) == 0.0
    again = evaluate_checkpoint(str(result.checkpoint), "validation", plan, work.training, home, work.cache)
    assert again.metrics == result.best.metrics
    # One prediction an example, though most texts are longer than max_length.
    assert len(again.predictions) == len(again.references) == 20
    assert len(work._context.tokens.validation) > 30


def test_an_exported_tagger_is_one_of_transformers_own(tmp_path: Path) -> None:
    from transformers import AutoModelForTokenClassification

    rows = {split: tagged_rows(16, seed) for seed, split in enumerate(("train", "validation", "test"))}
    home = write_rows(tmp_path / "home", rows)
    plan = task_plan("token-classification", {"tokens": "tokens", "tags": "tags"})
    _, result = train(home, plan, tmp_path / "trial", epochs=1)
    model = AutoModelForTokenClassification.from_pretrained(export_checkpoint(str(result.checkpoint), tmp_path / "out"))
    assert model.config.id2label == {0: "O", 1: "B-NEG", 2: "I-NEG", 3: "B-POS", 4: "I-POS"}


def test_a_batch_without_any_tagged_word_changes_nothing_and_divides_by_nothing(tmp_path: Path) -> None:
    # U+200B has no piece in this vocabulary, so that three texts of four have no word to learn.
    empty = {"tokens": ["\u200b"], "tags": ["O"]}
    rows = {"train": [*[empty] * 33, {"tokens": ["good"], "tags": ["B-POS"]}], "validation": [empty], "test": [empty]}
    home = write_rows(tmp_path / "home", rows)
    plan = task_plan("token-classification", {"tokens": "tokens", "tags": "tags"})
    _, result = train(home, plan, tmp_path / "trial", epochs=1)
    assert result.history[-1].metrics == pytest.approx({"precision": 0.0, "recall": 0.0, "f1": 0.0})


RELATION = {"tokens": "tokens", "head": "head", "tail": "tail", "relation": "relation"}


def related_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Two words among others, which praise, blame or do neither: that is the relation."""
    draw = random.Random(seed)
    words = {"praised": GOOD, "blamed": BAD, "no_relation": OTHERS}
    rows = []
    for number in range(count):
        relation = sorted(words)[number % 3]
        tokens = [draw.choice(draw.choice((words[relation], OTHERS))) for _ in range(draw.randint(4, 18))]
        head, tail = ([place, place + 1] for place in draw.sample(range(len(tokens)), 2))
        rows.append({"tokens": tokens, "head": head, "tail": tail, "relation": relation})
    return rows


@pytest.fixture(scope="module")
def related(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = {"train": related_rows(160, 0), "validation": related_rows(40, 1), "test": related_rows(40, 2)}
    return write_rows(tmp_path_factory.mktemp("related"), rows)


@pytest.mark.parametrize(
    "adaptation", [{}, {"adaptation": "freeze_embeddings"}, {"adaptation": "head_only"}], ids=["full", "bottom", "head"]
)
def test_marker_rows_are_trained_and_kept_whatever_is_frozen(
    adaptation: dict[str, Any], related: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    plan = task_plan("relation-extraction", RELATION, max_length=24)
    work, result = train(related, plan, tmp_path, epochs=1, **adaptation)
    before, _ = work._context.base.build(recipe(**adaptation), seed=3)
    table = "bert.embeddings.word_embeddings"
    kept = load_file(Path(str(result.checkpoint)) / "model.safetensors")
    drawn = before.get_parameter(f"{table}.added.weight")
    assert kept[f"{table}.added.weight"].shape == (4, 32)
    assert not torch.isclose(kept[f"{table}.added.weight"], drawn).any(dim=1).all()
    assert (f"{table}.weight" in kept) == (not adaptation)
    again = evaluate_checkpoint(str(result.checkpoint), "validation", plan, work.training, related, work.cache)
    assert result.best is not None
    assert again.metrics == result.best.metrics


@pytest.fixture(scope="module")
def relation_trial(
    related: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrialRunner, TrialResult, TaskPlan]:
    plan = task_plan("relation-extraction", RELATION, max_length=24)
    work, result = train(related, plan, tmp_path_factory.mktemp("trial"), learning_rate=5e-3)
    return work, result, plan


def test_relations_are_learned(related: Path, relation_trial: tuple[TrialRunner, TrialResult, TaskPlan]) -> None:
    _, result, plan = relation_trial
    assert result.best is not None
    assert result.best.metrics["micro_f1"] > baseline(related, plan) + 0.1


def test_an_exported_relation_model_predicts_the_same_by_the_code_that_stands_beside_it(
    related: Path, relation_trial: tuple[TrialRunner, TrialResult, TaskPlan], tmp_path: Path
) -> None:
    work, result, plan = relation_trial
    exported = export_checkpoint(str(result.checkpoint), tmp_path / "out")
    scored = evaluate_checkpoint(str(result.checkpoint), "test", plan, work.training, related, work.cache)
    rows = [json.loads(line) for line in (related / "test.jsonl").read_text().splitlines()]
    texts = [marked_by_hand(row) for row in rows if len(row["tokens"]) <= 16]
    expected = [name for row, name in zip(rows, scored.predictions, strict=True) if len(row["tokens"]) <= 16]
    _, code = (exported / "README.md").read_text().split("```python\n")
    code = code.removesuffix("```\n") + "\nimport sys\nprint([relation(text) for text in eval(sys.argv[1])])\n"
    code += 'print(any(name.split(".")[0] == "finesearch" for name in sys.modules))\n'
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-W", "ignore", "-c", code, repr(texts)]
    done = subprocess.run(command, env=environment, cwd=exported, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    predicted, knows_us = done.stdout.splitlines()[-2:]
    assert eval(predicted) == expected
    assert len(set(expected)) > 1
    assert knows_us == "False"
    config = json.loads((exported / "config.json").read_text())
    assert config["architectures"] == ["BertForRelationExtraction"]
    assert "num_added_tokens" not in config


def marked_by_hand(row: dict[str, Any]) -> str:
    """A row as the README of an export writes it."""
    words = list(row["tokens"])
    for entity, span in (("E1", row["head"]), ("E2", row["tail"])):
        words[span[0]] = f"[{entity}] {words[span[0]]} [/{entity}]"
    return " ".join(words)


@pytest.mark.parametrize("architecture", ["roberta", "distilbert", "deberta-v2", "modernbert", "llama"])
def test_relations_stand_on_any_architecture(architecture: str) -> None:
    import torch
    from test_adaptations import ARCHITECTURES, EXAMPLE
    from transformers import AutoConfig

    from finesearch.training.heads.relation_model import AutoModelForRelationExtraction
    from finesearch.training.model.module_structure import num_blocks, trace_structure

    settings = {**ARCHITECTURES[architecture][0], "num_labels": 3, "added_tokens_start": 118, "num_added_tokens": 6}
    model = AutoModelForRelationExtraction.from_config(AutoConfig.for_model(architecture, **settings)).eval()
    inputs = {**EXAMPLE, "input_ids": torch.tensor([[1, 118, 123, 2]]), "marker_positions": torch.tensor([[1, 2]])}
    logits = model(**inputs).logits
    assert logits.shape == (1, 3)
    logits.sum().backward()
    assert model.get_input_embeddings().added.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [0, 5]
    assert num_blocks(model) == len(trace_structure(model, EXAMPLE).blocks) == 3
    model.merge_added_tokens()
    # The table of 120 rows had room for two of the six.
    assert model.get_input_embeddings().num_embeddings == model.config.vocab_size == 124
    assert torch.allclose(model(**inputs).logits, logits)


def test_an_architecture_that_no_head_can_stand_on_is_refused(tmp_path: Path) -> None:
    from transformers import BartConfig

    from finesearch.errors import ModelError
    from finesearch.training.model.model_config import build_skeleton

    with pytest.raises(ModelError, match=r"BartConfig of .* has no output layer for relation-extraction"):
        build_skeleton(BartConfig(), "relation-extraction", tmp_path)


def test_a_vocabulary_with_a_hole_takes_no_new_tokens(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from finesearch.errors import ModelError
    from finesearch.training.model.added_tokens import add_tokens
    from tiny_models import write_tiny_tokenizer

    vocabulary = json.loads((write_tiny_tokenizer(tmp_path) / "tokenizer.json").read_text())
    del vocabulary["model"]["vocab"]["[unused]"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(vocabulary))
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(ModelError, match=r"numbers 129 tokens up to 129, so that tokens cannot be added to it"):
        add_tokens(AutoTokenizer.from_pretrained(tmp_path), ["[E1]"])
