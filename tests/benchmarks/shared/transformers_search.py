"""A competitor: ``Trainer.hyperparameter_search`` with Optuna, as Hugging Face documents it, or tuned by an expert.

    python transformers_search.py WORK.json

It imports nothing of finesearch. WORK.json says the work (see ``competitors.py``); what was found, and when, is written
to its ``out``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from datasets import DatasetDict, load_dataset
from shared.machine import has_native_bf16
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

ADAPTATIONS = ("full", "freeze_bottom", "head_only")


def read_rows(work: dict[str, Any], tokenizer: Any) -> tuple[DatasetDict, list[str]]:
    """The three splits, tokenised, and the names of the labels."""
    files = {split: str(Path(work["data"]) / f"{split}.csv") for split in ("train", "validation", "test")}
    rows = load_dataset("csv", data_files=files)
    names = sorted(set(rows["train"]["label"]))

    def encode(batch: dict[str, list[str]]) -> dict[str, Any]:
        encoded = dict(tokenizer(batch["text"], truncation=True, max_length=work["max_length"]))
        return {**encoded, "labels": [names.index(label) for label in batch["label"]]}

    return rows.map(encode, batched=True, remove_columns=["text", "label"]), names


def adapt(model: PreTrainedModel, adaptation: str, layers: int | None) -> PreTrainedModel:
    """Freeze what the adaptation freezes: nothing; the embeddings and the lowest layers; all but the classifier."""
    frozen: list[torch.nn.Module] = []
    if adaptation == "freeze_bottom":
        frozen = [model.base_model.embeddings, *model.base_model.encoder.layer[:layers]]
    elif adaptation == "head_only":
        frozen = [model.base_model]
    for module in frozen:
        module.requires_grad_(False)
    return model


def suggest_adaptation(trial: optuna.Trial) -> tuple[str, int | None]:
    """Which adaptation, and for freeze_bottom how many layers."""
    adaptation = trial.suggest_categorical("adaptation", ADAPTATIONS)
    return adaptation, trial.suggest_int("layers", 0, 5) if adaptation == "freeze_bottom" else None


def arguments(work: dict[str, Any], folder: str) -> TrainingArguments:
    """As it comes: what the work asks for, and defaults. An expert changes what costs time."""
    told: dict[str, Any] = {
        "output_dir": folder,
        "num_train_epochs": work["epochs"],
        "per_device_train_batch_size": work["batch_size"],
        "per_device_eval_batch_size": work["batch_size"],
        "eval_strategy": "epoch",
        "use_cpu": True,
        "seed": work["seed"],
    }
    if work.get("expert"):
        told |= {
            "train_sampling_strategy": "group_by_length",
            "bf16": has_native_bf16(),
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
            "optim": "adamw_torch_fused",
            "dataloader_pin_memory": False,
        }
    return TrainingArguments(**told)


def accuracy(predicted: Any) -> dict[str, float]:
    """Share of rows whose largest logit is the label's."""
    return {"accuracy": float((np.argmax(predicted.predictions, axis=-1) == predicted.label_ids).mean())}


class Witness(TrainerCallback):
    """Writes down each evaluation with its time, and keeps the weights of the best."""

    def __init__(self) -> None:
        self.trial = 0
        self.evaluations: list[dict[str, Any]] = []
        self.best: dict[str, torch.Tensor] = {}

    def on_evaluate(self, args: Any, state: Any, control: Any, **told: Any) -> None:
        value = told["metrics"]["eval_accuracy"]
        if all(value > one["accuracy"] for one in self.evaluations):
            self.best = {name: tensor.detach().clone() for name, tensor in told["model"].state_dict().items()}
        self.evaluations.append({"trial": self.trial, "accuracy": value, "at": time.time()})


def score(model: PreTrainedModel, weights: dict[str, torch.Tensor], rows: Any, tokenizer: Any) -> float:
    """Accuracy on rows of a model with these weights."""
    model.load_state_dict(weights)
    model.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(rows), 64):
            part = rows[start : start + 64]
            labels = torch.tensor(part.pop("labels"))
            logits = model(**tokenizer.pad(part, return_tensors="pt")).logits
            right += int((logits.argmax(-1) == labels).sum())
    return right / len(rows)


def search(work: dict[str, Any]) -> dict[str, Any]:
    """All trials, one after the other."""
    tokenizer = AutoTokenizer.from_pretrained(work["model"])
    rows, names = read_rows(work, tokenizer)
    witness = Witness()

    def build() -> PreTrainedModel:
        return AutoModelForSequenceClassification.from_pretrained(work["model"], num_labels=len(names))

    def model_init(trial: optuna.Trial | None) -> PreTrainedModel:
        if trial is None:
            return build()
        witness.trial = trial.number
        return adapt(build(), *suggest_adaptation(trial))

    def space(trial: optuna.Trial) -> dict[str, float]:
        return {
            "learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 0.0, 0.3),
        }

    trainer = Trainer(
        model_init=model_init,
        args=arguments(work, "trainer"),
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        processing_class=tokenizer,
        compute_metrics=accuracy,
        callbacks=[witness],
    )
    trainer.hyperparameter_search(
        hp_space=space,
        compute_objective=lambda metrics: metrics["eval_accuracy"],
        n_trials=work["num_trials"],
        direction="maximize",
        backend="optuna",
        **study(work),
    )
    return tell(witness.evaluations, lambda: score(build(), witness.best, rows["test"], tokenizer))


def study(work: dict[str, Any]) -> dict[str, Any]:
    """What the study is made with: Optuna's own sampler and pruner, or the fixed trials, none of them pruned."""
    if not work["trials"]:
        return {"sampler": optuna.samplers.TPESampler(seed=work["seed"])}
    storage = optuna.storages.InMemoryStorage()
    fixed = optuna.create_study(storage=storage, study_name="fixed", direction="maximize")
    for trial in work["trials"]:
        fixed.enqueue_trial({"weight_decay": 0.0, **trial})
    return {"storage": storage, "study_name": "fixed", "load_if_exists": True, "pruner": optuna.pruners.NopPruner()}


def tell(evaluations: list[dict[str, Any]], test: Callable[[], float]) -> dict[str, Any]:
    """What was found and when; the seconds that scoring the winner on test took are told beside."""
    began = time.perf_counter()
    scored = test()
    return {"evaluations": evaluations, "test": scored, "test_s": time.perf_counter() - began}


def main() -> int:
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    told = search(work)
    Path(work["out"]).write_text(json.dumps(told), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
