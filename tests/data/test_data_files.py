"""Every format gives the same rows, and every broken file an error with file, row and a way out."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import datasets
import pandas
import pyarrow as pa
import pytest
from data_plans import task_plan
from pyarrow import feather, parquet

from finesearch.data import load_splits
from finesearch.errors import DataError
from finesearch.plan import DataPlan, TaskPlan
from finesearch.plan.sections.csv_section import CsvPlan
from finesearch.tasks import RawSplits, make_task

Load = Callable[..., RawSplits]
ROWS = [("plain", "a"), ("with, comma", "b"), ('with "quotes"', "a"), ("two\nlines", "b"), ("ümläut — 漢字", "a")]
TABLE = pa.table({"unused": [1.5] * 5, "text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]})


def write_csv(path: Path) -> None:
    TABLE.to_pandas().to_csv(path, index=False)


def write_tsv(path: Path) -> None:
    TABLE.to_pandas().to_csv(path, index=False, sep="\t")


def write_csv_with_a_byte_order_mark(path: Path) -> None:
    TABLE.to_pandas().to_csv(path, index=False, encoding="utf-8-sig")


def write_jsonl(path: Path) -> None:
    path.write_text("\n".join(json.dumps(row) for row in TABLE.to_pylist()) + "\n\n")


def write_json(path: Path) -> None:
    path.write_text(json.dumps(TABLE.to_pylist(), indent=1))


def write_parquet(path: Path) -> None:
    parquet.write_table(TABLE, path)


def write_categories(path: Path) -> None:
    TABLE.to_pandas().astype({"label": "category"}).to_parquet(path)


def write_arrow_file(path: Path) -> None:
    with pa.ipc.new_file(path, TABLE.schema) as writer:
        writer.write_table(TABLE)


def write_arrow_stream(path: Path) -> None:
    with pa.ipc.new_stream(path, TABLE.schema) as writer:
        writer.write_table(TABLE)


def write_large_strings(path: Path) -> None:
    feather.write_feather(TABLE.set_column(1, "text", TABLE["text"].cast(pa.large_string())), path)


FORMATS = [
    (".csv", write_csv), (".tsv", write_tsv), (".csv", write_csv_with_a_byte_order_mark), (".jsonl", write_jsonl),
    (".ndjson", write_jsonl), (".json", write_json), (".json", write_jsonl), (".parquet", write_parquet),
    (".parquet", write_categories), (".arrow", write_arrow_file), (".arrow", write_arrow_stream),
    (".feather", write_large_strings),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "write"), FORMATS, ids=lambda value: getattr(value, "__name__", value))
def test_every_format_gives_the_same_rows(
    tmp_path: Path, load: Load, suffix: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / f"rows{suffix}")
    write_parquet(tmp_path / "expected.parquet")
    name = f"rows{suffix}"
    splits = load(train=name, validation=name, test=name)
    assert list(zip(*splits.plain_rows("train").values(), strict=True)) == ROWS
    assert splits.train.column_names == ["text", "label"]
    expected = load(train="expected.parquet", validation="expected.parquet", test="expected.parquet")
    assert splits.fingerprints == expected.fingerprints


def test_the_format_can_be_named_where_the_suffix_says_nothing(tmp_path: Path, load: Load) -> None:
    write_csv(tmp_path / "rows.txt")
    splits = load(train="rows.txt", validation="rows.txt", test="rows.txt", format="csv")
    assert len(splits.test) == 5


def test_several_files_make_one_split_and_errors_name_the_right_one(tmp_path: Path, load: Load) -> None:
    write_csv(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("text,label\nfirst,a\n,b\n")
    splits = load(train=["a.csv", "b.csv"], validation="a.csv", test="a.csv")
    assert len(splits.train) == 7
    assert str(splits.origins["train"]) == "a.csv + b.csv"
    with pytest.raises(DataError, match=r"^b\.csv, row 2: no text in column 'text', expected a string in every row"):
        make_task(task_plan(DataPlan(train="a.csv"))).read(splits)


def test_an_empty_cell_is_missing_and_a_quoted_empty_one_is_an_empty_text(tmp_path: Path, load: Load) -> None:
    (tmp_path / "rows.csv").write_text('text,label\n,a\n"",b\nNA,a\nnull,b\n')
    splits = load(train="rows.csv", validation="rows.csv", test="rows.csv")
    assert splits.plain_rows("train")["text"] == [None, "", "NA", "null"]


QUOTED = 'text\tlabel\nfine\ta\n"so she said\tb\nno\ta\nyes"\tb\n'


def test_rows_that_an_unpaired_quote_swallows_are_noted_and_read_where_quotes_are_text(
    tmp_path: Path, load: Load
) -> None:
    (tmp_path / "rows.tsv").write_text(QUOTED)
    splits = load(train="rows.tsv", validation="rows.tsv", test="rows.tsv")
    assert len(splits.train) == 2
    noted = [note for note in splits.notes if "quoting" in note]
    assert noted == [
        "rows.tsv: 1 quoted cell holds line breaks and '\\t' (the first from line 3, the longest over 3 lines). If "
        "quotes are part of the text there, rows were swallowed: write task.data.csv: {quoting: none}."
    ]
    splits = load(train="rows.tsv", validation="rows.tsv", test="rows.tsv", csv=CsvPlan(quoting="none"))
    assert splits.plain_rows("train")["text"] == ["fine", '"so she said', "no", 'yes"']
    assert not any("quoting" in note for note in splits.notes)


def test_a_text_over_several_lines_is_no_reason_for_a_note(tmp_path: Path, load: Load) -> None:
    (tmp_path / "rows.csv").write_text('text,label\n"two\nlines",a\n"with, comma",b\n')
    assert not any("quoting" in note for note in load(train="rows.csv", validation="rows.csv", test="rows.csv").notes)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252", "utf-8-sig"])
def test_delimiter_and_encoding_are_the_plans(tmp_path: Path, load: Load, encoding: str) -> None:
    (tmp_path / "rows.csv").write_text('text;label\ncafé, au lait;a\n"x;y";b\n', encoding=encoding)
    options = CsvPlan(delimiter=";", encoding=encoding)
    splits = load(train="rows.csv", validation="rows.csv", test="rows.csv", csv=options)
    assert splits.plain_rows("train")["text"] == ["café, au lait", "x;y"]


def test_a_file_in_another_encoding_than_the_plans_is_refused(tmp_path: Path, load: Load) -> None:
    (tmp_path / "rows.csv").write_bytes(b"text,label\nx,a\n\x81y,b\n")
    with pytest.raises(DataError, match=r"^rows\.csv: not cp1252, as task\.data\.csv\.encoding says"):
        load(train="rows.csv", validation="rows.csv", test="rows.csv", csv=CsvPlan(encoding="cp1252"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"delimiter": '"'}, "task.data.csv.delimiter: expected one ASCII character"),
        ({"encoding": "hex"}, "task.data.csv.encoding: expected an encoding of text that Python knows, got 'hex'"),
    ],
)
def test_csv_options_that_cannot_be_are_refused(options: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        CsvPlan(**options)


def test_class_names_in_a_parquet_file_are_kept(tmp_path: Path, load: Load) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    datasets.Dataset.from_dict({"text": ["x", "y"], "label": [1, 0]}, features=features).to_parquet(
        tmp_path / "p.parquet"
    )
    splits = load(train="p.parquet", validation="p.parquet", test="p.parquet")
    assert splits.train.features["label"].names == ["no", "yes"]
    assert splits.plain_rows("train")["label"] == ["yes", "no"]


BROKEN = {
    "missing": ("rows.csv", None, r"^other\.csv: no such file \(the train split, .*\n  The folder holds"),
    "header-only": ("rows.csv", "text,label\n", r"^rows\.csv: the train split is empty, expected at least one row"),
    "nothing": ("rows.csv", "", r"^rows\.csv: the file is empty, expected a header line and rows"),
    "unclosed-quote": ("rows.csv", 'text,label\nx,a\n"y,b\nz,a\n', r"^rows\.csv, line 3: bad quoting \(unexpected end"),
    "text-after-quote": ("rows.csv", 'text,label\n"x"y,a\n', r"^rows\.csv, line 2: bad quoting \(',' expected after"),
    "cell-too-many": (
        "rows.csv", 'text,label\n"x\nx",a\ny,z,b\n', r"^rows\.csv, line 4: 3 cells, expected 2 as in the header"
    ),
    "not-utf8": ("rows.csv", b"text,label\nok,a\ncaf\xe9,b\n", r"^rows\.csv, line 3: byte 0xe9 is not UTF-8, expected"),
    "typo": ("rows.csv", "texts,label\nx,a\n", r"names as `columns.text`.\n  Did you mean 'texts'"),
    "semicolons": ("rows.csv", "text;label\nx;a\n", r"text;label\. Only one column: is the delimiter ';'\?"),
    "column-twice": ("rows.csv", "text,label,text\nx,a,y\n", r"the column 'text' stands twice in the header"),
    "suffix": ("rows.xlsx", "x", r"^rows\.xlsx: unknown format '\.xlsx', .*\n.*`data.format`: csv,"),
    "no-suffix": ("rows", "x", r"unknown format '\(no suffix\)'"),
    "jsonl-syntax": ("rows.jsonl", '{"text": "x", "label": "a"}\n{"text": }\n', r"^rows\.jsonl, line 2: not valid"),
    "jsonl-list": ("rows.jsonl", '["x", "a"]\n', r'^rows\.jsonl, line 1: \["x", "a"\], expected one object a row'),
    "jsonl-empty": ("rows.jsonl", "\n", r"^rows\.jsonl: the file is empty, expected one object a row"),
    "jsonl-not-utf8": ("rows.jsonl", b'{"text": "caf\xe9", "label": "a"}\n', r"^rows\.jsonl, line 1: byte 0xe9"),
    "jsonl-mixed": (
        "rows.jsonl", '{"text": "x", "label": "a"}\n{"text": "y", "label": 1}\n',
        r"^rows\.jsonl, row 2: the column 'label' holds an integer \(1\), but row 1 holds a string \('a'\)",
    ),
    "jsonl-typo": ("rows.jsonl", '{"text": "x", "labels": "a"}\n', r"no column 'label'.*\n  Did you mean 'labels'\?"),
    "json-object": ("rows.json", '{"data": []}', r"^rows\.json: an object with the keys data, expected a list"),
    "json-syntax": ("rows.json", '[{"text": "x",]', r"^rows\.json, line 1: not valid JSON"),
    "parquet": ("rows.parquet", "not parquet", r"^rows\.parquet: not a whole Parquet file \("),
    "arrow": ("rows.arrow", "not arrow at all", r"^rows\.arrow: neither an Arrow file nor an Arrow stream \("),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN, ids=str)
def test_a_broken_file_is_refused(tmp_path: Path, load: Load, case: str) -> None:
    name, content, text = BROKEN[case]
    if content is None:
        name = "other.csv"
        write_csv(tmp_path / "unlike.csv")
    else:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=text):
        load(train=name)


def test_an_arrow_file_whose_offsets_lead_out_of_it_is_refused(tmp_path: Path, load: Load) -> None:
    path = tmp_path / "rows.arrow"
    table = pa.table({"text": ["abcd", "efgh"], "label": ["a", "b"]})
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    content = path.read_bytes()
    offsets = b"".join(each.to_bytes(4, "little") for each in (0, 4, 8))
    assert content.count(offsets) == 1
    path.write_bytes(content.replace(offsets, offsets[:8] + (1 << 30).to_bytes(4, "little")))
    with pytest.raises(DataError, match=r"^rows\.arrow: neither an Arrow file nor an Arrow stream \("):
        load(train="rows.arrow")


def test_a_misspelt_file_is_recognised(tmp_path: Path, load: Load) -> None:
    write_csv(tmp_path / "train.csv")
    with pytest.raises(DataError, match=r"no such file .*\n  Did you mean 'train\.csv'\? The folder holds train\.csv"):
        load(train="tran.csv")


def test_a_missing_folder_and_a_folder_for_a_file_are_told_apart(tmp_path: Path, load: Load) -> None:
    with pytest.raises(DataError, match="the folder .*nowhere does not exist either"):
        load(train="nowhere/train.csv")
    (tmp_path / "saved").mkdir()
    with pytest.raises(DataError, match="saved: a folder, expected the file of the train split.\n.*`data.folder`"):
        load(train="saved")


def test_files_of_one_split_must_agree_on_types(tmp_path: Path, load: Load) -> None:
    pandas.DataFrame({"text": ["x"], "label": ["a"]}).to_parquet(tmp_path / "a.parquet")
    pandas.DataFrame({"text": ["x"], "label": [1]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: the column 'label' holds int64, but string in a\.parquet"):
        load(train=["a.parquet", "b.parquet"])


def test_a_validation_file_without_the_label_names_that_file(tmp_path: Path, load: Load) -> None:
    write_csv(tmp_path / "train.csv")
    (tmp_path / "validation.csv").write_text("text\nx\n")
    with pytest.raises(
        DataError, match=r"^validation\.csv: no column 'label', which the plan names as `columns.label`"
    ):
        load(train="train.csv", validation="validation.csv")


def test_rows_of_fewer_keys_are_missing_values(tmp_path: Path, load: Load) -> None:
    (tmp_path / "rows.jsonl").write_text('{"label": "a"}\n{"text": "x", "label": "b"}\n')
    splits = load(train="rows.jsonl", validation="rows.jsonl", test="rows.jsonl")
    assert splits.plain_rows("train")["text"] == [None, "x"]


def compress(path: Path, suffix: str) -> bytes:
    content = path.read_bytes()
    packed = gzip.compress(content) if suffix == ".gz" else bytes(pa.Codec("zstd").compress(content, asbytes=True))
    path.with_name(path.name + suffix).write_bytes(packed)
    return packed


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize(
    ("kind", "write"),
    [(".tsv", write_tsv), (".jsonl", write_jsonl), (".json", write_json)],
    ids=["tsv", "jsonl", "json"],
)
def test_compressed_files_give_the_same_rows(
    tmp_path: Path, load: Load, suffix: str, kind: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / f"rows{kind}")
    packed = compress(tmp_path / f"rows{kind}", suffix)
    name = f"rows{kind}{suffix}"
    splits = load(train=name, validation=name, test=f"rows{kind}")
    assert splits.fingerprints["train"] == splits.fingerprints["test"]
    assert str(splits.origins["train"]) == name
    (tmp_path / name).write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=rf"^{re.escape(name)}: damaged or cut off \(.*\)\.\n  Copy or compress"):
        load(train=name)


def test_a_compressed_parquet_file_is_refused(tmp_path: Path, load: Load) -> None:
    write_parquet(tmp_path / "rows.parquet")
    compress(tmp_path / "rows.parquet", ".gz")
    with pytest.raises(DataError, match=r"^rows\.parquet\.gz: a compressed parquet file, expected it as it is"):
        load(train="rows.parquet.gz")


def test_a_pattern_names_files_in_the_order_of_their_names(tmp_path: Path, load: Load) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("deep/b.csv", "deep/a.csv", "deep/er/c.csv", "other.csv"):
        (tmp_path / name).write_text(f"text,label\n{name},x\n")
    splits = load(train=["deep/*.csv", "deep/a.csv"], validation="deep/**/*.csv", test="other.csv")
    assert splits.plain_rows("train")["text"] == ["deep/a.csv", "deep/b.csv"]
    assert splits.plain_rows("validation")["text"] == ["deep/a.csv", "deep/b.csv", "deep/er/c.csv"]
    assert splits.origins["validation"].where(2) == "deep/er/c.csv, row 1"
    assert "task.data.train deep/*.csv: 2 files (deep/a.csv, deep/b.csv)." in splits.notes
    with pytest.raises(DataError, match=r"^none-\*\.csv: no file matches \(the train split, looked for from"):
        load(train="none-*.csv")
    (tmp_path / "odd[1].csv").write_text("text,label\nodd,x\n")
    assert load(train="odd[1].csv", validation="other.csv", test="other.csv").plain_rows("train")["text"] == ["odd"]


def squad(*questions: dict[str, object], version: str = "v2.0") -> str:
    paragraphs = [{"context": "the Rhine is long", "qas": list(questions)}]
    return json.dumps({"version": version, "data": [{"title": "Rivers", "paragraphs": paragraphs}]})


RHINE = {"id": "1", "question": "which?", "answers": [{"text": "Rhine", "answer_start": 4}]}
NONE = {"id": "2", "question": "why?", "answers": [], "is_impossible": True, "plausible_answers": RHINE["answers"]}
QUESTIONS = {"question": "question", "context": "context", "answers": "answers"}


def load_questions(folder: Path) -> RawSplits:
    data = DataPlan(train="a.json", validation="a.json", test="a.json")
    return load_splits(TaskPlan(kind="question-answering", model="m", data=data, columns=QUESTIONS), folder)


def test_the_file_of_squad_is_one_row_a_question(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(squad(RHINE, NONE))
    splits = load_questions(tmp_path)
    rows = splits.plain_rows("train")
    assert rows["question"] == ["which?", "why?"]
    assert rows["context"] == ["the Rhine is long"] * 2
    assert rows["answers"] == [{"text": ["Rhine"], "answer_start": [4]}, {"text": [], "answer_start": []}]
    assert splits.notes[0] == (
        "a.json: SQuAD's own file, version v2.0, read as one row a question. Questions: 2; without an answer: 1."
    )


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ({**RHINE, "is_impossible": True}, r"^a\.json, question '1': is_impossible, and yet it has answers"),
        ({"id": "1", "question": "which?"}, r"^a\.json, article 1: lacks 'answers'\.\n  Expected"),
        ({"id": "1", "answers": []}, r"^a\.json, article 1: lacks 'question'"),
        ({**RHINE, "answers": ["Rhine"]}, r"^a\.json, article 1: is not of SQuAD's shape"),
    ],
)
def test_a_broken_file_of_squad_is_refused(tmp_path: Path, question: dict[str, object], text: str) -> None:
    (tmp_path / "a.json").write_text(squad(question))
    with pytest.raises(DataError, match=text):
        load_questions(tmp_path)


NESTED = [{"message": {"body": f"text {n}", "tags": ["x"]}, "meta": {"class": "ab"[n % 2]}} for n in range(4)]
PATHS = {"text": "message.body", "label": "meta.class"}


def test_fields_are_found_by_their_path_in_every_format(tmp_path: Path, load: Load) -> None:
    table = pa.Table.from_pylist(NESTED)
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, NESTED)))
    parquet.write_table(table, tmp_path / "a.parquet")
    feather.write_feather(table, tmp_path / "a.arrow")
    splits = load(PATHS, train="a.jsonl", validation="a.parquet", test="a.arrow")
    assert splits.plain_rows("train") == {
        "message.body": ["text 0", "text 1", "text 2", "text 3"],
        "meta.class": ["a", "b", "a", "b"],
    }
    assert len(set(splits.fingerprints.values())) == 1
    assert make_task(task_plan(DataPlan(train="a.jsonl"), PATHS)).read(splits).label_names == ("a", "b")
    for name in ("a.jsonl", "a.parquet"):
        with pytest.raises(DataError, match=rf"^{name}: no column 'message\.boddy', which the plan names as `columns"):
            load({"text": "message.boddy", "label": "meta.class"}, train=name)


def test_a_saved_data_set_keeps_the_names_of_a_nested_class(tmp_path: Path, load: Load) -> None:
    features = datasets.Features(
        {"message": {"body": datasets.Value("string")}, "meta": {"class": datasets.ClassLabel(names=["z", "y"])}}
    )
    rows = [{"message": {"body": f"text {n}"}, "meta": {"class": n % 2}} for n in range(4)]
    data = datasets.Dataset.from_list(rows, features=features)
    datasets.DatasetDict({"train": data, "validation": data, "test": data}).save_to_disk(tmp_path / "saved")
    splits = load(PATHS, folder="saved")
    assert splits.plain_rows("test")["meta.class"] == ["z", "y", "z", "y"]


def test_a_name_with_a_dot_comes_before_a_path(tmp_path: Path, load: Load) -> None:
    row = {"message.body": "own", "message": {"body": "nested"}, "meta": {"class": "a"}}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    splits = load(PATHS, train="a.jsonl", validation="a.parquet", test="a.jsonl")
    assert splits.plain_rows("train")["message.body"] == splits.plain_rows("validation")["message.body"] == ["own"]
