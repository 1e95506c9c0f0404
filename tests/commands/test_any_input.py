"""Whatever stands in plan, data, config, run and checkpoint files: reading ends in a value or in one of our errors."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finesearch.cli import main
from finesearch.data import load_splits
from finesearch.data.readers.saved_datasets import read_folder
from finesearch.errors import FinesearchError
from finesearch.plan import DataPlan, Plan, TaskPlan, parse_plan
from finesearch.run.identity.begun_plan import read_begun_plan, read_choices
from finesearch.run.identity.run_identity import read_identity
from finesearch.run.ranked_json import find_ranked_checkpoint
from finesearch.run.run_storage import RunStorage
from finesearch.run.score_cache import ScoreCache
from finesearch.storage.checksummed_dirs import damage
from finesearch.storage.run_lock import describe_driver
from finesearch.tasks import make_task
from finesearch.training.checkpointing.checkpoint_record import read_record
from finesearch.training.checkpointing.preemption_state import read_preemption_state
from finesearch.training.model.model_config import read_config
from finesearch.training.prompting.prompt import read_prompt

EXAMPLES = 30
WORDS = [
    "files",
    "bytes",
    "sha256",
    "notes",
    "bf16_nodes",
    "study",
    "checkpoint",
    "generation",
    "text",
    "label",
    "name",
]
KEYS = st.sampled_from(WORDS) | st.text(max_size=4)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from([*WORDS, 10**400])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
DEEP = st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5_000, b'{"text": "\\ud83d", "label": "a"}'])
JSON = VALUES.map(lambda value: json.dumps(value).encode()) | DEEP | st.binary(max_size=30)
"""JSON values of any shape, nesting without an end, numbers without an end, half characters, and any bytes."""

ROWS = st.lists(st.dictionaries(st.sampled_from(["text", "label", "x"]), VALUES, max_size=3), max_size=4)
FILES = st.one_of(
    JSON,
    ROWS.map(lambda rows: "\n".join(map(json.dumps, rows)).encode()),
    st.text(alphabet='text,label\n"\r\t;ab\0é', max_size=60).map(str.encode),
    st.text(alphabet='ab,"\n', max_size=40).map(lambda rest: f"text,label\n{rest}".encode()),
)

bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def task_plan(data: DataPlan) -> TaskPlan:
    columns = {"text": "text", "label": "label"}
    return TaskPlan(kind="text-classification", model="m", data=data, columns=columns, max_length=32)


def read_or_refused(read: Callable[[], object]) -> None:
    with contextlib.suppress(FinesearchError):
        read()


@given(FILES, st.sampled_from(["csv", "tsv", "jsonl", "json", "parquet", "arrow"]))
@bounded
def test_any_data_file_is_read_or_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    path.write_bytes(content)
    plan = task_plan(DataPlan(train=path.name))
    read_or_refused(lambda: make_task(plan).read(load_splits(plan, tmp_path)))
    read_or_refused(lambda: main(["init", str(path)]))


@given(JSON)
@bounded
def test_any_folder_of_a_saved_dataset_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train").mkdir(exist_ok=True)
    for name in ("dataset_dict.json", "train/state.json", "train/dataset_info.json"):
        (tmp_path / name).write_bytes(content)
    read_or_refused(lambda: read_folder(".", tmp_path))


@given(JSON)
@bounded
def test_any_file_of_a_run_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("plan.yaml", "choices.json", "identity.json", "study.json", "ranked.json", "rank-1.json"):
        (tmp_path / name).write_bytes(content)
    storage = RunStorage("tiny", tmp_path)
    for read in (read_begun_plan, read_choices, read_identity, RunStorage._study_name):
        read_or_refused(lambda read=read: read(storage))  # type: ignore[misc]
    read_or_refused(lambda: find_ranked_checkpoint(tmp_path, 1))
    read_or_refused(lambda: ScoreCache(tmp_path).get("rank-1", None, None))
    describe_driver(content)


@given(JSON)
@bounded
def test_any_file_of_a_checkpoint_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("manifest.json", "finesearch.json", "prompt.json", "pause.json"):
        (tmp_path / name).write_bytes(content)
    assert damage(tmp_path) is not None
    for read in (read_record, read_prompt, read_preemption_state):
        read_or_refused(lambda read=read: read(tmp_path))  # type: ignore[misc]


CONFIG = st.dictionaries(
    st.sampled_from(
        ["hidden_size", "num_hidden_layers", "num_labels", "id2label", "architectures", "dtype", "vocab_size"]
    ),
    VALUES,
    max_size=4,
)


@given(JSON | CONFIG.map(lambda fields: json.dumps({"model_type": "bert", **fields}).encode()))
@bounded
def test_any_config_of_a_model_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    read_or_refused(lambda: read_config(tmp_path))


@given(st.binary(max_size=60) | st.text(alphabet="nametask: {}[]&*!|>-\n\t\"'", max_size=60).map(str.encode))
@bounded
def test_any_plan_file_ends_in_an_exit_code(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan.yaml").write_bytes(content)
    assert main(["search", str(tmp_path / "plan.yaml"), "--dry-run"]) == 2


@given(
    st.lists(
        st.sampled_from([*WORDS, "a" * 500, "0", ".", "=", "*a", "&a", "[", "{", "\0", "task", "data"]), max_size=6
    )
)
@bounded
def test_any_override_is_taken_or_refused(words: list[str]) -> None:
    def read() -> Plan:
        return parse_plan("name: a\ntask: {}\nspace: auto", overrides=["".join(words)])

    read_or_refused(read)


def test_the_fuzz_reaches_values_and_refusals(tmp_path: Path) -> None:
    """Both ways out are open: a test that always refuses would hold nothing."""
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"a{i},{'xy'[i % 2]}\n" for i in range(12)))
    plan = task_plan(DataPlan(train="rows.csv"))
    assert make_task(plan).read(load_splits(plan, tmp_path)).label_names == ("x", "y")
    (tmp_path / "rows.csv").write_text('text,label\n"a')
    with pytest.raises(FinesearchError, match="rows.csv, line 2: bad quoting"):
        load_splits(plan, tmp_path)
