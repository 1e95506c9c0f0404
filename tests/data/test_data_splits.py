"""Splits that are missing are cut, and everything that a reader must know is noted."""

import csv
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesearch.data.readers.hub_datasets import SAFE_BUILDERS, _refuse_unsafe, read_hub
from finesearch.data.train_test_split import cut
from finesearch.errors import DataError
from finesearch.tasks import SPLITS, RawSplits

Load = Callable[..., RawSplits]
Rows = list[tuple[str, str]]
PLATFORM = Path(__file__).parents[2] / "platform"
datasets.disable_progress_bars()


def write(path: Path, rows: Rows) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def texts(splits: RawSplits, split: str) -> list[str]:
    return splits.plain_rows(split)["text"]


def test_missing_splits_are_cut_in_the_shares_of_the_classes_and_noted(tmp_path: Path, load: Load, rows: Rows) -> None:
    write(tmp_path / "train.csv", rows)
    splits = load(train="train.csv", validation_fraction=0.2, test_fraction=0.1)
    assert [len(splits[split]) for split in SPLITS] == [28, 8, 4]
    assert Counter(splits.plain_rows("validation")["label"]) == {"even": 6, "odd": 2}
    assert Counter(splits.plain_rows("test")["label"]) == {"even": 3, "odd": 1}
    assert splits.notes == (
        "No validation split was given: 8 of the 40 rows of train.csv were cut for it"
        " (share 0.2, seed 0, in the shares of 'label').",
        "No test split was given: 4 of the 40 rows of train.csv were cut for it"
        " (share 0.1, seed 0, in the shares of 'label').",
    )


def test_a_cut_row_is_named_by_its_place_in_the_file(tmp_path: Path, load: Load, rows: Rows) -> None:
    write(tmp_path / "train.csv", rows)
    splits = load(train="train.csv")
    place = rows.index((texts(splits, "test")[2], splits.plain_rows("test")["label"][2]))
    assert splits.origins["test"].where(2) == f"train.csv, row {place + 1}"


def test_only_the_missing_split_is_cut(tmp_path: Path, load: Load, rows: Rows) -> None:
    write(tmp_path / "train.csv", rows[:30])
    write(tmp_path / "test.csv", rows[30:])
    splits = load(train="train.csv", test="test.csv")
    assert [len(splits[split]) for split in SPLITS] == [27, 3, 10]
    assert len(splits.notes) == 1


def test_the_cut_depends_on_seed_and_content_not_on_the_files_order(tmp_path: Path, load: Load, rows: Rows) -> None:
    write(tmp_path / "a.csv", rows)
    write(tmp_path / "b.csv", rows[::-1])
    first, again, other = load(train="a.csv"), load(train="b.csv"), load(train="a.csv", split_seed=1)
    assert set(texts(first, "test")) == set(texts(again, "test")) != set(texts(other, "test"))
    assert load(train="a.csv").fingerprints == first.fingerprints != other.fingerprints


def test_repeated_rows_stay_on_one_side_of_a_cut(tmp_path: Path, load: Load, rows: Rows) -> None:
    write(tmp_path / "train.csv", [*rows, *rows[::2]])
    splits = load(train="train.csv", validation_fraction=0.3, test_fraction=0.3)
    sides = [set(texts(splits, split)) for split in SPLITS]
    assert all(sides)
    assert sum(map(len, sides)) == len(set().union(*sides)) == 40


def test_rows_that_given_splits_share_are_counted(tmp_path: Path, load: Load, rows: Rows) -> None:
    write(tmp_path / "train.csv", rows[:20])
    write(tmp_path / "validation.csv", rows[20:30])
    write(tmp_path / "test.csv", [*rows[15:21], *rows[30:34]])
    splits = load(train="train.csv", validation="validation.csv", test="test.csv")
    assert splits.notes == (
        "5 of the 10 test rows (50.0%) stand in train too, word for word.",
        "1 of the 10 test rows (10.0%) stand in validation too, word for word.",
    )


def test_too_few_rows_for_a_cut_are_refused(tmp_path: Path, load: Load) -> None:
    write(tmp_path / "train.csv", [("x", "a"), ("y", "b")])
    with pytest.raises(DataError, match=r"^train\.csv: 2 rows are too few to cut a validation split out of them"):
        load(train="train.csv")


@given(
    labels=st.lists(st.sampled_from("abc"), min_size=1, max_size=60),
    copies=st.integers(1, 3),
    fraction=st.floats(0.05, 0.45),
    seed=st.integers(0, 5),
)
def test_a_cut_takes_every_row_once_and_leaves_every_class_in_train(
    labels: list[str], copies: int, fraction: float, seed: int
) -> None:
    example_hashes = [bytes([i]) for i in range(len(labels)) for _ in range(copies)]
    strata = [label for label in labels for _ in range(copies)]
    parts = cut(example_hashes, strata, {"validation": fraction, "test": fraction}, seed)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(strata)))
    assert {strata[row] for row in parts["train"]} == set(strata)
    assert len(parts["test"]) <= max(1, round(len(strata) * fraction))


def save(folder: Path, names: dict[str, Rows], label: datasets.ClassLabel | None = None) -> None:
    parts = {}
    for name, rows in names.items():
        part = datasets.Dataset.from_dict(
            {"text": [t for t, _ in rows], "label": [x for _, x in rows], "more": [0] * len(rows)}
        )
        parts[name] = part.cast_column("label", label) if label else part
    datasets.DatasetDict(parts).save_to_disk(folder)


