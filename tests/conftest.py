"""What holds for all tests: nothing is left in the home of whoever runs them, and the longest files come first."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="session")
def _cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Models, kept outputs and working state go into folders of this run's own; processes that tests start inherit
    them."""
    names = ("XDG_CACHE_HOME", "XDG_STATE_HOME")
    before = {name: os.environ.get(name) for name in names}
    for name in names:
        os.environ[name] = str(tmp_path_factory.mktemp(name.split("_")[1].lower()))
    yield Path(os.environ["XDG_CACHE_HOME"])
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start Ray come first: of what is shared out among processes, a file each, they are the longest."""
    items.sort(key=lambda item: not item.get_closest_marker("ray"))
