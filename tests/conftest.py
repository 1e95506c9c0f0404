"""What holds for all tests: nothing is left in the home of whoever runs them, and only one Ray runs at a time."""

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


def pytest_itemcollected(item: pytest.Item) -> None:
    """Shares tests out among processes (pytest-xdist): a file stays whole, tests that start Ray stay together.

    Two Rays at once would take each other's cores and memory.
    """
    item.add_marker(pytest.mark.xdist_group("ray" if _starts_ray(item) else item.nodeid.split("::")[0]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that start Ray come first: they are the longest part."""
    items.sort(key=lambda item: not _starts_ray(item))


def _starts_ray(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("ray", "cluster"))
