"""The page: closed to the network, deaf to hostile text, honest about what is partial."""

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser

import pytest
from report_records import ORDINARY, search_record

from finesearch.report import (
    Breakdown,
    ClassRow,
    ClassScores,
    Confusion,
    ExampleRow,
    GroupRow,
    RunRecord,
    ScoredRow,
    TrialRow,
)
from finesearch.report.page import html_page

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&`|"


def scripts(page: str) -> list[str]:
    return re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)


def without_scripts(page: str) -> str:
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def data(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)[1])


def breakdown() -> Breakdown:
    systems = ["ordinary", "trial 3"]
    scores = {name: ClassScores(precision=0.5, recall=1.0, f1=2 / 3) for name in systems}
    return Breakdown(
        systems=systems,
        winner="trial 3",
        before="ordinary",
        classes=[ClassRow(name="spam", rows=1234, scores=scores)],
        groups=[
            GroupRow(
                by="length",
                group="1 to 9",
                rows=20,
                scores={"ordinary": 0.5, "trial 3": None},
                intervals={"ordinary": (0.41, 0.59)},
                gain_interval=(0.03, 0.21),
            )
        ],
        confusion=Confusion(names=["ham", "spam"], counts=[[3, 1], [0, 4]]),
        examples=[
            ExampleRow(row=7, inputs={"text": "buy"}, true="spam", answers={"ordinary": "ham", "trial 3": "ham"})
        ],
    )


def hostile_record() -> RunRecord:
    trials = [
        TrialRow(
            trial=i,
            state=state,
            reason=HOSTILE,
            parameters={f"rate{HOSTILE}": i + 0.5, HOSTILE: HOSTILE + str(i)},
            values=[0.5 + i / 100] if state == "complete" else None,
            history=[{"step": 1, "value": 0.4, "epoch": 1.0}],
            started=1.0 + i,
            finished=2.0 + i,
            group=HOSTILE,
            checkpoint=HOSTILE,
            warnings=[HOSTILE],
        )
        for i, state in enumerate(["complete", "complete", "failed", "pruned", "running"])
    ]
    ranked = ScoredRow(
        name=HOSTILE,
        trial=0,
        validation=0.5,
        test=0.4,
        test_interval=(0.3, 0.5),
        test_metrics={HOSTILE: 0.4},
        parameters={HOSTILE: HOSTILE},
        checkpoint=HOSTILE,
    )
    refused = ScoredRow(name=HOSTILE, trial=1, error=HOSTILE)
    return RunRecord(
        name=HOSTILE,
        metric=HOSTILE,
        goal="max",
        objectives=[{"name": HOSTILE, "goal": "max"}],
        trials=trials,
        ranked=[ranked, refused],
        baselines=[ORDINARY.model_copy(update={"error": HOSTILE})],
        breakdown=Breakdown(
            systems=[HOSTILE],
            winner=HOSTILE,
            before=HOSTILE,
            classes=[ClassRow(name=HOSTILE, rows=1, scores={HOSTILE: ClassScores(precision=1.0, recall=0.5, f1=0.6)})],
            groups=[GroupRow(by=HOSTILE, group=HOSTILE, rows=1, scores={HOSTILE: 0.5})],
            confusion=Confusion(names=[HOSTILE], counts=[[1]]),
            examples=[ExampleRow(row=1, inputs={HOSTILE: HOSTILE}, true=HOSTILE, answers={HOSTILE: HOSTILE})],
        ),
        importances={HOSTILE: 0.5},
        notes=[HOSTILE],
        warnings=[HOSTILE],
        cost={HOSTILE: HOSTILE},
        plan_yaml=HOSTILE,
        reproduction={"command": HOSTILE, HOSTILE: {HOSTILE: [HOSTILE]}},
    )


def test_the_page_names_no_other_place():
    page = without_scripts(html_page(search_record()))
    assert "http:" not in page
    assert "https:" not in page
    assert not re.search(r"(src|href)=|@import|url\(", page)


def test_scores_on_parts_of_test_have_a_column_for_each_system():
    text = re.sub(r"<[^>]+>", " ", without_scripts(html_page(search_record(breakdown=breakdown()))))
    text = re.sub(r"\s+", " ", text)
    assert "class rows ordinary trial 3 spam 1,234 0.667 0.50 / 1.00 0.667 0.50 / 1.00" in text
    assert "true \\ answered ham spam ham 3 1 spam 4" in text
    assert "length rows ordinary trial 3 gain 1 to 9 20 0.50 (0.41 to 0.59) – +0.03 to +0.21" in text
    assert "row input true ordinary trial 3 7 text buy spam ham ham" in text
    assert "By class" not in html_page(search_record())


def test_plotly_is_in_the_page_once():
    page = html_page(search_record())
    assert len(scripts(page)) == 2
    assert page.count("* plotly.js v") == 1


def test_the_content_policy_forbids_everything_but_the_two_scripts_that_are_there():
    page = html_page(search_record())
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts(page)]
    assert f"script-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_hostile_text_stays_text():
    page = html_page(hostile_record())
    assert len(re.findall(r"<script", without_data(page))) == 2
    assert "<img" not in without_scripts(page)
    assert page.count("</script>") == 3
    assert "<img src=x onerror=alert(1)>" in html.unescape(without_scripts(page))


def without_data(page: str) -> str:
    return re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.DOTALL)


def test_hostile_text_in_the_figures_is_data():
    written = json.dumps(data(html_page(hostile_record())))
    assert "<img" not in written
    assert "&lt;img" in written


def test_hostile_text_adds_no_element_and_no_attribute():
    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.seen = set()

        def handle_starttag(self, tag, attrs):
            self.seen |= {tag} | {f"{tag} {name}" for name, _ in attrs}

    hostile, plain = Reader(), Reader()
    hostile.feed(html_page(hostile_record()))
    refused = search_record().ranked[0].model_copy(update={"error": "it scored otherwise"})
    ranked = [refused, *search_record().ranked[1:]]
    plain.feed(html_page(search_record(trials=20, ranked=ranked, breakdown=breakdown())))
    assert hostile.seen - plain.seen == set()


def test_a_partial_page_says_so_and_reloads_itself():
    page = html_page(search_record(partial=True))
    assert '<meta http-equiv="refresh" content="30">' in page
    assert "Partial: the search has not ended (0 trials running)." in page
    assert "<title>Partial: made-up" in page


def test_a_finished_page_stays():
    page = html_page(search_record())
    assert 'http-equiv="refresh"' not in page
    assert "Partial" not in without_scripts(page)


def test_the_table_holds_ranked_refused_and_baselines():
    record = search_record()
    spoiled = record.ranked[1].model_copy(update={"error": "reloaded, it scored 0.41 and not 0.93"})
    page = html_page(search_record(ranked=[record.ranked[0], spoiled, record.ranked[2]]))
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", page.split('class="ranking"')[1].split("</table>")[0], re.DOTALL)[1:]
    texts = [" ".join(html.unescape(re.sub(r"<[^>]*>", " ", row)).split()) for row in rows]
    assert [text.split(" 0.")[0] for text in texts] == [
        f"1 {record.ranked[0].name}",
        f"2 {record.ranked[2].name}",
        f"refused {spoiled.name} reloaded, it scored",
        "baseline ordinary",
        "baseline majority",
    ]
    assert "0.870 0.855 to 0.885 macro_f1 0.861 · mcc 0.840 22.6 M 27 s learning_rate 5e-5" in texts[3]


def test_trials_without_a_rank_stand_with_state_and_reason():
    page = html_page(search_record(trials=60))
    record = search_record(trials=60)
    failed = next(row for row in record.trials if row.state == "failed")
    assert f"failed: {failed.reason}" in page
    assert page.count('data-label="reason"') == 57


def test_notes_warnings_command_and_plan_are_there():
    page = html_page(search_record())
    assert "validation and test were cut from train (10 % each, stratified by label, seed 0)" in page
    assert "training.zero_stage has no effect with one worker" in page
    assert "<pre>python platform/search.py space.yaml --name made-up</pre>" in page
    assert "versions.torch" in page
    assert "learning_rate: {min: 1.0e-06, max: 0.01, log: true}" in page


def test_a_warning_that_many_trials_share_is_said_once():
    trials = [TrialRow(trial=i, state="failed", warnings=["checkpoint damaged"]) for i in range(5)]
    page = html_page(RunRecord(name="a", metric="accuracy", goal="max", trials=trials))
    assert page.count("checkpoint damaged") == 1
    assert "5 trials: checkpoint damaged" in page


@pytest.mark.parametrize(
    "record",
    [
        RunRecord(name="a", metric="accuracy", goal="max"),
        RunRecord(name="a", metric="accuracy", goal="max", partial=True),
        RunRecord(name="a", metric="loss", goal="min", trials=[TrialRow(trial=0, state="running")], partial=True),
        RunRecord(name="a", metric="accuracy", goal="max", trials=[TrialRow(trial=0, state="failed")]),
        RunRecord(name="a", metric="accuracy", goal="max", ranked=[ScoredRow(name="trial 0")]),
        RunRecord(name="a", metric="accuracy", goal="max", baselines=[ScoredRow(name="majority", test=0.0)]),
        RunRecord(name="a", metric="accuracy", goal="max", trials=[TrialRow(trial=0, state="complete", values=[None])]),
        search_record(trials=1),
        search_record(baselines=[]),
        search_record(ranked=[]),
    ],
)
def test_odd_cases_make_a_page(record):
    page = html_page(record)
    assert page.startswith("<!doctype html>")
    assert "None" not in without_scripts(page)
    assert "nan" not in without_scripts(page).replace("finance", "")
