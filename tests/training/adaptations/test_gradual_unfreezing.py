"""Gradual unfreezing against a plain loop in which what does not train yet has no gradient at all."""

from pathlib import Path
from typing import Any

import pytest
import torch

from finesearch.errors import ModelError
from finesearch.plan import parse_space
from finesearch.training.adaptations.adapt import adapt
from finesearch.training.adaptations.gradual_unfreezing import steps_between
from finesearch.training.adaptations.space_check import check_recipe_space
from finesearch.training.checkpointing.checkpoint_layout import list_checkpoints
from finesearch.training.model.model_facts import inspect_model
from finesearch.training.trial_types import Evaluation
from plain_reference import depth_in_bert, plain_training
from training_cases import SGD, equal, make_runner, merged, recipe, run, trial, without_clock

# One epoch of eight steps, so that the one evaluation is both the best and the last.
PLAIN = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0, "epochs": 1, "batch_size": 7}


def gradual(every_steps: int, **changes: Any) -> dict[str, Any]:
    return {"adaptation": "gradual_unfreezing", "adaptation_parameters": {"every_steps": every_steps}, **changes}


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        (0, {}),
        (1, {}),
        (2, {"gradient_clipping": 0.1}),
        (3, {}),
        (0, {**SGD, "gradient_clipping": None}),
        (3, {**SGD, "layerwise_decay": 0.8}),
    ],
)
def test_what_joins_trains_as_if_it_had_just_been_given_to_the_optimizer(
    stage: int, changes: dict[str, Any], home: Path, tmp_path: Path
) -> None:
    work = make_runner(home, zero_stage=stage)
    settings = {**PLAIN, **changes}
    result, _ = run(work, trial(tmp_path, **gradual(2, **settings)))
    expected, losses = plain_training(work, recipe(**settings), seed=3, every_steps=2)
    assert [evaluation.train_loss for evaluation in result.history] == pytest.approx(losses, rel=1e-5)
    for name, tensor in merged(result.checkpoint).items():
        torch.testing.assert_close(
            tensor, expected[name], rtol=1e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_a_layer_keeps_every_bit_until_its_time_and_changes_from_then_on(
    stage: int, home: Path, tmp_path: Path
) -> None:
    work = make_runner(home, zero_stage=stage, evaluations_per_epoch=4)
    before, _ = work._context.base.build(recipe(), seed=3)
    seen = []

    def look(evaluation: Evaluation) -> bool:
        # Each step of eight is followed by an evaluation, whose checkpoint is there when it is reported.
        after = merged(str(list_checkpoints(tmp_path)[-1].path))
        changed = {name for name, p in before.named_parameters() if not torch.equal(p, after[name])}
        joined = {name for name, _ in before.named_parameters() if depth_in_bert(name) <= (evaluation.step - 1) // 2}
        assert changed == joined
        seen.append(evaluation.step)
        # The checkpoint of a trial that is over is its best, which need not be its last.
        return evaluation.step < 7

    result = work.run(trial(tmp_path, **gradual(2)), look, lambda: None)
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    ever = [p.numel() for name, p in before.named_parameters() if depth_in_bert(name) <= 3]
    assert result.trainable_parameters == sum(ever)
    assert any("2 of 5 layers (the embeddings counted as one) stayed frozen" in note for note in result.warnings)


@pytest.mark.parametrize(("stage", "stop_after"), [(0, 4), (1, 3), (2, 4), (3, 3)])
def test_an_interrupted_trial_goes_on_where_it_was(stop_after: int, stage: int, home: Path, tmp_path: Path) -> None:
    work = make_runner(home, zero_stage=stage, evaluations_per_epoch=4)
    whole, _ = run(work, trial(tmp_path / "whole", **gradual(2)))
    run(work, trial(tmp_path / "parts", **gradual(2)), stop_after=stop_after)
    resumed, diary = run(work, trial(tmp_path / "parts", attempt=2, **gradual(2)))
    assert diary.trained == 8 - stop_after
    assert without_clock(resumed.history) == without_clock(whole.history)
    assert equal(merged(resumed.checkpoint), merged(whole.checkpoint))


def test_dropout_comes_on_with_the_layer(home: Path) -> None:
    base = make_runner(home)._context.base
    model, _ = base.build(recipe(), seed=3)
    parameters = {"every_steps": 1, "every_fraction": 0.1}
    unfreezing = adapt(model, base.structure, "gradual_unfreezing", parameters, base.fresh, steps=8).unfreezing
    assert unfreezing is not None
    model.train()
    dropouts = [module.dropout for module in (*(layer.output for layer in model.bert.encoder.layer), model)]
    assert [module.training for module in dropouts] == [False, False, False, False, True]
    unfreezing.deepest = 2
    model.train()
    assert [module.training for module in dropouts] == [False, False, True, True, True]
    model.eval()
    assert not any(module.training for module in model.modules())


def test_a_share_of_all_steps_is_rounded_up() -> None:
    assert steps_between({"every_steps": None, "every_fraction": 0.1}, 45) == 5
    assert steps_between({"every_steps": None, "every_fraction": 0.001}, 45) == 1
    assert steps_between({"every_steps": 7, "every_fraction": 0.1}, 45) == 7


def test_a_model_without_layers_to_tell_apart_is_refused(tmp_path: Path) -> None:
    from transformers import AlbertConfig, AlbertModel

    from tiny_models import write_tiny_tokenizer
    from training_cases import task_plan

    sizes = {"embedding_size": 16, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    AlbertModel(AlbertConfig(vocab_size=200, num_hidden_layers=3, **sizes)).save_pretrained(tmp_path / "model")
    write_tiny_tokenizer(tmp_path / "model")
    with pytest.raises(ModelError, match="adaptation gradual_unfreezing: AlbertForSequenceClassification shares one"):
        check_recipe_space(parse_space({"adaptation": "gradual_unfreezing"}), inspect_model(task_plan(), tmp_path))
