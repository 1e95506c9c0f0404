"""Who competes in which task, and how each of them is run."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers.bags_of_words import longest_matches, random_field, texts, words_and_characters
from peers.contest import (
    CLASSES,
    DIALOGUE,
    ENTITIES,
    QUESTIONS,
    RELATIONS,
    SPLITS,
    SUMMARIES,
    TRANSLATION,
    Contest,
)
from peers.copied_answers import best_sentence, first_sentences, nearest_reply, nearest_translation, source
from peers.scores import Score, score
from shared.competitors import timed

BAGS = "TF-IDF of words and characters, logistic regression"
PROBE = "logistic regression on the frozen model"
LOOP = "strong recipe by a plain loop"
SETFIT = "setfit"
ORDINARY = "Trainer, ordinary recipe"
PEERS = ("floors", "probe", "setfit", "ordinary", "loop")
PROGRAM = Path(__file__).resolve().parent / "setfit_program.py"
Answers = tuple[list[Any], float]


@dataclass(frozen=True)
class Entry:
    """What somebody reached. validation: None where it is not told; note: what a reader should know."""

    seconds: float
    test: Score
    validation: float | None
    note: str = ""


@dataclass(frozen=True)
class Terms:
    """budget_s: seconds of whoever can use any number; setfit_python: None leaves setfit out; peers: some of PEERS."""

    budget_s: float
    setfit_python: Path | None
    peers: tuple[str, ...] = PEERS


def entrants(contest: Contest, terms: Terms) -> dict[str, Callable[[], Entry]]:
    """Everybody but finesearch, by name, the cheapest first."""
    found: dict[str, Callable[[], Entry]] = {}
    if "floors" in terms.peers:
        found |= {name: _entered(contest, run) for name, run in _FLOORS[contest.kind].items()}
    if contest.kind not in (CLASSES, ENTITIES, RELATIONS, QUESTIONS):
        return found
    # They import torch, which the floors do not need.
    from peers.frozen_probe import frozen_probe
    from peers.ordinary_trainer import ordinary_trainer
    from peers.plain_loop import plain_loop

    if "probe" in terms.peers and contest.kind != QUESTIONS:
        found[PROBE] = _entered(contest, frozen_probe)
    if "setfit" in terms.peers and contest.kind == CLASSES and terms.setfit_python is not None:
        python = terms.setfit_python
        found[SETFIT] = lambda: _setfit(contest, terms.budget_s, python)
    if "ordinary" in terms.peers:
        found[ORDINARY] = _entered(contest, ordinary_trainer)
    if "loop" in terms.peers:
        found[LOOP] = _entered(contest, lambda given: plain_loop(given, terms.budget_s))
    return found


_FLOORS: Mapping[str, Mapping[str, Callable[[Contest], Answers]]] = {
    CLASSES: {BAGS: words_and_characters},
    RELATIONS: {BAGS: words_and_characters},
    ENTITIES: {"longest matches of train": longest_matches, "CRF on word shapes": random_field},
    QUESTIONS: {"best-overlapping sentence": best_sentence},
    TRANSLATION: {"the source, copied": source, "translation of the nearest source": nearest_translation},
    SUMMARIES: {"first sentences": first_sentences},
    DIALOGUE: {"reply to the nearest turn (BM25)": nearest_reply},
}


def _entered(contest: Contest, run: Callable[[Contest], Answers]) -> Callable[[], Entry]:
    def entry() -> Entry:
        began = time.perf_counter()
        answers, validation = run(contest)
        return Entry(time.perf_counter() - began, score(contest, answers), validation)

    return entry


def _setfit(contest: Contest, budget_s: float, python: Path) -> Entry:
    with tempfile.TemporaryDirectory(prefix="setfit-") as name:
        folder = Path(name)
        splits = {split: {"texts": texts(contest, split), "labels": contest.references(split)} for split in SPLITS}
        work = {
            "splits": splits, "model": contest.model, "max_length": contest.max_length, "seconds": budget_s,
            "folder": str(folder / "checkpoints"), "out": str(folder / "said.json"),
        }  # fmt: skip
        (folder / "work.json").write_text(json.dumps(work), encoding="utf-8")
        timed([str(python), str(PROGRAM), "work.json"], folder)
        said = json.loads((folder / "said.json").read_text(encoding="utf-8"))
    validation = score(contest, said["answers"]["validation"], "validation").value
    note = f"{said['steps']:,} steps of the {said['wanted_steps']:,} that 20 pairs a text make"
    return Entry(said["seconds"], score(contest, said["answers"]["test"]), validation, note)
