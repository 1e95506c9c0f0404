"""Tasks, benches and trials over a tiny model, shared by the tests of training and by the processes that they start."""

from __future__ import annotations

import csv
import json
import re
import resource
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finesearch.plan import DataPlan, Recipe, TaskPlan, TrainingPlan
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.trial_types import Evaluation, TrialResult, TrialSpec
from tiny_models import sentences, write_tiny_model

ADAPTATIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "freeze_embeddings": {},
    "freeze_bottom": {"layers": 2},
    "head_only": {},
    "train_top": {"layers": 1},
    "norms_only": {},
    "biases_only": {},
    "pattern": {"patterns": r"layer\.[13]\.output pooler"},
    "gradual_unfreezing": {"every_fraction": 0.25},
    "lora": {"rank": 2, "lora_dropout": 0.1, "targets": "query dense", "rslora": True},
    "ia3": {},
    "prompt_tuning": {"virtual_tokens": 3},
    "p_tuning": {"virtual_tokens": 3, "encoder": "lstm"},
    "prefix_tuning": {"virtual_tokens": 3, "projection": True},
}
# Four steps with one evaluation after all of them: by then every layer has joined that will.
ONE_EVALUATION = {"epochs": 1, "batch_size": 13}
# The ZeRO stages under which two processes train each adaptation: freezing is the same to DeepSpeed however it is said.
PAIR_STAGES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(ADAPTATIONS, (0, 1, 2, 3)),
    "train_top": (2,),
    "norms_only": (3,),
    "biases_only": (1,),
    "pattern": (3,),
    "gradual_unfreezing": (0, 1, 2, 3),
    "lora": (0, 1, 2, 3),
    "ia3": (0, 3),
    "prompt_tuning": (0, 1, 2, 3),
    "p_tuning": (0, 3),
    "prefix_tuning": (0, 1, 2, 3),
}
# Those that add parameters to the model.
ADDING = ("lora", "ia3", "prompt_tuning", "p_tuning", "prefix_tuning")
PAIRS = [(stage, adaptation) for adaptation, stages in PAIR_STAGES.items() for stage in stages]
SGD = {"optimizer": "sgd", "optimizer_parameters": {"momentum": 0.9, "nesterov": True}}
# What each adaptation freezes in a BERT of four layers: a regular expression that the parameters' names match.
FROZEN = {
    "full": r"(?!)",
    "freeze_embeddings": r"bert\.embeddings\.",
    "freeze_bottom": r"bert\.(embeddings|encoder\.layer\.[01])\.",
    "head_only": r"bert\.",
    "train_top": r"bert\.(embeddings|encoder\.layer\.[012])\.",
    "norms_only": r"bert\.(?!.*LayerNorm)",
    "biases_only": r"bert\.(?!.*bias$)",
    "gradual_unfreezing": r"bert\.(embeddings|encoder\.layer\.0)\.",
    "lora": r"bert\.(?!.*\.lora_)",
    "ia3": r"bert\.(?!.*\.ia3_l\.)",
    **dict.fromkeys(("prompt_tuning", "p_tuning", "prefix_tuning"), r"bert\."),
    "pattern": r"bert\.(?!pooler|encoder\.layer\.[13]\.output)",
}


def adaptation_settings(adaptation: str) -> dict[str, Any]:
    """Settings of a recipe for one of ADAPTATIONS."""
    settings = {"adaptation": adaptation, "adaptation_parameters": ADAPTATIONS[adaptation]}
    return settings | (ONE_EVALUATION if adaptation == "gradual_unfreezing" else {})


def frozen_names(adaptation: str, names: Iterable[str]) -> set[str]:
    """Those of the parameters' names that the adaptation freezes."""
    return {name for name in names if re.match(FROZEN[adaptation], name)}


def write_home(folder: Path, train_rows: int = 52) -> Path:
    """A folder with a tiny model and three CSV files.

    With batches of 16, 49 rows would leave a last batch of 1 and 52 rows one of 4: fewer than workers times pieces.
    """
    write_tiny_model(folder / "model")
    for seed, (split, count) in enumerate((("train", train_rows), ("validation", 37), ("test", 30))):
        texts, labels = sentences(count, seed)
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *zip(texts, labels, strict=True)])
    return folder


