"""Pairs of texts whose likeness is a number: the cosine of their embeddings, without training."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from finesearch.errors import ModelError
from finesearch.plan import DataPlan, TaskPlan, TrainingPlan
from finesearch.training.export.export_checkpoint import export_checkpoint
from finesearch.training.export.exported_prompt_script import Asker
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.trial_types import TrialResult
from tiny_models import sentences, write_tiny_model
from tiny_writers import write_tiny_writer
from training_cases import run, task_plan, trial


def plan_of(model: str = "model", **columns: str) -> TaskPlan:
    data = DataPlan(**{split: (f"{split}.jsonl",) for split in ("train", "validation", "test")})
    return task_plan(model, form="regression", data=data, columns={"text": "one", "label": "alike", **columns})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs that share more or fewer of their words."""
    home = tmp_path_factory.mktemp("pairs")
    write_tiny_model(home / "model")
    for seed, (split, count) in enumerate((("train", 20), ("validation", 70), ("test", 20))):
        draw, lines = random.Random(seed), []
        for text in sentences(count, seed)[0]:
            words = text.split()
            kept = draw.randint(0, len(words))
            other = words[:kept] + draw.choices(
                ["music", "cold", "warm", "actor", "quick", "story"], k=len(words) - kept
            )
            lines.append(json.dumps({"one": text, "two": " ".join(other), "alike": 5 * kept / len(words)}))
        (home / f"{split}.jsonl").write_text("\n".join(lines))
    return home


def asked(
    home: Path, folder: Path, plan: TaskPlan, adaptation: str = "zero_shot", **parameters: Any
) -> tuple[TrialRunner, TrialResult]:
    work = TrialRunner(plan, TrainingPlan(precision="fp32"), str(home), str(home / "cache"), plan.metric, "max")
    return work, run(work, trial(folder, adaptation=adaptation, adaptation_parameters=parameters))[0]


def test_a_pair_scores_the_cosine_of_its_texts_here_and_in_an_export(home: Path, tmp_path: Path) -> None:
    plan = plan_of(text_pair="two")
    work, result = asked(home, tmp_path / "trial", plan)
    assert result.best is not None
    scored = evaluate_checkpoint(str(result.checkpoint), "validation", plan, work.training, home, work.cache)
    assert scored.metrics == result.best.metrics
    assert scored.metrics["pearson"] > 0.5
    model, tokenizer = work._context.prompt_models.loaded["similarity", "fp32"]
    rows = [json.loads(line) for line in (home / "validation.jsonl").read_text().splitlines()]

    def embedded(text: str) -> torch.Tensor:
        with torch.no_grad():
            mean: torch.Tensor = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        return mean

    known = [float(torch.cosine_similarity(embedded(row["one"]), embedded(row["two"]), dim=0)) for row in rows]
    assert scored.predictions == pytest.approx(known, abs=1e-5)
    folder = export_checkpoint(str(result.checkpoint), tmp_path / "out")
    assert 'answer(text="a text", text_pair="a text pair")' in (folder / "README.md").read_text()
    asker = Asker(folder)
    assert [asker.answer(text=row["one"], text_pair=row["two"]) for row in rows[:6]] == pytest.approx(
        known[:6], abs=1e-5
    )


def test_all_else_of_regression_is_refused_and_told_what_works(home: Path, tmp_path: Path) -> None:
    single = (
        "adaptation.zero_shot: text-classification, form regression has no answers to choose from; what can be asked "
        "are pairs of texts .columns.text_pair., which are compared by similarity, and a correlation as task.metric. "
        "Leave it out."
    )
    with pytest.raises(ModelError, match=single):
        asked(home, tmp_path / "one", plan_of())
    pairs = plan_of(text_pair="two")
    with pytest.raises(ModelError, match="few_shot: .* compared as they are, without examples. Use zero_shot"):
        asked(home, tmp_path / "few", pairs, "few_shot")
    with pytest.raises(ModelError, match=r"template: .* expected auto, got '\{text\} \{label\}'. Leave it out"):
        asked(home, tmp_path / "template", pairs, template="{text} {label}")
    with pytest.raises(ModelError, match="method: cloze does not suit BertConfig .BertModel.. Use similarity, or auto"):
        asked(home, tmp_path / "cloze", pairs, method="cloze")
    # A model without its own output layer for numbers is a T5 all the same: it has no embeddings to compare.
    write_tiny_writer(home / "t5", "t5")
    with pytest.raises(ModelError, match="is asked by similarity, which T5Config cannot be. Leave it out, or choose"):
        asked(home, tmp_path / "t5", plan_of("t5", text_pair="two"))
