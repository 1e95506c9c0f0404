"""The mailbox alone: an asyncio object, so that its rules can be seen without a cluster."""

import asyncio
from pathlib import Path

import trial_reports
from finesearch.plan import Recipe
from finesearch.training.trial_types import StepProgress
from finesearch.tuning.messages import EvaluationReport, HandOut, Job, MailboxClosed, TrialFailed
from finesearch.tuning.workers.mailbox import MAX_TRIES, Mailbox
from trial_reports import completed

QUICK = 0.05


def job(folder: Path, decided: int = 0) -> Job:
    return Job(study="search", number=0, recipe=Recipe(), directory=str(folder / "trial"), decided=decided)


def evaluation(step: int) -> EvaluationReport:
    return trial_reports.evaluation(step, 0.5)


END = completed(evaluation(1))


def test_a_job_is_worked_on_to_its_end(tmp_path: Path) -> None:
    async def story() -> None:
        box = Mailbox()
        generation = await box.post(job(tmp_path))
        taken = await box.take("a", 0, 0)
        assert isinstance(taken, HandOut)
        assert (taken.generation, taken.job.attempt) == (generation, 1)
        report = asyncio.create_task(box.report(generation, evaluation(1)))
        assert (await box.next_event(generation)) == evaluation(1)
        await box.answer(generation, 1, True)
        assert await report is True
        await box.finish(generation, END)
        assert await box.next_event(generation) == END
        assert await box.take("a", 0, generation, QUICK) is None

    asyncio.run(story())


def test_what_allows_a_trial_to_go_on_asks_for_its_next_event(tmp_path: Path) -> None:
    async def scene() -> None:
        box = Mailbox()
        beginning = asyncio.create_task(box.begin(job(tmp_path)))
        taken = await box.take("a", 0, 0)
        assert isinstance(taken, HandOut)
        generation = taken.generation
        first = asyncio.create_task(box.report(generation, evaluation(1)))
        assert await beginning == (generation, evaluation(1))
        following = asyncio.create_task(box.next_event(generation, allowed=1))
        assert await first is True
        second = asyncio.create_task(box.report(generation, evaluation(2)))
        assert (await following) == evaluation(2)
        assert not second.done(), "nobody has allowed the second yet"
        second.cancel()
        assert await box.begin(job(tmp_path), QUICK) == (generation + 1, None), "no worker took it in time"

    asyncio.run(scene())


def test_a_stopped_trial_stops_at_once_and_nothing_of_it_reaches_the_next(tmp_path: Path) -> None:
    async def story() -> None:
        box = Mailbox()
        old = await box.post(job(tmp_path))
        await box.take("a", 0, 0)
        report = asyncio.create_task(box.report(old, evaluation(1)))
        await box.next_event(old)
        new = await box.post(job(tmp_path))
        assert await report is False
        assert await box.report(old, evaluation(2)) is False
        await box.finish(old, END)
        await box.answer(old, 1, True)
        assert await box.next_event(new, QUICK) is None

    asyncio.run(story())


def test_a_trial_that_kills_its_worker_every_time_fails_alone(tmp_path: Path) -> None:
    async def story() -> None:
        box = Mailbox()
        generation = await box.post(job(tmp_path))
        for attempt in range(1, MAX_TRIES + 1):
            taken = await box.take(f"incarnation {attempt}", 0, 0)
            assert isinstance(taken, HandOut)
            assert taken.job.attempt == attempt
        assert await box.take("one too many", 0, 0, QUICK) is None
        event = await box.next_event(generation)
        assert isinstance(event, TrialFailed)
        assert not event.is_fatal
        assert "died 3 times" in event.reason
        following = await box.post(job(tmp_path))
        assert await box.take("one too many", 0, 0) is not None
        assert await box.next_event(following, QUICK) is None

    asyncio.run(story())


def test_a_rank_waits_for_rank_0_of_its_own_incarnation(tmp_path: Path) -> None:
    async def story() -> None:
        box = Mailbox()
        await box.post(job(tmp_path))
        await box.take("dead", 0, 0)
        assert await box.take("alive", 1, 0, QUICK) is None, "it would have got the dead incarnation's hand-out"
        other = asyncio.create_task(box.take("alive", 1, 0))
        zero = await box.take("alive", 0, 0)
        assert await other == zero

    asyncio.run(story())


def test_what_the_journal_has_is_not_passed_on_again(tmp_path: Path) -> None:
    async def story() -> None:
        box = Mailbox()
        generation = await box.post(job(tmp_path, decided=2))
        await box.take("a", 0, 0)
        assert await box.report(generation, evaluation(1)) is True
        assert await box.report(generation, evaluation(2)) is True
        assert await box.next_event(generation, QUICK) is None
        assert await box.report(generation, evaluation(3), QUICK) is None, "no verdict came yet"
        assert await box.report(generation, evaluation(3), QUICK) is None
        assert (await box.next_event(generation)) == evaluation(3)
        assert await box.next_event(generation, QUICK) is None, "asked again, but passed on once"

    asyncio.run(story())


