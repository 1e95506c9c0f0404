"""Every example in a docstring of the report floor holds."""

import doctest
import importlib
import pkgutil

import finesearch.report
import pytest

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(finesearch.report.__path__, prefix="finesearch.report.")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
