"""Trials that start from a solved output layer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from finesearch.errors import ModelError
from finesearch.plan import parse_space
from finesearch.tasks import make_task
from finesearch.training.model.model_facts import inspect_model
from finesearch.training.probing import head_init, probe_space_check
from finesearch.training.probing.feature_store import FeatureRequest, open_features
from finesearch.training.probing.probe_space_check import check_probes, probe_layers_of
from finesearch.training.runtime.distributed import Processes
from probe_pair_worker import STILL
from training_cases import make_runner, run, task_plan, trial, without_clock


@pytest.mark.parametrize(
    "adaptation",
    [
        {"adaptation": "full"},
        {"adaptation": "lora", "adaptation_parameters": {"rank": 2}},
        {"adaptation": "head_only"},
        {"adaptation": "prompt_tuning", "adaptation_parameters": {"virtual_tokens": 3}},
    ],
    ids=lambda settings: settings["adaptation"],
)
def test_training_starts_at_the_score_of_the_probe(adaptation: dict[str, Any], home: Path, tmp_path: Path) -> None:
    work = make_runner(home)
    drawn, _ = run(work, trial(tmp_path / "drawn", **STILL, **adaptation))
    started, _ = run(work, trial(tmp_path / "started", **STILL, **adaptation, head_init="probe"))
    probe, _ = run(work, trial(tmp_path / "probe", adaptation="linear_probe"))
    assert started.best is not None
    assert drawn.best is not None
    assert probe.best is not None
    if adaptation["adaptation"] != "prompt_tuning":  # its virtual tokens change what the output layer gets
        assert started.best.metrics == pytest.approx(probe.best.metrics)
    assert started.best.metrics["accuracy"] > 0.7 > drawn.best.metrics["accuracy"]
    assert started.history[0].train_loss < 0.8 * drawn.history[0].train_loss
    assert [note for note in started.notes if note.startswith("head_init probe: the output layer (classifier) starts")]


UNDER: dict[str, dict[str, Any]] = {
    "virtual tokens": {"adaptation": "prompt_tuning", "adaptation_parameters": {"virtual_tokens": 3}},
    "a hidden layer": {"pooling": "mean", "head_hidden_size": 16},
    "random layers": {"reinit_top_layers": 2},
}


@pytest.mark.parametrize(
    "under", ["virtual tokens", "a hidden layer", pytest.param("random layers", marks=pytest.mark.slow)]
)
def test_what_is_random_under_the_output_layer_is_that_of_the_trial(under: str, home: Path, tmp_path: Path) -> None:
    """Features that depend on the seed are computed by each trial for itself, and not kept."""
    work, settings = make_runner(home), {**STILL, **UNDER[under], "head_init": "probe"}
    work.cache = str(tmp_path / "cache")
    found = [run(work, trial(tmp_path / str(seed), seed=seed, **settings))[0] for seed in (3, 4)]
    losses = [result.history[0].train_loss for result in found]
    assert losses[0] != losses[1]
    assert max(losses) < 0.6
    assert list((tmp_path / "cache" / "features").glob("*/*.npy")) == []
    is_told = any("each trial solves its own" in note for note in found[0].notes)
    assert is_told == (under != "virtual tokens")


def test_features_of_one_attempt_are_its_own_and_those_of_a_killed_one_go(home: Path, tmp_path: Path) -> None:
    work = make_runner(home)
    work.cache = str(tmp_path / "cache")
    context, spec = work._context, trial(tmp_path, number=3)
    request = FeatureRequest(
        context=context, base=context.base, recipe=spec.recipe, layers=(4,), seed=3, precision="fp32",
        processes=Processes(0, 1, torch.device("cpu")), owner=(3, 2),
    )  # fmt: skip
    killed, other = (replace(request, owner=owner).folder for owner in ((3, 1), (4, 1)))
    building = killed.with_name(f"{killed.name}.building-7")
    for folder in (killed, building, other):
        folder.mkdir(parents=True)
    with open_features(request, 4) as features:
        assert features.folder == request.folder
        assert features.train.shape == (52, 32)
    left = {path.name for path in request.folder.parent.iterdir() if path.is_dir()}
    assert left == {other.name}


def test_a_resumed_trial_is_not_solved_again(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"head_init": "probe", "dropout": 0.0}
    whole, _ = run(make_runner(home), trial(tmp_path / "whole", **settings))
    run(make_runner(home), trial(tmp_path / "cut", **settings), stop_after=1)

    def refuse(attempt: object) -> None:
        raise AssertionError("solved again")

    monkeypatch.setattr(head_init, "_solve", refuse)
    resumed, _ = run(make_runner(home), trial(tmp_path / "cut", attempt=2, **settings))
    assert without_clock(resumed.history) == without_clock(whole.history)


@pytest.mark.slow
def test_the_report_says_that_an_output_layer_of_the_folder_is_replaced(home: Path, tmp_path: Path) -> None:
    from finesearch.training.export.export_checkpoint import export_checkpoint
    from finesearch.training.loop.trial_runner import TrialRunner

    first = make_runner(home)
    result, _ = run(first, trial(tmp_path / "first", epochs=1))
    export_checkpoint(str(result.checkpoint), tmp_path / "tuned")
    work = TrialRunner(
        task_plan(str(tmp_path / "tuned")), first.training, str(home), str(home / "cache"), "accuracy", "max"
    )
    before = {name: tensor.clone() for name, tensor in work._context.base.tensors.items() if "classifier" in name}
    again, _ = run(work, trial(tmp_path / "again", head_init="probe"))
    assert [note for note in again.notes if "is replaced by a solved one" in note]
    # The base's own weights are shared by all trials and stay as they are.
    assert before
    assert all(bool((work._context.base.tensors[name] == tensor).all()) for name, tensor in before.items())


def check(home: Path, space: dict[str, Any], **task: Any) -> None:
    check_probes(make_task(task_plan(**task)), parse_space(space), inspect_model(task_plan(**task), home))


ASKED = {"kind": "question-answering", "columns": {"context": "c", "question": "q", "answers": "a"}}


def test_a_task_without_an_output_layer_to_solve_refuses_a_probe(home: Path) -> None:
    message = "in question-answering there is no output layer that can be solved; classes, labels, numbers"
    with pytest.raises(ModelError, match=f"adaptation.linear_probe: {message}"):
        check(home, {"adaptation": {"one_of": {"full": {}, "linear_probe": {}}}}, **ASKED)
    with pytest.raises(ModelError, match=f"space.head_init: probe: {message}"):
        check(home, {"head_init": ["random", "probe"]}, **ASKED)
    check(home, {"head_init": "random"}, **ASKED)


def test_a_layer_that_the_model_does_not_have_is_refused(home: Path) -> None:
    space = {"adaptation": {"one_of": {"linear_probe": {"layer": {"min": 1, "max": 5}}}}}
    with pytest.raises(ModelError, match=r"layer: BertConfig of .* has 4 layers, so expected 1 to 4, got 5"):
        check(home, space)
    check(home, {"adaptation": {"one_of": {"linear_probe": {"layer": [None, 4, 1]}}}})


def test_probes_are_checked_under_every_head_of_the_space(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    find = probe_space_check.find_output_layer
    monkeypatch.setattr(
        probe_space_check, "find_output_layer", lambda model: found.append(type(model).__name__) or find(model)
    )
    check(home, {"adaptation": {"one_of": {"linear_probe": {"layer": [2, None]}}}, "pooling": ["own", "mean"]})
    assert found == ["BertForSequenceClassification", "BertForPooledClassification"]


def test_a_model_with_encoder_and_decoder_is_not_cut(tmp_path: Path) -> None:
    from tiny_writers import write_tiny_writer

    write_tiny_writer(tmp_path / "model", "bart")
    space = {"adaptation": {"one_of": {"linear_probe": {"layer": 1}}}}
    with pytest.raises(ModelError, match="BartConfig has an encoder and a decoder, which are not cut; expected null"):
        check(tmp_path, space)
    check(tmp_path, {"adaptation": "linear_probe"})


def test_the_layers_of_a_space_are_known_beforehand() -> None:
    space = parse_space(
        {"head_init": ["random", "probe"], "adaptation": {"one_of": {"full": {}, "linear_probe": {"layer": [3, 1]}}}}
    )
    assert probe_layers_of(space) == (1, 3, None)
    assert probe_layers_of(parse_space({"adaptation": "linear_probe"})) == (None,)
    assert probe_layers_of(parse_space({"head_init": "probe"})) == ()
