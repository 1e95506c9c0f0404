"""The data set of the standard library: large enough, no text twice, no name that gives the label away."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from finesearch.data import standard_library_docstrings
from finesearch.data.readers.builtin_docstrings import MODULES
from finesearch.errors import DataError
from finesearch.tasks import SPLITS, RawSplits

PLATFORM = Path(__file__).parents[2] / "platform"


@pytest.fixture(scope="module")
def columns() -> dict[str, list[str]]:
    return standard_library_docstrings()


def test_it_is_large_and_no_module_dominates(columns: dict[str, list[str]]) -> None:
    counts = Counter(columns["label"])
    assert 1_500 <= len(columns["text"]) == len(columns["label"]) <= 1_700
    assert len(counts) >= 12
    assert max(counts.values()) < 4 * min(counts.values())


def test_no_text_stands_twice_even_in_other_spelling(columns: dict[str, list[str]]) -> None:
    keys = [re.sub(r"[\W_]+", " ", text.casefold()) for text in columns["text"]]
    assert len(set(keys)) == len(keys)


def test_no_text_names_a_module(columns: dict[str, list[str]]) -> None:
    named = re.compile(rf"\b({'|'.join(MODULES)})\b", re.IGNORECASE)
    assert [text for text in columns["text"] if named.search(text)] == []


def test_texts_are_short_sentences_on_one_line(columns: dict[str, list[str]]) -> None:
    assert all(4 <= len(text.split()) <= 30 and "\n" not in text and ">>>" not in text for text in columns["text"])


def test_another_process_reads_the_same_rows_and_imports_none_of_the_modules(columns: dict[str, list[str]]) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(PLATFORM)!r})\n"
        "from finesearch.data.readers.builtin_docstrings import standard_library_docstrings\n"
        "import hashlib, json; before = set(sys.modules)\n"
        "columns = standard_library_docstrings()\n"
        "print(hashlib.sha256(json.dumps(columns).encode()).hexdigest(), sorted(set(sys.modules) - before))\n"
    )
    import hashlib
    import json

    command = [sys.executable, "-X", "utf8", "-c", script]
    printed = subprocess.run(command, capture_output=True, text=True, env={"PYTHONHASHSEED": "7"}, check=True).stdout
    assert printed.split(maxsplit=1) == [hashlib.sha256(json.dumps(columns).encode()).hexdigest(), "[]\n"]


def test_its_splits_share_no_text_and_hold_every_module(load: Callable[..., RawSplits]) -> None:
    splits = load(builtin="standard-library-docstrings", validation_fraction=0.15, test_fraction=0.15)
    rows = [splits.plain_rows(split) for split in SPLITS]
    texts = [text for part in rows for text in part["text"]]
    assert len(set(texts)) == len(texts)
    assert all(set(part["label"]) == set(rows[0]["label"]) for part in rows)
    assert len(rows[0]["text"]) <= 1_200


def test_a_python_without_sources_is_refused(tmp_path: Path) -> None:
    (tmp_path / "typing.py").write_text('"""One two three four five."""\n')
    with pytest.raises(DataError, match=r"0 documentation strings of 0 standard modules, expected at least 1500 of 12"):
        standard_library_docstrings(tmp_path)
