"""Imports of bitsandbytes that ask the network for nothing, whoever makes them: peft does where it is installed.

On CPUs with AVX512-BF16 the import fetches a kernel from the hub if the package ``kernels`` is there. That kernel is
for inference on repacked weights, on which nothing can be trained, and is not used here.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_KERNELS = "kernels"


class _Finder(MetaPathFinder):
    """Finds bitsandbytes as Python does; while it is imported, ``import kernels`` fails."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == "bitsandbytes" else None
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                with _without_kernels():
                    execute(module)

            loader.exec_module = exec_module
        return spec


_FINDER = _Finder()


def keep_bitsandbytes_offline() -> None:
    """See above; for every import of it in this process from now on."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def import_bitsandbytes() -> Any:
    """The library."""
    keep_bitsandbytes_offline()
    # In int8 it says at each call of each layer that it casts to fp16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return importlib.import_module("bitsandbytes")


@contextmanager
def _without_kernels() -> Iterator[None]:
    logger, had = logging.getLogger("bitsandbytes.backends.cpu.ops"), sys.modules.get(_KERNELS)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    sys.modules[_KERNELS] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        logger.setLevel(level)
        if had is None:
            del sys.modules[_KERNELS]
        else:
            sys.modules[_KERNELS] = had
