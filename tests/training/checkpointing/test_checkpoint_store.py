"""Checkpoints in an object store: a trial goes on on another machine, and what is there is what counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from finesearch.errors import CheckpointError, StorageError, TrialError
from finesearch.storage.local_dirs import cache_home
from finesearch.storage.object_store import ObjectStore
from finesearch.storage.open_store import open_store
from finesearch.storage.store import LocalCopy
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.trial_types import Preempted, TrialResult, TrialSpec
from object_stores import BUCKET, s3_bucket
from pairs import seen_by_two
from training_cases import Diary, equal, make_runner, merged, run, trial, without_clock


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_bucket() as options:
        yield options


@pytest.fixture(scope="module")
def work(home: Path) -> TrialRunner:
    return make_runner(home, evaluations_per_epoch=2)


@pytest.fixture(scope="module")
def undisturbed(work: TrialRunner, tmp_path_factory: pytest.TempPathFactory) -> TrialResult:
    return run(work, trial(tmp_path_factory.mktemp("undisturbed")))[0]


@pytest.fixture
def place(server: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    other_machine(tmp_path / "first", monkeypatch)
    return ObjectStore(f"s3://{BUCKET}/{request.node.name}/trial-0000?{server}")


def other_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on this process has nothing on its disk."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))


def at(place: ObjectStore, attempt: int = 1) -> TrialSpec:
    return trial(Path("x"), attempt=attempt).model_copy(update={"directory": place.uri})


def local(checkpoint: str | None) -> LocalCopy:
    assert checkpoint is not None
    return open_store(checkpoint).local_copy()


def test_a_trial_goes_on_on_another_machine_to_the_same_end(
    work: TrialRunner,
    undisturbed: TrialResult,
    home: Path,
    place: ObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, first = run(work, at(place), stop_after=3)
    kept = {name.partition("/")[0] for name in place.files()}
    assert len(kept) == 2
    assert "step-0003-a1" in kept
    other_machine(tmp_path / "second", monkeypatch)
    result, diary = run(work, at(place, attempt=2))
    assert first.steps == [1, 2, 3]
    assert (diary.steps, diary.trained) == ([1, 2, 3, 4], 2)
    assert without_clock(result.history) == without_clock(undisturbed.history)
    assert result.best is not None
    assert result.checkpoint is not None
    checkpoint = local(result.checkpoint)
    assert equal(merged(str(checkpoint.folder)), merged(undisturbed.checkpoint))
    scored = evaluate_checkpoint(result.checkpoint, "validation", work.task_plan, work.training, home, work.cache)
    assert scored.metrics == result.best.metrics
    # The best alone is left, without what training would go on from.
    name = ObjectStore(result.checkpoint).name
    assert {each.partition("/")[0] for each in place.files()} == {"result.json", name}
    assert f"{name}/manifest.json" in place.files()
    assert not [each for each in place.files() if "/resume/" in each]
    del checkpoint
    assert not list((cache_home() / "scratch").iterdir())


def test_a_trial_that_is_put_aside_between_evaluations_goes_on_on_another_machine(
    work: TrialRunner, undisturbed: TrialResult, place: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finesearch.training.loop.preemption_watch.PREEMPTION_CHECK_INTERVAL_S", 0.0)
    diary = Diary()
    with pytest.raises(Preempted):
        work.run(at(place), diary.report, diary.beat, iter([False, True]).__next__)
    (paused,) = [name.partition("/")[0] for name in place.files() if name.endswith("/pause.json")]
    other_machine(tmp_path / "second", monkeypatch)
    result, again = run(work, at(place, attempt=2))
    assert diary.trained + again.trained == 8, "no step was trained twice, and none was left out"
    assert equal(merged(str(local(result.checkpoint).folder)), merged(undisturbed.checkpoint))
    assert not [name for name in place.files() if name.startswith(paused)], "nothing of it stays"


def test_a_finished_trial_is_told_again_from_what_is_there(
    work: TrialRunner, place: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, _ = run(work, at(place))
    other_machine(tmp_path / "second", monkeypatch)
    again, diary = run(work, at(place, attempt=2))
    assert again == result
    assert (diary.steps, diary.trained) == ([1, 2, 3, 4], 0)


def test_a_checkpoint_without_its_manifest_does_not_count(
    work: TrialRunner, place: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(work, at(place), stop_after=3)
    newest = place.child("step-0003-a1")
    newest.delete_file("manifest.json")
    other_machine(tmp_path / "second", monkeypatch)
    (before,) = (int(name[5:9]) for name in place.files() if name.endswith("-a1/manifest.json"))
    _, diary = run(work, at(place, attempt=2), stop_after=4)
    assert before < 3
    assert (diary.steps, diary.trained) == ([1, 2, 3, 4], 2 * (4 - before))


def test_a_damaged_checkpoint_is_set_aside_there_and_the_one_before_it_taken(
    work: TrialRunner, undisturbed: TrialResult, place: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(work, at(place), stop_after=3)
    newest = place.child("step-0003-a1")
    content = bytearray(newest.read("model.safetensors") or b"")
    content[-5] ^= 1
    newest.write("model.safetensors", bytes(content))
    other_machine(tmp_path / "second", monkeypatch)
    result, _ = run(work, at(place, attempt=2))
    assert "Checkpoint step-0003-a1 is damaged (model.safetensors: expected SHA-256" in result.warnings[0]
    assert equal(merged(str(local(result.checkpoint).folder)), merged(undisturbed.checkpoint))
    assert place.child("step-0003-a1.quarantined").read("model.safetensors") == bytes(content)


def test_where_every_checkpoint_is_damaged_the_place_is_named(work: TrialRunner, place: ObjectStore) -> None:
    run(work, at(place), stop_after=1)
    place.child("step-0001-a1").write("model.safetensors", b"nothing")
    with pytest.raises(CheckpointError, match=r"^s3://bucket/.*/trial-0000: every checkpoint .* is damaged") as refused:
        run(work, at(place, attempt=2))
    assert "endpoint_override" not in refused.value.message


def test_a_superseded_attempt_stops_at_its_next_checkpoint(work: TrialRunner, place: ObjectStore) -> None:
    run(work, at(place, attempt=5), stop_after=1)
    spec = at(place, attempt=4)
    place.child("step-0001-a5", "resume").delete()  # nothing to go on from
    with pytest.raises(TrialError, match=r"attempt 4 found a checkpoint of attempt 5, which has taken its place"):
        run(work, spec)


def test_a_store_that_goes_away_ends_the_trial_as_a_matter_of_storage(work: TrialRunner, home: Path) -> None:
    with s3_bucket() as options:
        place = ObjectStore(f"s3://nowhere/trial-0000?{options}")
        with pytest.raises(StorageError, match=r"s3://nowhere/trial-0000.*: there is no such bucket"):
            run(work, at(place))


@pytest.mark.slow
def test_two_ranks_without_a_common_folder_keep_one_checkpoint_between_them(
    server: str, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "place").write_text(f"s3://{BUCKET}/pair/trial-0000?{server}")
    first, second = seen_by_two("store_pair_worker.py", home, tmp_path)
    assert first["stopped_at"] == 1
    assert sorted(name for name in first["files"] if "/resume/optimizer" in name) == [
        "step-0001-a1/resume/optimizer-rank0.safetensors",
        "step-0001-a1/resume/optimizer-rank1.safetensors",
    ]
    assert first["trained"] == second["trained"] == 2
    for seen in (first, second):
        assert seen["result"]["checkpoint"] == first["result"]["checkpoint"]
        for key in ("metrics", "train_loss"):
            told, plain = (seen[name]["history"] for name in ("result", "plain"))
            assert [each[key] for each in told] == [each[key] for each in plain]