def test_silence_counts_only_while_a_worker_works(tmp_path: Path) -> None:
    async def story() -> None:
        box = Mailbox()
        generation = await box.post(job(tmp_path))
        await asyncio.sleep(QUICK)
        assert await box.seconds_since_heartbeat() == 0.0, "no worker has the job yet"
        await box.take("a", 0, 0)
        await asyncio.sleep(2 * QUICK)
        assert await box.seconds_since_heartbeat() >= QUICK
        await box.beat(generation)
        assert await box.seconds_since_heartbeat() < QUICK
        assert await box.condemn() == "a"
        assert await box.is_condemned("a")
        assert await box.take("a", 0, 0, QUICK) is None, "a condemned group gets nothing more"
        assert await box.take("b", 0, 0) is not None

    asyncio.run(story())


def test_a_trial_folder_that_cannot_be_written_ends_the_search(tmp_path: Path) -> None:
    async def story() -> None:
        box = Mailbox()
        (tmp_path / "trial").write_text("a file where the folder should be")
        generation = await box.post(job(tmp_path))
        assert await box.take("a", 0, 0, QUICK) is None
        event = await box.next_event(generation)
        assert isinstance(event, TrialFailed)
        assert (event.is_fatal, event.error) == (True, "StorageError")

    asyncio.run(story())


def test_a_trial_that_gets_further_each_time_is_handed_out_again_and_again(tmp_path: Path) -> None:
    async def story() -> None:
        box = Mailbox()
        generation = await box.post(job(tmp_path))
        for step in range(1, 3 * MAX_TRIES):
            assert await box.take(f"incarnation {step}", 0, 0) is not None
            await box.answer(generation, step, True)
            assert await box.report(generation, evaluation(step)) is True
        # What it reports again after a restart is not new: from the same place it may fail so often and no more.
        for attempt in range(MAX_TRIES):
            assert await box.take(f"again {attempt}", 0, 0) is not None
            assert await box.report(generation, evaluation(1)) is True
        assert await box.take("one too many", 0, 0, QUICK) is None
        event = await box.next_event(generation)
        while isinstance(event, EvaluationReport):
            event = await box.next_event(generation)
        assert isinstance(event, TrialFailed)
        assert "died 3 times in a row without a new evaluation" in event.reason

    asyncio.run(story())


def test_a_trial_that_got_further_and_is_put_back_has_as_many_tries_as_any(tmp_path: Path) -> None:
    async def story() -> None:
        box = Mailbox()
        generation = await box.post(job(tmp_path))
        assert await box.take("first", 0, 0) is not None
        await box.answer(generation, 1, True)
        assert await box.report(generation, evaluation(1)) is True
        await box.requeue(generation, "first")
        for attempt in range(MAX_TRIES):
            assert await box.take(f"again {attempt}", 0, 0) is not None
        assert await box.take("one too many", 0, 0, QUICK) is None

    asyncio.run(story())


def test_a_trial_that_is_put_back_loses_no_try(tmp_path: Path) -> None:
    async def story() -> None:
        box = Mailbox()
        generation = await box.post(job(tmp_path))
        for number in range(2 * MAX_TRIES):
            taken = await box.take(f"incarnation {number}", 0, 0)
            assert isinstance(taken, HandOut)
            assert taken.job.attempt == number + 1
            for _ in ("rank 0", "rank 1"):
                await box.requeue(generation, f"incarnation {number}")
            assert await box.seconds_since_heartbeat() == 0.0
        await box.take("last", 0, 0)
        await box.requeue(generation, "incarnation 0")
        assert await box.take("last", 1, 0) is not None, "what is put back late changes nothing"

    asyncio.run(story())


def test_a_box_that_closes_stops_the_trial_that_waits_for_a_verdict(tmp_path: Path) -> None:
    async def story() -> None:
        box = Mailbox()
        generation = await box.post(job(tmp_path))
        await box.take("a", 0, 0)
        report = asyncio.create_task(box.report(generation, evaluation(1)))
        await box.next_event(generation)
        await box.close()
        assert await report is False
        assert await box.take("a", 0, generation) == MailboxClosed()

    asyncio.run(story())


def test_it_tells_how_far_the_trial_that_trains_has_come(tmp_path: Path) -> None:
    async def talk() -> None:
        box = Mailbox()
        generation = await box.post(job(tmp_path))
        assert await box.take("group", 0, 0)
        assert await box.live() is None, "nothing was told yet"
        await box.beat(generation, StepProgress(0.5, 2, 100.0))
        await box.beat(generation)
        study, number, told = await box.live() or ("", -1, None)
        assert (study, number, told) == (job(tmp_path).study, job(tmp_path).number, StepProgress(0.5, 2, 100.0))
        await box.beat(generation - 1, StepProgress(1.5, 2, 100.0))
        assert (await box.live() or ("", 0, None))[2] == told, "an earlier trial's beat counts for nothing"
        await box.post(job(tmp_path))
        assert await box.live() is None

    asyncio.run(talk())
