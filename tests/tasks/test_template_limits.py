"""Chat templates are programs: those that loop or fill memory are found without hanging."""

from __future__ import annotations

import pytest

from finesearch.tasks.generation import template_limits
from finesearch.tasks.generation.chat_template import PLAIN_TEMPLATE
from finesearch.tasks.generation.template_limits import template_excess

TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


def test_an_endless_template_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = template_limits._RENDER.replace("RLIMIT_CPU, (5, 5 + 1)", "RLIMIT_CPU, (1, 1 + 1)")
    assert quick != template_limits._RENDER
    monkeypatch.setattr(template_limits, "_RENDER", quick)
    assert template_excess(LOOP, TURNS, {}) == "more than 5 seconds of processor time"


@pytest.mark.parametrize("template", ["{{ 'x' * 4000000000 }}", "{{ '%4000000000d' % 1 }}"])
def test_a_template_that_fills_memory_is_found(template: str) -> None:
    assert template_excess(template, TURNS, {}) == "more than 1 GiB of memory"


@pytest.mark.parametrize(
    "template",
    [
        PLAIN_TEMPLATE,
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{{ eos_token }}{% endfor %}",
        "{{ raise_exception('no') }}",
        "{% for",
    ],
)
def test_others_are_left_to_where_they_are_used(template: str) -> None:
    assert template_excess(template, TURNS, {"eos_token": "</s>"}) is None