def test_a_folder_of_datasets_is_read_with_its_own_split_names(tmp_path: Path, load: Load, rows: Rows) -> None:
    save(tmp_path / "saved", {"train": rows[:20], "dev": rows[20:30], "test": rows[30:], "extra": rows[:2]})
    splits = load(folder="saved")
    assert texts(splits, "validation") == [text for text, _ in rows[20:30]]
    assert splits.train.column_names == ["text", "label"]
    assert splits.notes == ("saved: unused splits: extra.",)


def test_a_lone_data_set_in_a_folder_is_train(tmp_path: Path, load: Load, rows: Rows) -> None:
    table = datasets.Dataset.from_dict({"text": [t for t, _ in rows], "label": [x for _, x in rows]})
    table.save_to_disk(tmp_path / "lone")
    assert len(load(folder="lone").train) == 32


def test_a_test_split_whose_labels_are_withheld_is_left_out_and_cut_anew(tmp_path: Path, load: Load) -> None:
    label = datasets.ClassLabel(names=["no", "yes"])
    rows = [(f"text {i}", i % 2) for i in range(20)]
    save(tmp_path / "glue", {"train": rows, "validation": rows[:4], "test": [("t", -1), ("u", -1)]}, label)
    splits = load(folder="glue")
    assert len(splits.test) == 2
    assert set(splits.plain_rows("test")["label"]) == {"no", "yes"}
    assert splits.notes[0] == "glue, split 'test': no row has a label in 'label'; it cannot be scored and is left out."
    assert splits.notes[1].startswith("No test split was given: 2 of the 20 rows of glue, split 'train' were cut")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ({"validation": [("x", "a")]}, r"^saved: no train split, expected one. Splits here: validation"),
        ({"train": [("x", "a")], "test": []}, r"^saved, split 'test': the split is empty, expected at least one row"),
    ],
)
def test_a_folder_without_what_is_needed_is_refused(
    tmp_path: Path, load: Load, names: dict[str, Rows], text: str
) -> None:
    save(tmp_path / "saved", names)
    with pytest.raises(DataError, match=text):
        load(folder="saved")


def test_a_missing_column_in_a_folder_is_refused(tmp_path: Path, load: Load, rows: Rows) -> None:
    save(tmp_path / "saved", {"train": rows})
    with pytest.raises(DataError, match=r"^saved, split 'train': no column 'txt'.*\n  Did you mean 'text'\?"):
        load(folder="saved", columns={"text": "txt", "label": "label"})


def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path, load: Load) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(DataError, match="plain: not a data set that `datasets` wrote with save_to_disk"):
        load(folder="plain")
    with pytest.raises(DataError, match=r"absent: no such folder \(`data\.folder`"):
        load(folder="absent")


def run(script: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, with an empty home and none of the hub's variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    variables = {**kept, "HOME": str(home), "PYTHONPATH": str(PLATFORM), **environment}
    return subprocess.run(
        [sys.executable, "-c", script], cwd=home, env=variables, capture_output=True, text=True, timeout=120
    )


def test_a_hub_data_set_that_cannot_be_reached_is_a_clear_error(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from finesearch.data.readers.hub_datasets import read_hub\n"
        "from finesearch.errors import DataError\n"
        "try:\n    read_hub('owner/reviews', None, None, Path('cache'))\n"
        "except DataError as error:\n    print(error)\n"
    )
    done = run(script, tmp_path, HF_HUB_OFFLINE="1")
    assert done.stdout.startswith("hub data set 'owner/reviews': not reachable (")
    assert "download it elsewhere with save_to_disk and use `data.folder`" in done.stdout, done.stderr


def test_a_hub_id_that_means_something_else_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for odd in ("csv", "pandas", "./train", "a/b/c", "https://example.org/x"):
        with pytest.raises(DataError, match="not a hub id, expected NAME or OWNER/NAME"):
            read_hub(odd, None, None, None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews").mkdir()
    with pytest.raises(DataError, match="a file or folder of that name exists in .* and would be read instead"):
        read_hub("reviews", None, None, None)


@pytest.mark.filterwarnings("ignore:The Pandas builder is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "pandas", "webdataset"])
def test_only_builders_of_plain_tables_are_used(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("x")
    cache = str(tmp_path / "cache")
    builder = datasets.load_dataset_builder(kind, cache_dir=cache, data_files=str(tmp_path / "file"))
    if kind in SAFE_BUILDERS:
        _refuse_unsafe(builder, "hub data set 'x'")
    else:
        with pytest.raises(DataError, match=f"its files are of the kind '{kind}', expected one of arrow, csv, json"):
            _refuse_unsafe(builder, "hub data set 'x'")


def test_reading_files_leaves_nothing_in_the_home_folder_and_shows_no_bars(tmp_path: Path, rows: Rows) -> None:
    home = tmp_path / "home"
    home.mkdir()
    write(tmp_path / "train.csv", rows)
    save(tmp_path / "saved", {"train": rows})
    script = (
        "from pathlib import Path\n"
        "from finesearch.data import load_splits\n"
        "from finesearch.plan import DataPlan, TaskPlan\n"
        "for data in ({'train': 'train.csv'}, {'folder': 'saved'}, {'builtin': 'standard-library-docstrings'}):\n"
        "    plan = TaskPlan(kind='text-classification', model='m', data=DataPlan(**data),\n"
        "                    columns={'text': 'text', 'label': 'label'})\n"
        f"    print(len(load_splits(plan, Path({str(tmp_path)!r})).train))\n"
    )
    done = run(script, home)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(home.rglob("*")) == []