def task_plan(model: str = "model", **changes: Any) -> TaskPlan:
    files = {split: (f"{split}.csv",) for split in ("train", "validation", "test")}
    columns = {"text": "text", "label": "label"}
    settings = {"kind": "text-classification", "model": model, "data": DataPlan(**files), "columns": columns}
    return TaskPlan(**{**settings, "max_length": 32, **changes})


def make_runner(home: Path, metric: str = "accuracy", **training: Any) -> TrialRunner:
    settings = {"epochs": 2, "batch_size": 16, "precision": "fp32", **training}
    return TrialRunner(task_plan(), TrainingPlan(**settings), str(home), str(home / "cache"), metric, "max")


def recipe(**changes: Any) -> Recipe:
    """Two epochs of four steps, with everything on that could go wrong."""
    settings = {"learning_rate": 1e-2, "epochs": 2, "batch_size": 16, "weight_decay": 0.1, "warmup_fraction": 0.25}
    return Recipe(**{**settings, "label_smoothing": 0.1, "gradient_clipping": 0.5, **changes})


def trial(directory: Path, number: int = 0, attempt: int = 1, seed: int = 3, **changes: Any) -> TrialSpec:
    """State to go on from is written at every evaluation, however short the training."""
    return TrialSpec(
        number=number, attempt=attempt, seed=seed, recipe=recipe(**changes), directory=str(directory), resume_pays=0
    )


@dataclass
class Diary:
    """Writes down what a trial reports, and stops it after an evaluation if told to."""

    stop_after: int | None = None
    evaluations: list[Evaluation] = field(default_factory=list)
    trained: int = 0
    """Optimizer steps that were taken in this process, counted by PyTorch."""

    def __post_init__(self) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        # An optimizer may be made of others: what counts is that some step was taken since the last sign of life.
        self._has_stepped = threading.Event()
        register_optimizer_step_post_hook(lambda *_: self._has_stepped.set())

    def report(self, evaluation: Evaluation) -> bool:
        self.evaluations.append(evaluation)
        return self.stop_after is None or evaluation.step < self.stop_after

    def beat(self) -> None:
        self.trained += self._has_stepped.is_set()
        self._has_stepped.clear()

    @property
    def steps(self) -> list[int]:
        return [evaluation.step for evaluation in self.evaluations]


def run(on: TrialRunner, spec: TrialSpec, stop_after: int | None = None) -> tuple[TrialResult, Diary]:
    diary = Diary(stop_after)
    return on.run(spec, diary.report, diary.beat), diary


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """The kernel refuses to let a file grow beyond this, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def without_clock(history: tuple[Evaluation, ...]) -> list[Evaluation]:
    return [evaluation.model_copy(update={"seconds": 0.0}) for evaluation in history]


def merged(checkpoint: str | None) -> dict[str, Any]:
    """Every tensor of a checkpoint's model, the base's included; adapted layers' have the names that they had there."""
    from finesearch.training.adaptations.adapters import base_name
    from finesearch.training.checkpointing.load_checkpoint import load_checkpoint_model

    assert checkpoint is not None
    model, _, _ = load_checkpoint_model(checkpoint)
    return {base_name(name): tensor.detach().clone() for name, tensor in model.state_dict().items()}


def untrained(work: TrialRunner, adaptation: str, seed: int = 3) -> dict[str, Any]:
    """Every parameter as it is before the first step, by the names of ``merged``."""
    from finesearch.training.adaptations.adapt import attach
    from finesearch.training.adaptations.adapters import base_name

    base, settings = work._context.base, recipe(**adaptation_settings(adaptation))
    model, _ = base.build(settings, seed)
    attach(model, adaptation, settings.adaptation_parameters, base.fresh, seed)
    return {base_name(name): parameter.detach() for name, parameter in model.named_parameters()}


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two sets of tensors are the same to the last bit."""
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def write_pooling(folder: Path, mode: str, *after: str) -> None:
    """Files of sentence-transformers in a model's folder; ``after``: kinds of the modules that follow the pooling."""
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{mode}": True}))
    kinds = ("Transformer", "Pooling", *after)
    paths = ("", "1_Pooling", *(f"{number}_{kind}" for number, kind in enumerate(after, start=2)))
    modules = [
        {"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in zip(paths, kinds, strict=True)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
