"""A run goes on only with the data, the model and the study that it began with; else nothing of it is touched."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from finesearch.commands.rebuild_report import rebuild_report
from finesearch.commands.run_search import run_search
from finesearch.errors import RunConflictError, StorageError
from finesearch.plan import Plan, load_plan
from finesearch.run.build_record import lost_words
from finesearch.run.identity.begun_plan import RunChoices, write_plan
from finesearch.run.identity.run_identity import RunIdentity, keep_identity, read_identity
from finesearch.run.open_search import SearchRequest, open_search_controller
from finesearch.run.preflight import run_preflight
from finesearch.run.run_storage import RunStorage
from plans import empty_plan, tiny_plan, write_sentiment
from tiny_models import write_tiny_model
from trial_reports import evaluation


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model, data, plan, and a run that has begun."""
    folder = tmp_path_factory.mktemp("begun")
    write_tiny_model(folder / "model")
    write_sentiment(folder)
    (folder / "tiny.yaml").write_text(
        tiny_plan(baselines="[majority]").replace("epochs: 2", "epochs: 2, precision: fp32")
    )
    plan = plan_in(folder)
    preflight = run_preflight(plan, folder / "cache", has_begun=False)
    run_storage = storage_in(folder)
    keep_identity(preflight.plan, preflight, run_storage, has_begun=False)
    write_plan(preflight.plan, RunChoices(preflight.choices), run_storage)
    open_search_controller(preflight.plan, run_storage)
    (run_storage.folder / "ranked.json").write_text("[]")  # so that Ray is not started ahead of the checks
    return folder


@pytest.fixture
def run(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the working directory."""
    folder = tmp_path / "work"
    shutil.copytree(begun, folder)
    plan = folder / "runs" / "tiny" / "plan.yaml"
    plan.write_text(plan.read_text().replace(str(begun), str(folder)))
    monkeypatch.chdir(folder)
    return folder


def plan_in(folder: Path) -> Plan:
    return load_plan(folder / "tiny.yaml")


def storage_in(folder: Path) -> RunStorage:
    (folder / "runs" / "tiny").mkdir(parents=True, exist_ok=True)
    return RunStorage("tiny", folder / "runs" / "tiny")


def contents(folder: Path) -> dict[str, str]:
    """Files of the run by their hash; SQLite's own side files come and go."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "runs").rglob("*"))
        if path.is_file() and path.suffix not in (".lock", ".db-wal", ".db-shm") and "cache" not in path.parts
    }


def refused(folder: Path, error: type[Exception], match: str) -> None:
    """Search and report refuse the run, and leave it as it is."""
    before = contents(folder)
    with pytest.raises(error, match=match):
        run_search(SearchRequest(plan_in(folder), folder / "reports"))
    with pytest.raises(error, match=match):
        rebuild_report(folder / "runs" / "tiny", folder / "reports")
    assert contents(folder) == before
    assert not (folder / "reports").exists()


def test_rows_that_changed_are_refused_and_their_split_is_named(run: Path) -> None:
    path = run / "test.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    refused(run, RunConflictError, r"data: the rows of test are others \(SHA-256 \w{12}…, was \w{12}…\)")


def test_a_base_model_that_was_replaced_is_refused(run: Path) -> None:
    shutil.rmtree(run / "model")
    write_tiny_model(run / "model", seed=7)
    refused(run, RunConflictError, "model: the weights of model are others")


def test_a_tokenizer_that_was_changed_is_refused(run: Path) -> None:
    path = run / "model" / "tokenizer.json"
    path.write_text(path.read_text() + "\n")
    refused(run, RunConflictError, "model: the tokenizer of model is another")


def test_a_run_whose_study_was_emptied_keeps_its_checkpoints(run: Path) -> None:
    (run / "runs" / "tiny" / "checkpoints" / "trial-0000").mkdir(parents=True)
    (run / "runs" / "tiny" / "ranked.json").write_text('[{"checkpoint": "a"}]')
    (run / "runs" / "tiny" / "study.db").write_bytes(b"")
    with pytest.raises(StorageError, match=r"checkpoints of 1 trial\(s\) and a ranking of 1 checkpoint\(s\)") as told:
        rebuild_report(run / "runs" / "tiny", run / "reports")
    assert told.value.exit_code == 3
    with pytest.raises(StorageError, match="the study holds no trial"):
        run_search(SearchRequest(plan_in(run), run / "reports"))
    assert (run / "runs" / "tiny" / "checkpoints" / "trial-0000").is_dir()


