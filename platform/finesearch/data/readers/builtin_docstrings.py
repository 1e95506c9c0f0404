"""Built-in data set, available with every Python: docstrings of the standard library, labelled by module.

The task: predict the module from the first sentence of a docstring. Design decisions:

- Sources are parsed, never imported: no code runs, and modules of other platforms can be read.
- The modules are a fixed list, so that distributions without some parts (tkinter, idlelib, tests) give the same rows.
- The names of all listed modules are masked in every text (as "…"): a module's own name would reveal the label, and so
  would a mask used only for its own name.
- A text that occurs in two modules is excluded from both; duplicates within a module are removed. So no text is in two
  splits.
- Large modules are capped at a common size, the lowest with which ``ROWS`` rows are reached.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from finesearch.errors import DataError

# Label -> the file or folder in the standard library, for modules implemented under another name.
MODULES = {
    "asyncio": "asyncio", "decimal": "_pydecimal.py", "email": "email", "http": "http", "importlib": "importlib",
    "inspect": "inspect.py", "ipaddress": "ipaddress.py", "logging": "logging", "mailbox": "mailbox.py",
    "multiprocessing": "multiprocessing", "pathlib": "pathlib", "pydoc": "pydoc.py", "tarfile": "tarfile.py",
    "typing": "typing.py", "unittest": "unittest", "urllib": "urllib", "xml": "xml", "zipfile": "zipfile",
}  # fmt: skip
ROWS = 1_600
MIN_ROWS = 1_500
MIN_MODULES = 12
_MIN_ROWS_PER_MODULE = 30
_WORDS = range(4, 31)
_NOT_CODE = {"test", "tests", "__pycache__"}
_NAMES = re.compile(rf"\b({'|'.join(MODULES)})\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[a-z)\]\"'`…][.!?])\s+(?=[A-Z])")
_KEY = re.compile(r"[\W_]+")


def standard_library_docstrings(stdlib: Path | None = None, rows: int = ROWS) -> dict[str, list[str]]:
    """Columns ``text`` and ``label`` (the module), about 1,600 rows of at least 12 modules, the same on every call.

    stdlib: the standard library's folder; default: that of the running interpreter. rows: minimum number of rows, with
    the lowest common cap on large modules; if there are fewer, all are used.

    Raises:
        DataError: this Python has no readable sources, or too few.
    """
    folder = stdlib or Path(sysconfig.get_paths()["stdlib"])
    by_module = _without_shared({label: _texts(folder, name) for label, name in MODULES.items()})
    by_module = {label: texts for label, texts in by_module.items() if len(texts) >= _MIN_ROWS_PER_MODULE}
    total = sum(map(len, by_module.values()))
    if total < MIN_ROWS or len(by_module) < MIN_MODULES:
        raise DataError(
            f"{folder}: {total} documentation strings of {len(by_module)} standard modules, expected at least"
            f" {MIN_ROWS} of {MIN_MODULES}.\n  This Python has no sources. Use another one, or files of your own."
        )
    cap = _cap([len(texts) for texts in by_module.values()], rows)
    chosen = [(text, label) for label, texts in by_module.items() for text in sorted(texts, key=_rank)[:cap]]
    chosen.sort(key=lambda row: _rank(row[0]))
    return {"text": [text for text, _ in chosen], "label": [label for _, label in chosen]}


def first_sentence(docstring: str) -> str:
    """The first sentence on one line, module names masked, without a final full stop; empty if there is none.

    >>> first_sentence("Parse a header\\n    of email.  Return it.\\n\\n    More.")
    'Parse a header of …'
    """
    paragraph = re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0]
    if ">>>" in paragraph:
        return ""
    sentence = _SENTENCE_END.split(" ".join(paragraph.split()), maxsplit=1)[0]
    return _NAMES.sub("…", sentence).rstrip(" .:")


def _texts(stdlib: Path, name: str) -> list[str]:
    """A module's sentences of usable length, without duplicates, in the order of files and lines."""
    texts: dict[str, str] = {}
    for path in _sources(stdlib, name):
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = first_sentence(ast.get_docstring(node) or "")
                if len(text.split()) in _WORDS:
                    texts.setdefault(_key(text), text)
    return list(texts.values())


def _sources(stdlib: Path, name: str) -> Iterator[Path]:
    """The module's source files: it may be a package in one version of Python and a single file in another."""
    single, package = stdlib / f"{name.removesuffix('.py')}.py", stdlib / name.removesuffix(".py")
    if single.is_file():
        yield single
    for path in sorted(package.rglob("*.py")):
        if not _NOT_CODE & set(path.relative_to(stdlib).parts):
            yield path


def _without_shared(by_module: dict[str, list[str]]) -> dict[str, list[str]]:
    count = Counter(_key(text) for texts in by_module.values() for text in texts)
    return {label: [text for text in texts if count[_key(text)] == 1] for label, texts in by_module.items()}


def _cap(sizes: list[int], rows: int) -> int:
    """The lowest cap per class with which ``rows`` rows are reached, else the size of the largest class.

    >>> _cap([10, 4, 1], rows=9)
    4
    """
    return next((cap for cap in range(1, max(sizes)) if sum(min(size, cap) for size in sizes) >= rows), max(sizes))


def _key(text: str) -> str:
    """A key that is equal for texts that differ only in case, spaces or punctuation."""
    return _KEY.sub(" ", text.casefold()).strip()


def _rank(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
