import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finesearch.errors import PlanError
from finesearch.plan import load_plan
from finesearch.plan.parsing.yaml_lines import read_yaml, write_yaml
from finesearch.plan.problems import Problems, SourceLocations
from plan_examples import refusal


def read(text: str) -> Any:
    problems = Problems()
    data, places = read_yaml(text, "plan.yaml", problems)
    problems.raise_if_any(SourceLocations("plan.yaml", places))
    return data


BOMB = "k0: &k0 [1, 1]\n" + "".join(f"k{n + 1}: &k{n + 1} [*k{n}, *k{n}]\n" for n in range(30))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E5", 1e5),
        ("-1.5e+3", -1500.0),
        (".5", 0.5),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("1:30", "1:30"),
        ("true", True),
        ("yes", "yes"),
        ("off", "off"),
        ("2020-01-01", "2020-01-01"),
        ("~", None),
        ("", None),
        ("'1e-5'", "1e-5"),
        ("!!str 3", "3"),
        ("-.inf", -math.inf),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: Any) -> None:
    came = read(f"key: {text}")["key"]
    assert came == value
    assert type(came) is type(value)


def test_every_value_knows_its_line() -> None:
    _, places = read_yaml("a:\n  b: 1\n  c:\n  - 2\n  - 3\n", "plan.yaml", Problems())
    assert places[("a", "b")] == "plan.yaml, line 2"
    assert places[("a", "c", 1)] == "plan.yaml, line 5"


def test_merge_keys_and_aliases_are_read() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n"
    assert read(text) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}


def test_the_first_of_several_merged_mappings_wins() -> None:
    assert read("a: {<<: [{x: 1}, {x: 2, y: 2}]}") == {"a": {"x": 1, "y": 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "plan.yaml: expected a mapping of sections, got an empty file.\n  A plan has a name, a task and a space;"),
        ("# nothing\n", "expected a mapping of sections, got an empty file"),
        ("- a\n- b\n", "plan.yaml, line 1: expected a mapping of sections, got a list of 2."),
        ("hello", "plan.yaml, line 1: expected a mapping of sections, got 'hello'."),
        ("name: [a\n", "plan.yaml, line 2: this is not YAML: expected ',' or ']', but got '<stream end>'"),
        ("name: a\n\tx: 1\n", "plan.yaml, line 2: this is not YAML: found character '\\t' that cannot start any token"),
        ("a: b: c\n", "plan.yaml, line 1: this is not YAML: mapping values are not allowed here"),
        ("name: a\n---\nname: b\n", "plan.yaml, line 2: this is not YAML: but found another document"),
        ("a: *b\n", "plan.yaml, line 1: this is not YAML: found undefined alias 'b'"),
        ("a: \x00\n", "plan.yaml: this is not YAML text: unacceptable character #x0000"),
        ("[" * 3000, "plan.yaml: nested too deep to be a plan."),
        ("name: x\na: " + "[" * 33 + "]" * 33, "plan.yaml, line 2: nested too deep to be a plan."),
        (BOMB, "more than 50,000 values with every alias (*name) written out, expected a plan."),
        (
            "a: 1\n" * 100_000,
            "plan.yaml: 100,000 lines and 500,000 characters, expected a plan of at most 20,000",
        ),
        ("".join(f"k{i}: 1\n" for i in range(3_000)), "\n… and 2,802 more problems."),
        ("name: a\nname: b\n", "plan.yaml, line 2: the key 'name' stands twice (first: plan.yaml, line 1)."),
        ("task:\n  x: 1\n  x: 2\n", "plan.yaml, line 3: the key 'x' stands twice (first: plan.yaml, line 2)."),
        ("? [a, b]\n: 1\n", "plan.yaml, line 1: a key is itself a list or a mapping."),
        ("a: !!python/name:os.system x\n", "plan.yaml, line 1: a: the tag 'tag:yaml.org,2002:python/name:os.system'"),
        ("a: !!int x\n", "plan.yaml, line 1: a: 'x' is not of its tag 'tag:yaml.org,2002:int'."),
        ("a: &a\n  b: *a\n", "plan.yaml, line 2: an alias refers to what it stands in."),
        ("a: 9223372036854775808\n", "plan.yaml, line 1: a: a whole number beyond 64 bits.\n  Write a smaller one."),
        ("a: {<<: 3}\n", "'<<' expects a mapping or a list of mappings."),
    ],
)
def test_text_that_is_no_plan_is_refused_with_its_line(text: str, message: str) -> None:
    assert message in refusal(text)


def test_a_syntax_error_raises_from_reading_itself() -> None:
    with pytest.raises(PlanError, match="Look at this line and the one above it"):
        read_yaml("a: [", "plan.yaml", Problems())


scalars = st.none() | st.booleans() | st.integers(1 - 2**63, 2**63 - 1) | st.floats(allow_nan=False) | st.text()
data = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(min_size=1), inner), max_leaves=12)


@given(st.dictionaries(st.text(min_size=1), data))
@settings(max_examples=60, deadline=None)
def test_whatever_is_written_is_read_back(value: dict[str, Any]) -> None:
    assert repr(read(write_yaml(value)) or {}) == repr(value)


def test_a_file_without_an_end_is_refused() -> None:
    with pytest.raises(PlanError, match=r"/dev/zero: 0 lines and 4,194,305 characters, expected a plan of at most"):
        load_plan("/dev/zero")
