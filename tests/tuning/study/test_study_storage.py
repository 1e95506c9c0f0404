"""The study in a real PostgreSQL: it goes on from there, two runs of one name stay apart, and nobody sees the
password."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from databases import PASSWORD, USER, postgres
from finesearch.errors import PlanError, RunConflictError, StorageError
from finesearch.plan import Plan, parse_plan
from finesearch.run.open_search import open_search_controller
from finesearch.run.remote_run import run_storage_of
from finesearch.tuning.controller.search_controller import SEARCH
from finesearch.tuning.samplers.sampler_factory import make_sampler
from finesearch.tuning.study.journaled_trial import Outcome
from finesearch.tuning.study.study_storage import database_url
from plans import empty_plan
from trial_reports import evaluation

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as where:
        yield where


@pytest.fixture(autouse=True)
def _no_other_study(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FINESEARCH_STUDY", "PGPASSWORD", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def plan_in(folder: Path, study: str | None = None, name: str = "empty") -> Plan:
    more = {"storage": str(folder)} | ({} if study is None else {"study": study})
    return empty_plan(name, **more)


def run_trials(plan: Plan, count: int) -> list[float]:
    """Values of all trials of the plan's run, after ``count`` more."""
    home = run_storage_of(plan)
    home.prepare()
    with home.locked(lambda _: None):
        journal = open_search_controller(plan, home).journals[SEARCH]
        for _ in range(count):
            number = journal.ask(plan.space.suggest, make_sampler(plan, len(journal.trials()), 1)).number
            journal.report(number, evaluation(1, 0.5), 0.5)
            journal.finish(number, Outcome("complete", values=(0.5 + number / 100,)))
    return [trial.values[0] for trial in open_search_controller(plan, home).journals[SEARCH].trials()]


def test_a_study_lives_in_the_database_and_goes_on_from_there(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    plan = plan_in(tmp_path, f"postgresql+psycopg://{USER}@{server}")
    assert run_trials(plan, 2) == [0.5, 0.51]
    assert run_trials(plan, 1) == [0.5, 0.51, 0.52]
    assert not (tmp_path / "empty" / "study.db").exists()
    assert PASSWORD not in "".join(path.read_text() for path in (tmp_path / "empty").iterdir() if path.is_file())


def test_runs_of_one_name_do_not_share_a_study(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINESEARCH_STUDY", f"postgresql://{USER}:{PASSWORD}@{server}")
    assert run_trials(plan_in(tmp_path / "a"), 1) == [0.5]
    assert run_trials(plan_in(tmp_path / "b"), 1) == [0.5]


def test_url_and_password_may_come_from_the_environment(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setenv("FINESEARCH_STUDY", f"postgresql+psycopg://{USER}@{server}")
    assert run_trials(plan_in(tmp_path), 1) == [0.5]


def test_a_run_keeps_its_study_where_it_began(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    url = f"postgresql://{USER}@{server}"
    run_trials(plan_in(tmp_path / "database", url), 1)
    with pytest.raises(RunConflictError, match=r"keeps its study in a database\. Give its URL by `study`"):
        run_trials(plan_in(tmp_path / "database"), 1)
    run_trials(plan_in(tmp_path / "file"), 1)
    with pytest.raises(RunConflictError, match=r"keeps its study in study\.db, and a database was given"):
        run_trials(plan_in(tmp_path / "file", url), 1)


def test_a_wrong_password_is_told_without_showing_it(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINESEARCH_STUDY", f"postgresql://{USER}:wrong-canary@{server}")
    plan = plan_in(tmp_path)
    with pytest.raises(
        StorageError,
        match=rf"study postgresql://{USER}@127\.0\.0\.1:\d+/postgres: the database .*authentication failed",
    ) as refused:
        run_trials(plan, 1)
    assert "wrong-canary" not in refused.value.message


def test_a_database_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINESEARCH_STUDY", "postgresql://ada:hidden@127.0.0.1:9/postgres")
    plan = plan_in(tmp_path)
    with pytest.raises(StorageError, match=r"cannot be used: .*refused.*PGPASSWORD, ~/\.pgpass") as refused:
        run_trials(plan, 1)
    assert "hidden" not in refused.value.message


@pytest.mark.parametrize("study", ["sqlite:///study.db", "mysql://ada:hidden@host/db", "hidden"])
def test_other_urls_are_refused_without_showing_them(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlanError, match=r"study: expected the URL of a PostgreSQL database, such as ") as refused:
        plan_in(Path("runs"), study)
    assert "hidden" not in refused.value.message
    monkeypatch.setenv("FINESEARCH_STUDY", study)
    with pytest.raises(PlanError, match=r"^FINESEARCH_STUDY: study: expected the URL"):
        database_url(plan_in(Path("runs")))


def test_a_password_in_a_plan_is_refused_and_none_stands_in_the_command() -> None:
    url = "postgresql+psycopg://ada:hidden@host/db?sslmode=require&password=hidden"
    with pytest.raises(PlanError, match=r"(?s)study: expected no secret, .* FINESEARCH_STUDY") as refused:
        plan_in(Path("runs"), url)
    assert "hidden" not in refused.value.message
    plan = plan_in(Path("runs"), "postgresql+psycopg://ada@host/db?sslmode=require")
    assert "study: postgresql+psycopg://ada@host/db?sslmode=require" in plan.to_yaml()
    assert parse_plan(plan.to_yaml()) == plan
    assert plan.differences(plan_in(Path("runs"))) == []
    with pytest.raises(
        PlanError, match=r"(?s)--set study=.*: study: expected no secret, .* FINESEARCH_STUDY"
    ) as refused:
        parse_plan(plan.to_yaml(), overrides=[f"study={url}"])
    assert "hidden" not in refused.value.message
    with pytest.raises(PlanError, match=r"study: expected no secret") as refused:
        Plan(**{**{name: getattr(plan, name) for name in type(plan).model_fields}, "study": url})
    assert "hidden" not in refused.value.message
