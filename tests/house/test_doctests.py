"""The examples in docstrings hold."""

from __future__ import annotations

import doctest
import importlib

import pytest

from paths import PLATFORM

PACKAGE = PLATFORM / "finesearch"
MODULES = sorted(
    ".".join(("finesearch", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_hold(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0, "the example is not inside a docstring"
    assert found.failed == 0
