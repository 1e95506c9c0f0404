"""What tutorials do: ``Trainer`` with the model class of the task, learning rate 5e-5 with linear decay, 3 epochs."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from peers.contest import CLASSES, ENTITIES, QUESTIONS, RELATIONS, Contest
from peers.encoded_rows import IGNORED, EncodedRow, Problem
from peers.encoder_head import EVALUATION_ROWS
from peers.scores import score
from torch import Tensor
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    Trainer,
    TrainingArguments,
)

_INPUTS = {"input_ids", "token_type_ids", "attention_mask"}
LEARNING_RATE, EPOCHS, BATCH_SIZE = 5e-5, 3, 32
_CLASSES: dict[str, Any] = {
    CLASSES: AutoModelForSequenceClassification,
    RELATIONS: AutoModelForSequenceClassification,
    ENTITIES: AutoModelForTokenClassification,
    QUESTIONS: AutoModelForQuestionAnswering,
}


def ordinary_trainer(contest: Contest) -> tuple[list[Any], float]:
    """Answers on test, and the score on validation."""
    problem = Problem(contest)
    labels = {} if contest.kind == QUESTIONS else {"num_labels": len(problem.labels)}
    model = _CLASSES[contest.kind].from_pretrained(contest.model, **labels)
    if contest.kind == RELATIONS:
        model.resize_token_embeddings(len(problem.tokenizer), mean_resizing=False)
    with tempfile.TemporaryDirectory(prefix="trainer-") as folder:
        arguments = TrainingArguments(
            output_dir=folder, learning_rate=LEARNING_RATE, num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH_SIZE, per_device_eval_batch_size=EVALUATION_ROWS,
            lr_scheduler_type="linear", save_strategy="no", report_to="none", disable_tqdm=True, seed=0,
            remove_unused_columns=False,
        )  # fmt: skip

        def collate(rows: list[EncodedRow]) -> dict[str, Tensor]:
            return _collated(problem, rows)

        trainer = Trainer(model, arguments, train_dataset=problem.encoded["train"], data_collator=collate)
        trainer.train()
        answers = {split: _answers(trainer, problem, split) for split in ("validation", "test")}
    return answers["test"], score(contest, answers["validation"], "validation").value


def _collated(problem: Problem, rows: list[EncodedRow]) -> dict[str, Tensor]:
    """A batch in the names of transformers."""
    features = [{"input_ids": row.ids, "token_type_ids": row.types} for row in rows]
    batch = dict(problem.tokenizer.pad(features, return_tensors="pt"))
    targets = torch.tensor([row.targets for row in rows]) if problem.reading != "words" else None
    if problem.reading == "tokens":
        assert targets is not None
        return batch | {"start_positions": targets[:, 0], "end_positions": targets[:, 1]}
    if targets is not None:
        # A label of validation or test that train lacks is wrong for everybody; the loss there is not read.
        return batch | {"labels": targets[:, 0].clamp(min=0)}
    labels = torch.full_like(batch["input_ids"], IGNORED)
    for place, row in enumerate(rows):
        labels[place, row.places] = torch.tensor(row.targets)
    return batch | {"labels": labels}


def _answers(trainer: Trainer, problem: Problem, split: str) -> list[Any]:
    """Answers to a split, from the logits of its batches."""
    rows = problem.encoded[split]
    logits: list[Tensor] = []
    trainer.model.eval()
    for start in range(0, len(rows), EVALUATION_ROWS):
        part = rows[start : start + EVALUATION_ROWS]
        batch = {name: value for name, value in _collated(problem, part).items() if name in _INPUTS}
        with torch.no_grad():
            said = trainer.model(**batch)
        if problem.reading == "tokens":
            logits += list(torch.stack([said.start_logits, said.end_logits], dim=-1))
        elif problem.reading == "words":
            logits += [one[row.places] for one, row in zip(said.logits, part, strict=True)]
        else:
            logits += list(said.logits)
    return problem.answers(split, logits)
