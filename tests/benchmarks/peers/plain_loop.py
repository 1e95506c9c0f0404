"""The strong recipe as an expert writes it: a bare PyTorch loop, tried with a few settings for as long as ours took.

Texts and relations begin with a solved head (Kumar et al., 2022), entities with a random one that learns ten times as
fast. AdamW, warm-up over a tenth of the steps, linear decay, more epochs than on large data (Mosbach et al., 2021),
gradients clipped to 1, batches of rows of similar length; the best epoch on validation counts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from peers.contest import CLASSES, ENTITIES, QUESTIONS, RELATIONS, Contest
from peers.encoded_rows import EncodedRow, Problem
from peers.encoder_head import EncoderHead, collate, logits_of
from peers.frozen_probe import Probe, solved
from peers.scores import score
from torch import nn

CHUNK = 8
WARMUP = 0.1
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Settings:
    """One try of the loop. head_factor: the head's learning rate over the body's."""

    learning_rate: float
    epochs: int
    batch_size: int = 32
    head_factor: float = 1.0
    is_probed: bool = False
    seed: int = 0


_PROBED = Settings(1e-4, 6, is_probed=True)
_ENTITIES = Settings(3e-4, 6, head_factor=10.0)
_QUESTIONS = Settings(1e-4, 4, batch_size=16)


def _tries(first: Settings, *rates: float) -> tuple[Settings, ...]:
    """Other learning rates after the first settings, then smaller batches for longer, then another seed."""
    longer = replace(first, batch_size=first.batch_size // 2, epochs=first.epochs + 2)
    return (first, *(replace(first, learning_rate=rate) for rate in rates), longer, replace(first, seed=1))


TRIES = {
    CLASSES: _tries(_PROBED, 2e-4, 5e-5, 3e-4),
    RELATIONS: _tries(_PROBED, 2e-4, 3e-4, 5e-5),
    ENTITIES: _tries(_ENTITIES, 2e-4, 5e-4, 1e-4),
    QUESTIONS: _tries(_QUESTIONS, 2e-4, 5e-5, 3e-4),
}


def plain_loop(contest: Contest, budget_s: float, tries: Sequence[Settings] = ()) -> tuple[list[Any], float]:
    """Answers on test of the best try, and its score on validation; no try begins that would outlast the budget.

    tries: by default those of the kind; the first one is always made.
    """
    problem = Problem(contest)
    began = time.perf_counter()
    tries = tries or TRIES[contest.kind]
    model = EncoderHead(problem)
    probe = solved(model, problem) if tries[0].is_probed else None
    best: tuple[float, list[Any]] = (-1.0, [])
    for number, settings in enumerate(tries):
        started = time.perf_counter()
        best = max(best, _trained(problem, settings, probe), key=lambda one: one[0])
        now = time.perf_counter()
        following = tries[number + 1] if number + 1 < len(tries) else settings
        expected = (now - started) * following.epochs / settings.epochs
        if now - began + expected > budget_s:
            break
    return best[1], best[0]


def _trained(problem: Problem, settings: Settings, probe: Probe | None) -> tuple[float, list[Any]]:
    """The best epoch's score on validation, and its answers on test."""
    torch.manual_seed(settings.seed)
    shuffled = np.random.default_rng(settings.seed)
    model = EncoderHead(problem)
    if probe is not None:
        probe.into(model)
    rows, padding = problem.encoded["train"], problem.tokenizer.pad_token_id or 0
    steps = -(-len(rows) // settings.batch_size) * settings.epochs
    optimizer = torch.optim.AdamW(_groups(model, settings), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, steps))
    best: tuple[float, dict[str, Any]] = (-1.0, {})
    for _ in range(settings.epochs):
        model.train()
        for part in _batches(rows, settings.batch_size, shuffled):
            model.loss(collate(part, padding)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        answers = problem.answers("validation", logits_of(model, problem, "validation"))
        value = score(problem.contest, answers, "validation").value
        if value > best[0]:
            best = (value, {name: weight.clone() for name, weight in model.state_dict().items()})
    model.load_state_dict(best[1])
    return best[0], problem.answers("test", logits_of(model, problem, "test"))


def _batches(rows: Sequence[EncodedRow], size: int, shuffled: np.random.Generator) -> list[list[EncodedRow]]:
    """An epoch's batches in random order, each of rows of similar length out of ``CHUNK`` batches drawn at random."""
    order: list[int] = shuffled.permutation(len(rows)).tolist()
    batches = []
    for start in range(0, len(order), size * CHUNK):
        chunk = sorted(order[start : start + size * CHUNK], key=lambda place: len(rows[place].ids))
        batches += [[rows[place] for place in chunk[at : at + size]] for at in range(0, len(chunk), size)]
    return [batches[place] for place in shuffled.permutation(len(batches))]


def _groups(model: EncoderHead, settings: Settings) -> list[dict[str, Any]]:
    """The head at its own rate; biases and normalization without weight decay."""
    return [
        {
            "params": [weight for weight in part.parameters() if (weight.dim() > 1) == decays],
            "lr": settings.learning_rate * factor,
            "weight_decay": WEIGHT_DECAY if decays else 0.0,
        }
        for part, factor in ((model.body, 1.0), (model.head, settings.head_factor))
        for decays in (True, False)
    ]


def _share(step: int, steps: int) -> float:
    """The share of the learning rate at a step.

    >>> [round(_share(step, 20), 2) for step in (0, 1, 2, 11, 20)]
    [0.33, 0.67, 1.0, 0.5, 0.0]
    """
    warmup = int(WARMUP * steps)
    return (step + 1) / (warmup + 1) if step < warmup else (steps - step) / max(1, steps - warmup)
