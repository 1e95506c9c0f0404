"""What is said of a trial that waits, and how many run at once; on clusters that are written down, not started."""

from __future__ import annotations

from pathlib import Path

import pytest

from finesearch.run.open_search import open_search_controller
from finesearch.tuning.cluster.pending_reasons import explain_pending, summarize_pending
from finesearch.tuning.cluster.resource_usage import NodeUsage, ResourceUsage
from finesearch.tuning.cluster.trial_concurrency import ConcurrencyUpdater
from finesearch.tuning.controller.search_controller import SEARCH, Concurrency, SearchController
from plans import empty_plan

MANY = 10**12
TRAINING = "{workers_per_trial: 2, cpus_per_worker: 2, gpus_per_worker: 0}"


def machine(free: float, ours: float = 0.0, total: float = 4.0, **more: object) -> NodeUsage:
    return NodeUsage("10.0.0.5", {"CPU": total}, {"CPU": free}, {"CPU": ours}, MANY, **more)  # type: ignore[arg-type]


def test_each_node_gives_account_of_what_it_holds() -> None:
    plan = empty_plan(training=TRAINING)
    busy = NodeUsage(
        "10.0.0.6",
        total={"CPU": 8.0, "GPU": 2.0},
        free={"CPU": 1.0, "GPU": 1.0},
        ours={"CPU": 2.0},
        others=(("placement group 'theirs' of job 02000000 (process 7 on 10.0.0.9)", {"CPU": 2.0, "GPU": 1.0}),),
        actors=("Server (job 03000000)",),
    )
    assert explain_pending(plan, ResourceUsage((machine(4.0), busy, machine(4.0, is_draining=True)))) == [
        "a trial asks for 2 worker(s) with 2 CPU(s) and 0 GPU(s) each; 1 of them fit into what is free",
        "node 10.0.0.5: 4 of 4 CPUs free",
        "node 10.0.0.6: 1 of 8 CPUs, 1 of 2 GPUs free; 2 CPUs held by trials of this search; "
        "2 CPUs, 1 GPUs held by placement group 'theirs' of job 02000000 (process 7 on 10.0.0.9); "
        "3 CPUs held by tasks or actors of others; actors there: Server (job 03000000)",
        "node 10.0.0.5: 4 of 4 CPUs free; it is being taken away, so nothing starts there",
    ]


def test_one_line_says_why_trials_wait() -> None:
    plan = empty_plan(training=TRAINING)
    seen = ResourceUsage((machine(1.0, ours=2.0), machine(4.0, is_draining=True)), waiting=1)
    assert summarize_pending(plan, seen) == (
        "1 waiting for 2 worker(s) with 2 CPU(s) and 0 GPU(s) each (1 of 4 CPUs free; others hold some: tasks or "
        "actors of others; 1 node(s) being taken away)"
    )


@pytest.fixture
def controller(tmp_path: Path) -> SearchController:
    plan = empty_plan(search="{pruner: none, concurrent_trials: auto}", budget="{trials: 9}")
    return open_search_controller(plan, tmp_path, 2)


def followed(controller: SearchController) -> ConcurrencyUpdater:
    following = ConcurrencyUpdater(controller.plan, 10**8, controller)
    following._ask_for_more = lambda resource_usage: None  # type: ignore[method-assign]
    return following


def test_more_room_is_used_at_once_and_less_after_a_second_look(controller: SearchController) -> None:
    following = followed(controller)
    following.update(ResourceUsage((machine(2.0, ours=2.0), machine(4.0))))
    assert controller.concurrency.concurrent_trials == 8
    following.update(ResourceUsage((machine(2.0, ours=2.0),)))
    assert controller.concurrency.concurrent_trials == 8
    following.update(ResourceUsage((machine(2.0, ours=2.0),)))
    assert controller.concurrency.concurrent_trials == 4


def test_what_others_hold_and_what_is_leaving_does_not_count(controller: SearchController) -> None:
    following = followed(controller)
    for _ in range(2):
        following.update(ResourceUsage((machine(1.0, ours=2.0), machine(4.0, is_draining=True))))
    assert controller.concurrency.concurrent_trials == 3


def test_one_trial_is_always_given_out_and_never_more_than_there_are(controller: SearchController) -> None:
    following = followed(controller)
    for _ in range(2):
        following.update(ResourceUsage((machine(0.0),)))
    assert controller.concurrency.concurrent_trials == 1
    following.update(ResourceUsage((machine(64.0, total=64.0),)))
    assert controller.concurrency.concurrent_trials == 9


def test_it_is_said_only_of_trials_that_go_on_waiting(controller: SearchController) -> None:
    following = followed(controller)
    waits = ResourceUsage((machine(0.0, ours=4.0),), waiting=1)
    for _ in range(4):
        following.update(waits)
    assert controller.concurrency.waiting is None
    following.update(waits)
    assert controller.concurrency.waiting is not None
    assert controller.concurrency.waiting.startswith("1 waiting for 1 worker(s)")
    following.update(ResourceUsage((machine(0.0, ours=4.0),)))
    assert controller.concurrency.waiting is None


def test_no_more_trials_are_given_out_than_there_is_room_for(controller: SearchController) -> None:
    from finesearch.tuning.ray_tune.searcher import StudySearcher

    searcher = StudySearcher(controller)
    given = [searcher.suggest(str(number)) is not None for number in range(3)]
    assert given == [True, True, False]
    controller.set_concurrency(Concurrency(3))
    assert searcher.suggest("2") is not None


def test_a_budget_that_is_spent_ends_a_search_in_which_no_trial_has_devices(controller: SearchController) -> None:
    assert controller.next_job("a") is not None
    following = followed(controller)
    for _ in range(5):
        following.update(ResourceUsage((machine(0.0),), waiting=1))
    assert not controller.should_stop_running
    controller.stop_reason = "the budget of 1 hours is spent"
    assert controller.should_stop_running
    controller.trial_ended("a", None, error=False)
    (trial,) = controller.journals[SEARCH].trials()
    reason = "no devices were free for it until the search ended: the budget of 1 hours is spent"
    assert trial.outcome is not None
    assert trial.outcome.reason == reason
