"""Reads YAML into plain data with the line number of every value, and writes it.

Scalars follow YAML 1.2's core schema, where PyYAML follows 1.1: ``1e-5`` is a float, ``no`` is text.
A duplicate key in one mapping is a problem instead of a silent overwrite.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from finesearch.errors import PlanError
from finesearch.plan.problems import KeyPath, Problems, dotted

MAX_BYTES = 1 << 20
"""Size of a plan; the largest real ones, with lists of thousands of files, have a third of it."""
MAX_LINES = 20_000
MAX_VALUES = 50_000
"""Values of a plan with every alias written out."""
MAX_DEPTH = 32
"""Levels of a plan, and keys of ``--set``."""
_TAG = "tag:yaml.org,2002:"
_FLOAT = r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_PATTERNS: tuple[tuple[str, str, str], ...] = (  # type, pattern, first characters
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
    ("merge", r"<<", "<"),
)


class _Loader(yaml.SafeLoader):
    """Composes nodes under the core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


class _Dumper(yaml.SafeDumper):
    """Quotes text that either schema, 1.1 or 1.2, would read as something else."""

    yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeDumper.yaml_implicit_resolvers.items()}

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # PyYAML folds these line breaks away unless they are escaped.
        style = '"' if re.search("[\x85\u2028\u2029]", data) else None
        return self.represent_scalar(f"{_TAG}str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)
for _kind, _pattern, _first in _PATTERNS:
    _compiled = re.compile(f"(?:{_pattern})\\Z")
    for _character in [*_first, *([""] if _kind == "null" else [])]:
        _Loader.yaml_implicit_resolvers.setdefault(_character, []).append((f"{_TAG}{_kind}", _compiled))
        _Dumper.yaml_implicit_resolvers.setdefault(_character, []).append((f"{_TAG}{_kind}", _compiled))


def _integer(text: str) -> int:
    plain = text.replace("_", "")
    # A leading zero is decimal in YAML 1.2; base 0 refuses it, so it is used for prefixed forms only.
    return int(plain, 0) if plain[:2] in ("0x", "0o") else int(plain)


def _float(text: str) -> float:
    return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: dict[str, Callable[[str], Any]] = {
    f"{_TAG}null": lambda text: None,
    f"{_TAG}bool": lambda text: text.lower() == "true",
    f"{_TAG}int": _integer,
    f"{_TAG}float": _float,
    f"{_TAG}str": str,
}


def read_yaml(text: str, source: str, problems: Problems, *, lines: bool = True) -> tuple[Any, dict[KeyPath, str]]:
    """The data of one YAML document and the place of every value, as ``source, line N`` (or ``source`` without lines).

    >>> read_yaml("rate: 1e-5", "plan.yaml", Problems())
    ({'rate': 1e-05}, {(): 'plan.yaml, line 1', ('rate',): 'plan.yaml, line 1'})

    Raises:
        PlanError: the text is not YAML. Lesser problems (a duplicate key, a tag) are added to ``problems``.
    """
    if len(text) > MAX_BYTES or text.count("\n") > MAX_LINES:
        raise PlanError(
            f"{source}: {text.count(chr(10)):,} lines and {len(text):,} characters, expected a plan of at most "
            f"{MAX_LINES:,} lines and {MAX_BYTES:,} characters.\n  Name the plan; data go into files of their own."
        )
    try:
        node = yaml.compose(text, Loader=_Loader)
        reader = _Reader(source, problems, lines)
        return (None if node is None else reader.value(node, ())), reader.places
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}, line {mark.line + 1}" if mark is not None and lines else source
        came = " ".join(part for part in (error.problem, error.context) if part)
        raise PlanError(
            f"{where}: this is not YAML: {came}.\n"
            "  Look at this line and the one above it: indentation (spaces, no tabs), a missing ':', an open quote."
        ) from None
    except yaml.YAMLError as error:
        came = " ".join(str(error).split())
        raise PlanError(f"{source}: this is not YAML text: {came}.\n  Save it as UTF-8.") from None
    except RecursionError:
        raise _too_deep(source) from None


def _too_deep(where: str) -> PlanError:
    return PlanError(f"{where}: nested too deep to be a plan.\n  A plan is at most a dozen levels deep.")


class _Reader:
    """Walks composed nodes and records the place of each value."""

    def __init__(self, source: str, problems: Problems, lines: bool) -> None:
        self.source = source
        self.problems = problems
        self.lines = lines
        self.places: dict[KeyPath, str] = {}
        self._open: list[yaml.Node] = []
        self._values = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.places.setdefault(path, self._place(node))
        self._values += 1
        if len(path) > MAX_DEPTH:
            raise _too_deep(self._place(node))
        if self._values > MAX_VALUES:
            raise PlanError(
                f"{self._place(node)}: more than {MAX_VALUES:,} values with every alias (*name) written out, expected "
                "a plan.\n  Data go into files of their own; an alias of aliases multiplies what it names."
            )
        if any(node is other for other in self._open):
            return self._refuse(path, "an alias refers to what it stands in", "Write the value out.")
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._scalar(node, path)
        finally:
            self._open.pop()

    def _place(self, node: yaml.Node) -> str:
        return f"{self.source}, line {node.start_mark.line + 1}" if self.lines else self.source

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                merged |= self._merged(value_node, path)
                continue
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            below = (*path, str(key))
            if key is None:
                self._refuse(path, "a key is itself a list or a mapping", "Keys are words.")
            elif key in result:
                text = f"the key '{key}' stands twice (first: {self.places[below]})"
                # Reported at its second place; the first one keeps the value.
                self.places[(*below, "")] = self._place(key_node)
                self.problems.add((*below, ""), text, "Keep one of them.")
            else:
                self.places[below] = self._place(key_node)
                result[key] = self.value(value_node, below)
        return merged | result

    def _merged(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        value = self.value(node, path)
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, Mapping) for part in parts):
            self._refuse(path, "'<<' expects a mapping or a list of mappings", "Write the keys out.")
            return {}
        # The first of several wins, as YAML's merge keys require.
        return {key: item for part in reversed(parts) for key, item in part.items()}

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        construct = _SCALARS.get(node.tag)
        if construct is None:
            return self._refuse(path, f"{dotted(path)}: the tag '{node.tag}' is not read", "Write plain YAML.")
        try:
            value = construct(node.value)
        except ValueError:
            return self._refuse(path, f"{dotted(path)}: '{node.value}' is not of its tag '{node.tag}'", "Drop the tag.")
        if isinstance(value, int) and abs(value) >= 2**63:
            # Neither the study's database nor a float can store it.
            return self._refuse(path, f"{dotted(path)}: a whole number beyond 64 bits", "Write a smaller one.")
        return value

    def _refuse(self, path: KeyPath, text: str, advice: str) -> None:
        self.problems.add(path, text, advice)


def write_yaml(data: Mapping[str, Any]) -> str:
    """YAML text from which ``read_yaml`` gives equal data; keys keep their order.

    >>> write_yaml({"rate": 1e-05, "revision": "1e3"})
    "rate: 1.0e-05\\nrevision: '1e3'\\n"
    """
    return yaml.dump(dict(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
