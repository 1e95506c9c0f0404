"""What holds for all tests: nothing is left in the home of whoever runs them, and only one Ray runs at a time."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="session")
def _cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Models and kept outputs go into a folder of this run's own; processes that tests start inherit it."""
    folder, before = tmp_path_factory.mktemp("cache"), os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shares tests out among processes (pytest-xdist): a file stays whole, tests that start Ray stay together.

    Two Rays at once would take each other's cores and memory. They come first: they are the longest part.
    """
    for item in items:
        starts_ray = item.get_closest_marker("ray") or item.get_closest_marker("cluster")
        item.add_marker(pytest.mark.xdist_group("ray" if starts_ray else item.nodeid.split("::")[0]))
    items.sort(key=lambda item: not (item.get_closest_marker("ray") or item.get_closest_marker("cluster")))
