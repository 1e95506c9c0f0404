"""Checkpoints reloaded for final scoring: what they share is read once, and the numbers are those of loading anew."""

import shutil
from pathlib import Path

import pytest
from test_generation_trials import plan_of, train, write_home

from finesearch.errors import CheckpointError, ModelError
from finesearch.plan import GenerationChoices, GenerationPlan
from finesearch.training.loop.score_checkpoint import CheckpointScorer, evaluate_checkpoint
from finesearch.tuning.workers.rescoring import RescoringSettings, rescore
from training_cases import make_runner, run, trial


def test_data_and_tokens_are_read_once_and_a_checkpoint_once_for_all_of_its_scores(home: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(home, tmp_path / "home"))
    work = make_runner(copy)
    folders = []
    for number, adaptation in enumerate(("head_only", "full")):
        folders.append(str(run(work, trial(tmp_path / str(number), number, adaptation=adaptation))[0].checkpoint))
    alone = {
        (folder, split): evaluate_checkpoint(folder, split, work.task_plan, work.training, copy, work.cache)
        for folder in folders
        for split in ("validation", "test")
    }
    scorer = CheckpointScorer(work.task_plan, work.training, copy, work.cache)
    first, second = scorer.load(folders[0]), scorer.load(folders[1])
    # Nothing but what is in memory is left to score with.
    for folder in (*folders, copy / "cache"):
        shutil.rmtree(folder)
    for file in copy.glob("*.csv"):
        file.unlink()
    for loaded, folder in ((first, folders[0]), (second, folders[1]), (first, folders[0])):
        for split in ("validation", "test"):
            assert loaded.score(split) == alone[(folder, split)]


def test_a_damaged_checkpoint_costs_the_others_of_its_process_nothing(home: Path, tmp_path: Path) -> None:
    work = make_runner(home)
    folders = [
        str(run(work, trial(tmp_path / str(number), number, adaptation="head_only"))[0].checkpoint) for number in (0, 1)
    ]
    (Path(folders[0]) / "model.safetensors").write_bytes(b"")
    damaged, whole = rescore(folders, RescoringSettings(work.task_plan, work.training, work.base, work.cache, True))
    assert "model.safetensors: expected" in str(damaged.error)
    assert whole.error is None
    assert (
        whole.test == evaluate_checkpoint(folders[1], "test", work.task_plan, work.training, home, work.cache).metrics
    )


def test_every_generation_setting_scores_as_it_does_in_a_process_of_its_own(tmp_path: Path) -> None:
    home, own = write_home(tmp_path / "home", "t5"), plan_of()
    work, result = train(home, own, tmp_path / "trial")
    loaded = CheckpointScorer(own, work.training, home, work.cache).load(str(result.checkpoint))
    for settings in (GenerationPlan(max_new_tokens=4, beams=3, batch_size=5), GenerationPlan(temperature=0.7), None):
        plan = own if settings is None else own.model_copy(update={"generation": settings})
        alone = evaluate_checkpoint(str(result.checkpoint), "test", plan, work.training, home, work.cache)
        assert loaded.score("test", settings) == alone
    choices = GenerationChoices(beams=[2, 3])
    rescoring = RescoringSettings(own, work.training, str(home), str(work.cache), True, choices=choices)
    (chosen,) = rescore([str(result.checkpoint)], rescoring)
    settings = GenerationPlan.model_validate(chosen.generation)
    plan = own.model_copy(update={"generation": settings})
    assert (
        chosen.test
        == evaluate_checkpoint(str(result.checkpoint), "test", plan, work.training, home, work.cache).metrics
    )


def test_longer_texts_than_the_model_has_positions_for_are_refused(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", "gpt2")
    work, result = train(home, plan_of(), tmp_path / "trial")
    loaded = CheckpointScorer(plan_of(), work.training, home, work.cache).load(str(result.checkpoint))
    with pytest.raises(ModelError, match="GPT2LMHeadModel has 96 positions, so expected at most 96, got"):
        loaded.score("validation", GenerationPlan(max_new_tokens=90))


def test_a_base_that_changed_is_refused_by_the_scorer(home: Path, tmp_path: Path) -> None:
    from tiny_models import write_tiny_model

    work = make_runner(home)
    checkpoint = run(work, trial(tmp_path / "trial", adaptation="head_only"))[0].checkpoint
    other = Path(shutil.copytree(home, tmp_path / "home"))
    shutil.rmtree(other / "model")
    write_tiny_model(other / "model", seed=1)
    with pytest.raises(CheckpointError, match="this checkpoint holds what was trained on top of model with SHA-256"):
        CheckpointScorer(work.task_plan, work.training, other, work.cache).load(str(checkpoint))
