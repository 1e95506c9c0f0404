"""Bounds chat templates, which are programs: one that loops for hours or fills memory is refused before it is used.

A template is rendered once in a process of its own, with a bound on processor time and memory, since neither can be
bounded within a process.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache

SECONDS, MEMORY_BYTES = 5, 1 << 30
TOO_LARGE, WAIT_S = 3, 120
_RENDER = f"""
import json, re, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES}, {MEMORY_BYTES}))
resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS} + 1))
from jinja2.sandbox import ImmutableSandboxedEnvironment
given = json.load(sys.stdin)
environment = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
)
def refuse(message):
    raise ValueError(message)
environment.globals |= {{"raise_exception": refuse, "strftime_now": lambda form: ""}}
environment.filters["tojson"] = lambda value, **_: json.dumps(value, default=str)
try:
    # A mark of transformers, which says nothing of what is rendered.
    template = re.sub(r"{{%-?\\s*(end)?generation\\s*-?%}}", "", given["template"])
    for is_prompt in (False, True):
        environment.from_string(template).render(
            messages=given["turns"], add_generation_prompt=is_prompt, **given["tokens"]
        )
except MemoryError:
    sys.exit({TOO_LARGE})
except Exception:
    pass  # told where the template is used
"""


def template_excess(template: str, turns: Sequence[Mapping[str, str]], tokens: Mapping[str, object]) -> str | None:
    """What a Jinja template takes too much of for these turns: time or memory; None where it does not.

    tokens: the tokenizer's special tokens by name, which templates may write.
    """
    words = {name: str(token) for name, token in tokens.items() if token is not None}
    return _excess(json.dumps({"template": template, "turns": list(turns), "tokens": words}))


@cache
def _excess(given: str) -> str | None:
    try:
        status = subprocess.run(
            [sys.executable, "-I", "-c", _RENDER],
            input=given.encode(errors="replace"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=WAIT_S,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        return f"more than {WAIT_S} seconds"
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"more than {SECONDS} seconds of processor time"
    return f"more than {MEMORY_BYTES >> 30} GiB of memory" if status == TOO_LARGE else None
