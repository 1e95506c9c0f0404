import shutil
from pathlib import Path

import pytest

from finesearch.errors import CheckpointError, DiskFullError, StorageError, TrialError
from finesearch.storage.atomic_files import write_synced
from finesearch.storage.checksummed_dirs import disk_full_as_error
from finesearch.training.checkpointing.checkpoint_layout import (
    Checkpoint,
    drop_resume_state,
    intact_checkpoints,
    list_checkpoints,
)
from finesearch.training.checkpointing.load_checkpoint import load_checkpoint_model
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from training_cases import equal, files_at_most, make_runner, merged, run, trial, without_clock


@pytest.fixture(scope="module")
def work(home: Path) -> TrialRunner:
    return make_runner(home, evaluations_per_epoch=2)


@pytest.fixture(scope="module")
def interrupted(work: TrialRunner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trial that was stopped after three of its four evaluations."""
    directory = tmp_path_factory.mktemp("interrupted")
    run(work, trial(directory), stop_after=3)
    return directory


@pytest.fixture
def directory(interrupted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(interrupted, tmp_path / "trial"))


def flip(path: Path, byte: int = -5) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_two_checkpoints_are_kept_while_a_trial_runs(interrupted: Path) -> None:
    steps = [checkpoint.step for checkpoint in list_checkpoints(interrupted)]
    assert len(steps) == 2
    assert steps[-1] == 3
    assert all(checkpoint.can_resume for checkpoint in list_checkpoints(interrupted))


def test_the_best_alone_is_kept_when_it_is_done_without_optimizer_state(work: TrialRunner, directory: Path) -> None:
    result, _ = run(work, trial(directory, attempt=2))
    assert result.checkpoint is not None
    assert names(directory) == ["result.json", Path(result.checkpoint).name]
    assert names(Path(result.checkpoint)) == [
        "config.json",
        "finesearch.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert result.checkpoint_bytes == sum(
        path.stat().st_size for path in Path(result.checkpoint).iterdir() if path.name != "manifest.json"
    )


def test_a_checkpoint_holds_only_what_was_trained(work: TrialRunner, tmp_path: Path) -> None:
    from safetensors import safe_open

    result, _ = run(work, trial(tmp_path, adaptation="freeze_bottom", adaptation_parameters={"layers": 3}))
    with safe_open(f"{result.checkpoint}/model.safetensors", "pt") as file:
        stored = set(file.keys())
    assert {name.split(".")[1] for name in stored} == {"encoder", "pooler", "weight", "bias"}
    assert {name.split(".")[3] for name in stored if "encoder" in name} == {"3"}


def test_a_checkpoint_says_what_it_is(work: TrialRunner, interrupted: Path, home: Path) -> None:
    _, _, record = load_checkpoint_model(interrupted / "step-0003-a1")
    assert record.base.model == "model"
    assert record.base.sha256 == work._context.base_reference.sha256
    assert (record.trial, record.attempt, record.seed) == (0, 1, 3)
    assert [evaluation.step for evaluation in record.history] == [1, 2, 3]
    assert record.facts["label_names"] == ["bad", "good"]


@pytest.mark.parametrize(
    "damaged", ["model.safetensors", "finesearch.json", "config.json", "resume/optimizer-rank0.safetensors"]
)
def test_a_flipped_byte_costs_an_evaluation_and_not_the_trial(damaged: str, work: TrialRunner, directory: Path) -> None:
    whole, _ = run(work, trial(directory.parent / "whole"))
    flip(directory / "step-0003-a1" / damaged)
    earlier = list_checkpoints(directory)[0].step
    result, diary = run(work, trial(directory, attempt=2))
    warning = next(warning for warning in result.warnings if "damaged" in warning)
    assert f"Checkpoint step-0003-a1 is damaged ({Path(damaged).name}: expected SHA-256 " in warning
    assert "it was set aside as step-0003-a1.quarantined" in warning
    assert (directory / "step-0003-a1.quarantined").is_dir()
    # Two optimizer steps an evaluation: trained again from the earlier checkpoint on, to the same end.
    assert diary.steps == [1, 2, 3, 4]
    assert diary.trained == 2 * (4 - earlier)
    assert without_clock(result.history) == without_clock(whole.history)


def test_a_trial_whose_checkpoints_are_all_damaged_is_not_started_again(work: TrialRunner, directory: Path) -> None:
    for checkpoint in list_checkpoints(directory):
        flip(checkpoint.path / "model.safetensors")
    for _ in range(2):
        with pytest.raises(
            CheckpointError, match="every checkpoint of this trial is damaged: .*not started again from"
        ):
            run(work, trial(directory, attempt=2))
    assert not list_checkpoints(directory)


@pytest.mark.parametrize("spoil", ["truncate", "delete", "manifest"])
def test_every_kind_of_damage_is_seen(spoil: str, directory: Path) -> None:
    newest = directory / "step-0003-a1"
    if spoil == "truncate":
        (newest / "model.safetensors").write_bytes((newest / "model.safetensors").read_bytes()[:-1])
    elif spoil == "delete":
        (newest / "tokenizer.json").unlink()
    else:
        (newest / "manifest.json").write_text("{")
    expected = {
        "truncate": r"model.safetensors: expected \d+ bytes, got \d+",
        "delete": "tokenizer.json is missing",
        "manifest": "manifest.json cannot be read",
    }
    with pytest.raises(CheckpointError, match=f"does not match its manifest: {expected[spoil]}"):
        load_checkpoint_model(newest)
    found, warnings = intact_checkpoints(directory)
    assert [checkpoint.step for checkpoint in found] != [3]
    assert len(warnings) == 1


def test_a_half_written_checkpoint_does_not_count_and_is_removed(work: TrialRunner, directory: Path) -> None:
    shutil.copytree(directory / "step-0003-a1", directory / ".tmp-step-0004-a1")
    assert [checkpoint.step for checkpoint in list_checkpoints(directory)][-1] == 3
    run(work, trial(directory, attempt=2))
    assert ".tmp-step-0004-a1" not in names(directory)


def test_an_attempt_that_was_given_up_stops_and_leaves_the_later_ones_checkpoints(
    work: TrialRunner, directory: Path
) -> None:
    later = Path(shutil.copytree(directory / "step-0003-a1", directory / "step-0004-a9"))
    (later / "manifest.json").write_text((directory / "step-0003-a1" / "manifest.json").read_text())
    shutil.rmtree(later / "resume")
    with pytest.raises(TrialError, match="attempt 2 found a checkpoint of attempt 9, which has taken its place"):
        run(work, trial(directory, attempt=2))
    assert later.is_dir()


def test_checkpoints_of_another_trial_are_refused(work: TrialRunner, directory: Path) -> None:
    with pytest.raises(
        CheckpointError, match="expected a checkpoint of trial 5 with seed 4 .* got one of trial 0 with seed 3"
    ):
        run(work, trial(directory, number=5, seed=4))


@pytest.mark.parametrize("limit", [100_000, 250_000])
def test_a_full_disk_ends_the_attempt_and_the_last_good_state_loads(
    limit: int, work: TrialRunner, directory: Path, home: Path
) -> None:
    """Weights are 170 kB and the optimizer's state is 340 kB: the first limit stops one, the second the other."""
    whole, _ = run(work, trial(directory.parent / "whole"))
    for checkpoint in list_checkpoints(directory)[1:]:
        shutil.rmtree(checkpoint.path)
    before = names(directory)
    message = "the checkpoint could not be written, no space is left there .* start the same command again"
    with files_at_most(limit), pytest.raises(DiskFullError, match=message):
        run(work, trial(directory, attempt=2))
    assert names(directory) == before
    scored = evaluate_checkpoint(directory / before[0], "validation", work.task_plan, work.training, home, work.cache)
    assert set(scored.metrics) == {"accuracy", "macro_f1", "micro_f1", "mcc"}
    result, _ = run(work, trial(directory, attempt=3))
    assert without_clock(result.history) == without_clock(whole.history)
    assert equal(merged(result.checkpoint), merged(whole.checkpoint))


def test_a_device_that_is_really_full_is_told_apart_from_other_failures(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="no space is left there"), disk_full_as_error(tmp_path):
        write_synced(Path("/dev/full"), b"x")
    with pytest.raises(FileNotFoundError), disk_full_as_error(tmp_path):
        write_synced(tmp_path / "missing" / "file", b"x")
    assert issubclass(DiskFullError, StorageError)


def test_optimizer_state_is_dropped_when_a_trial_will_never_go_on(directory: Path) -> None:
    drop_resume_state(directory)
    assert list_checkpoints(directory)
    assert not any(checkpoint.can_resume for checkpoint in list_checkpoints(directory))
    assert all(checkpoint.damage() is None for checkpoint in list_checkpoints(directory))


def test_a_base_that_changed_is_refused(work: TrialRunner, directory: Path, home: Path, tmp_path: Path) -> None:
    from tiny_models import write_tiny_model

    other = Path(shutil.copytree(home, tmp_path / "home"))
    shutil.rmtree(other / "model")
    write_tiny_model(other / "model", seed=1)
    with pytest.raises(CheckpointError, match=r"trained from a base model with SHA-256 .* now holds another"):
        run(make_runner(other, evaluations_per_epoch=2), trial(directory, attempt=2))
    with pytest.raises(CheckpointError, match="this checkpoint holds what was trained on top of model with SHA-256"):
        load_checkpoint_model(directory / "step-0003-a1", other / "model")


def test_checkpoints_are_ordered_by_step_and_then_by_attempt() -> None:
    one, two, three = Checkpoint(1, 9, Path("a")), Checkpoint(2, 1, Path("b")), Checkpoint(2, 2, Path("c"))
    assert sorted([three, one, two]) == [one, two, three]
