"""Pooled states against the plainest computation of them, whatever the padding; and what a folder asks for."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from finesearch.plan.space.parameters import POOLINGS
from finesearch.training.heads.folder_pooling import folder_pooling
from finesearch.training.heads.pooling import pool

STATES = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
SCORES = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
LENGTHS = (5, 3, 1)


def plain(pooling: str, states: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """One text's vector from the states (t, H) and scores (t,) of its tokens alone."""
    if pooling == "attention":
        return sum(weight * state for weight, state in zip(scores.softmax(0), states, strict=True))
    return {"cls": states[0], "mean": states.mean(0), "max": states.max(0).values, "last": states[-1]}[pooling]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_texts_vector_is_that_of_its_tokens_alone(pooling: str, side: str) -> None:
    places = [slice(0, n) if side == "right" else slice(5 - n, 5) for n in LENGTHS]
    mask = torch.zeros(3, 5, dtype=torch.int64)
    states = torch.full_like(STATES, float("nan"))
    for row, place in enumerate(places):
        mask[row, place] = 1
        states[row, place] = STATES[row, place]
    found = pool(pooling, states, mask, SCORES)
    expected = torch.stack([plain(pooling, STATES[row, place], SCORES[row, place]) for row, place in enumerate(places)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_without_a_mask_all_are_tokens_and_without_tokens_the_result_is_finite(pooling: str) -> None:
    whole = torch.ones(3, 5, dtype=torch.int64)
    assert torch.equal(pool(pooling, STATES, None, SCORES), pool(pooling, STATES, whole, SCORES))
    empty = pool(pooling, STATES.bfloat16(), whole * 0, SCORES)
    assert empty.dtype == torch.bfloat16
    assert bool(empty.isfinite().all())


OLD = {f"pooling_mode_{name}": False for name in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")}


@pytest.mark.parametrize(
    ("config", "asked"),
    [
        ({**OLD, "pooling_mode_mean_tokens": True}, "mean"),
        ({**OLD, "pooling_mode_cls_token": True}, "cls"),
        ({**OLD, "pooling_mode_lasttoken": True}, "last"),
        ({**OLD, "pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": ["cls", "mean"]}, "cls+mean"),
        ({**OLD, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "cls+mean"),
        ({**OLD, "pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens"),
        (OLD, None),
        ("broken", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_folder_of_sentence_transformers_says_how_it_pools(
    config: Any, asked: str | None, named: bool, tmp_path: Path
) -> None:
    place = tmp_path / ("2_Pooling" if named else "1_Pooling")
    if named:
        kinds = {"": "Transformer", "1_Adapter": "Dense", place.name: "Pooling"}
        modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
        (tmp_path / "modules.json").write_text(json.dumps(modules))
    if config is not None:
        place.mkdir()
        (place / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    assert folder_pooling(tmp_path) == asked
