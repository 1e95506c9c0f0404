"""A competitor: Ray Tune with OptunaSearch and ASHA, and a ``TorchTrainer`` in each trial, as Ray documents it.

    python ray_tune_search.py WORK.json

Two trials at once, a CPU each. It imports nothing of finesearch; WORK.json is that of ``transformers_search.py``.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import ray.train
import ray.tune
import torch
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from shared.transformers_search import accuracy, adapt, arguments, read_rows, score, suggest_adaptation, tell
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainerCallback

CONCURRENT_TRIALS = 2


class Reporter(TrainerCallback):
    """Passes each evaluation on, and leaves the weights of the trial's best where the driver finds them."""

    def __init__(self, weights: Path, began: float) -> None:
        self.weights = weights
        self.began = began
        self.best = -1.0

    def on_evaluate(self, args: Any, state: Any, control: Any, **told: Any) -> None:
        value = told["metrics"]["eval_accuracy"]
        if value > self.best:
            self.best = value
            torch.save(told["model"].state_dict(), self.weights)
        ray.train.report({"accuracy": value, "began": self.began})


def train(config: dict[str, Any]) -> None:
    """What a worker does."""
    began = time.time()
    work = config["work"]
    tokenizer = AutoTokenizer.from_pretrained(work["model"])
    rows, names = read_rows(work, tokenizer)
    model = AutoModelForSequenceClassification.from_pretrained(work["model"], num_labels=len(names))
    settings = arguments(work, str(Path(config["folder"]) / config["trial_id"]))
    settings.learning_rate, settings.weight_decay = config["learning_rate"], config["weight_decay"]
    settings.disable_tqdm, settings.save_strategy = True, "no"
    Trainer(
        model=adapt(model, config["adaptation"], config.get("layers")),
        args=settings,
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        processing_class=tokenizer,
        compute_metrics=accuracy,
        callbacks=[Reporter(weights_of(config["folder"], config["trial_id"]), began)],
    ).train()


def weights_of(folder: str, trial_id: str) -> Path:
    return Path(folder) / f"{trial_id}.pt"


def run_trial(config: dict[str, Any]) -> None:
    """A Tune trial."""
    trial_id = ray.tune.get_context().get_trial_id()
    TorchTrainer(
        train,
        train_loop_config={**config, "trial_id": trial_id},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=ray.train.RunConfig(
            name=f"train-trial_id={trial_id}", storage_path=config["folder"], callbacks=[TuneReportCallback()]
        ),
    ).fit()


class Witness(ray.tune.Callback):
    """Writes down each result with its time; of the weights, only those of the best trial stay."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.numbers: dict[str, int] = {}
        self.best: tuple[float, str] = (-1.0, "")
        self.evaluations: list[dict[str, Any]] = []
        self.spans: dict[int, tuple[float, float]] = {}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        if "accuracy" not in result:
            return
        number = self.numbers.setdefault(trial.trial_id, len(self.numbers))
        now = time.time()
        self.evaluations.append({"trial": number, "accuracy": result["accuracy"], "at": now})
        self.spans[number] = (result["began"], now)
        self.best = max(self.best, (result["accuracy"], trial.trial_id))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        if trial.trial_id != self.best[1]:
            weights_of(self.folder, trial.trial_id).unlink(missing_ok=True)

    @property
    def most_at_once(self) -> int:
        """How many workers were at work together, from a worker's start to its last evaluation."""
        return max(sum(began <= at < end for began, end in self.spans.values()) for at, _ in self.spans.values())


def space(constants: dict[str, Any], trial: Any) -> dict[str, Any]:
    """Draws a configuration; ``constants`` go along with it."""
    trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True)
    trial.suggest_float("weight_decay", 0.0, 0.3)
    suggest_adaptation(trial)
    return constants


def search(work: dict[str, Any]) -> dict[str, Any]:
    """All trials."""
    folder = os.path.abspath("tune")
    os.makedirs(folder)
    witness = Witness(folder)

    # Tune pickles its searcher, so this cannot be a closure.
    drawn = functools.partial(space, {"work": work, "folder": folder})
    # Train asks the dashboard whether a trial that was stopped still holds its worker's CPU; without it, for ever.
    # One CPU is for the trials, which only wait for their workers: of two it would leave no second whole one.
    ray.init(num_cpus=CONCURRENT_TRIALS + 1, include_dashboard=True, logging_level="error")
    results = ray.tune.Tuner(
        ray.tune.with_resources(run_trial, {"cpu": 0.001}),
        tune_config=ray.tune.TuneConfig(
            metric="accuracy",
            mode="max",
            search_alg=OptunaSearch(space=drawn, metric="accuracy", mode="max", seed=work["seed"]),
            scheduler=ASHAScheduler(max_t=work["epochs"]),
            num_samples=work["num_trials"],
            max_concurrent_trials=CONCURRENT_TRIALS,
        ),
        run_config=ray.tune.RunConfig(name="peer", storage_path=folder, callbacks=[witness], verbose=0),
    ).fit()
    assert not results.errors, results.errors
    assert witness.most_at_once == CONCURRENT_TRIALS, f"{witness.most_at_once} trials were at work at once"
    tokenizer = AutoTokenizer.from_pretrained(work["model"])
    ray.shutdown()

    def test() -> float:
        rows, names = read_rows(work, tokenizer)
        model = AutoModelForSequenceClassification.from_pretrained(work["model"], num_labels=len(names))
        return score(model, torch.load(weights_of(folder, witness.best[1])), rows["test"], tokenizer)

    return tell(witness.evaluations, test)


def main() -> int:
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    told = search(work)
    Path(work["out"]).write_text(json.dumps(told), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