def test_a_record_that_is_damaged_is_named(run: Path) -> None:
    path = run / "runs" / "tiny" / "identity.json"
    path.write_text(path.read_text()[:40])
    refused(run, StorageError, "identity.json: expected the record of what this run began with")


def test_a_run_of_an_older_version_gets_a_record_when_it_goes_on(run: Path) -> None:
    run_storage = storage_in(run)
    (run_storage.folder / "identity.json").unlink()
    preflight = run_preflight(plan_in(run), run / "cache", has_begun=True)
    keep_identity(preflight.plan, preflight, run_storage, has_begun=True)
    identity = read_identity(run_storage)
    assert identity is not None
    assert identity.adopted
    assert identity.differences(RunIdentity.of(preflight.plan, preflight)) == []


def with_identity(folder: Path, adopted: bool = False) -> RunStorage:
    folder.mkdir(exist_ok=True)
    said = {"mark": folder.name, "adopted": adopted, "plan_sha256": "0", "data": {}, "model": "m"}
    identity = RunIdentity.model_validate({**said, "model_sha256": "0", "tokenizer_sha256": "0"})
    (folder / "identity.json").write_text(identity.model_dump_json())
    return RunStorage("empty", folder)


def with_a_trial(run_storage: RunStorage) -> None:
    controller = open_search_controller(empty_plan(), run_storage)
    assert controller.next_job("t") is not None
    controller.evaluation("t", evaluation(1, 0.5))


def test_the_study_of_another_run_is_refused(tmp_path: Path) -> None:
    run_storage = with_identity(tmp_path / "run")
    with_a_trial(run_storage)
    (tmp_path / "run" / "identity.json").unlink()
    identity = with_identity(tmp_path / "other").folder / "identity.json"
    shutil.copy(identity, tmp_path / "run" / "identity.json")
    with pytest.raises(RunConflictError, match=r"the study belongs to another run than identity\.json"):
        open_search_controller(empty_plan(), run_storage)


def test_a_study_without_a_mark_is_taken_only_where_the_run_is_older_than_marks(tmp_path: Path) -> None:
    plain = RunStorage("empty", tmp_path / "run")
    plain.folder.mkdir()
    with_a_trial(plain)
    with_identity(tmp_path / "run")
    with pytest.raises(RunConflictError, match="belongs to another run"):
        open_search_controller(empty_plan(), plain)
    with_identity(tmp_path / "run", adopted=True)
    open_search_controller(empty_plan(), plain)
    with_identity(tmp_path / "run")
    open_search_controller(empty_plan(), plain)  # it has the mark now


def test_a_record_that_was_lost_is_made_again_with_the_mark_of_the_study(tmp_path: Path) -> None:
    run_storage = with_identity(tmp_path / "run")
    with_a_trial(run_storage)
    lost = run_storage.folder / "identity.json"
    told = json.loads(lost.read_text())
    lost.write_text(json.dumps({**told, "mark": "new", "adopted": True}))
    open_search_controller(empty_plan(), run_storage)
    assert json.loads(lost.read_text())["mark"] == "run"


def test_trials_that_the_study_has_lost_are_told(tmp_path: Path) -> None:
    run_storage = with_identity(tmp_path / "run")
    with_a_trial(run_storage)
    for number in (0, 1, 2):
        (tmp_path / "run" / "checkpoints" / f"trial-{number:04d}").mkdir(parents=True, exist_ok=True)
    controller = open_search_controller(empty_plan(), run_storage)
    assert controller.delete_orphaned_checkpoints() == [1, 2]
    again = open_search_controller(empty_plan(), run_storage)
    assert again.delete_orphaned_checkpoints() == []
    assert again.lost_trials == [1, 2]
    (tmp_path / "run" / "checkpoints" / "trial-0007").mkdir()
    once_more = open_search_controller(empty_plan(), run_storage)
    assert once_more.delete_orphaned_checkpoints() == [7]
    assert once_more.lost_trials == [1, 2, 7]
    assert lost_words([1, 2]).startswith("Trials 1 and 2 left checkpoints, and the study did not know of them")
    assert "At least 2 results are lost" in lost_words([1, 2])
    assert json.loads((tmp_path / "run" / "identity.json").read_text())["mark"] == "run"
