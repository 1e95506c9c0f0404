"""Where a figure was measured: the machine, the versions, the command and the date."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "accelerate", "optuna", "ray", "deepspeed", "datasets", "numpy")
# What matrix products are made of, widest last.
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")


def provenance() -> dict[str, Any]:
    """Everything that a reader needs to run the same again, as JSON."""
    return {
        "machine": machine(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "command": shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
    }


def machine() -> dict[str, Any]:
    """The processor, its cores that this process may use, its instruction sets, and memory in bytes."""
    described = processor()
    flags = set((described.get("flags") or described.get("Features") or "").split())
    return {
        "cpu": described.get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def processor() -> dict[str, str]:
    """What Linux says of the first core."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def has_native_bf16() -> bool:
    """Whether this machine's processor multiplies in bf16 itself."""
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(machine()["instruction_sets"]))


def shown(facts: dict[str, Any]) -> str:
    """The same as lines for a terminal."""
    computer, versions = facts["machine"], facts["versions"]
    return "\n".join(
        [
            f"machine:  {computer['cpu']}, {computer['cores']} cores, {' '.join(computer['instruction_sets'])}, "
            f"{computer['memory_bytes'] / 1e9:.0f} GB",
            "versions: " + ", ".join(f"{name} {number}" for name, number in versions.items()),
            f"command:  {facts['command']}",
            f"date:     {facts['date']}",
        ]
    )
