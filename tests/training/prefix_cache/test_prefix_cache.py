"""Outputs of frozen layers are kept: the same results, computed once, never from an old key."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_training_contract import NAMES, works  # noqa: F401 - a fixture

from finesearch.errors import ModelError
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.prefix_cache import disk_entries
from prefix_cases import FROZEN, READ, alike, kept, own_cache  # noqa: F401 - a fixture
from tiny_writers import write_tiny_writer
from training_cases import make_runner, run, task_plan, trial, write_home


@pytest.mark.parametrize("name", FROZEN)
def test_a_trial_learns_the_same_with_and_without(home: Path, tmp_path: Path, name: str) -> None:
    without, _ = run(make_runner(home, prefix_cache="off"), trial(tmp_path / "off", **FROZEN[name]))
    assert not kept()
    with_it, _ = run(make_runner(home), trial(tmp_path / "auto", **FROZEN[name]))
    assert alike(without, with_it)
    assert READ in with_it.notes
    assert READ not in without.notes


@pytest.mark.parametrize("gib", [1.0, 1e-5])
def test_a_trial_learns_the_same_from_memory(home: Path, tmp_path: Path, gib: float) -> None:
    work = make_runner(home, prefix_cache="memory", prefix_cache_memory_gib=gib)
    without, _ = run(make_runner(home, prefix_cache="off"), trial(tmp_path / "off", **FROZEN["freeze_bottom"]))
    for number in range(2):
        result, _ = run(work, trial(tmp_path / f"{number}", number, **FROZEN["freeze_bottom"]))
        assert READ in result.notes
        assert number or alike(result, without)
    store = work._context.prefix_session.memory
    assert store is not None
    assert store.bytes <= gib * (1 << 30)
    # The smaller budget holds a part of the rows only.
    (train,) = (rows for rows in store._kept.values() if len(rows._starts) == 52)
    assert bool(train.has(np.arange(52)).all()) == (gib == 1.0)
    assert not kept()


@pytest.mark.gpu
@pytest.mark.parametrize("name", FROZEN)
def test_a_trial_on_a_gpu_learns_the_same_with_and_without(home: Path, tmp_path: Path, name: str) -> None:
    without, _ = run(
        make_runner(home, prefix_cache="off", gpus_per_worker=1.0), trial(tmp_path / "off", **FROZEN[name])
    )
    work = make_runner(home, gpus_per_worker=1.0)
    with_it, _ = run(work, trial(tmp_path / "auto", **FROZEN[name]))
    assert alike(without, with_it)
    store = work._context.prefix_session.memory
    assert store is not None
    assert store.bytes > 0
    assert not kept()


def test_in_memory_what_saves_least_goes_first(home: Path, tmp_path: Path) -> None:
    work = make_runner(home, prefix_cache="memory")
    run(work, trial(tmp_path / "shallow", **FROZEN["train_top"]))
    store = work._context.prefix_session.memory
    assert store is not None
    both = store.bytes
    store.memory_bytes = int(1.5 * both)
    deep, _ = run(work, trial(tmp_path / "deep", 1, **FROZEN["head_only"]))
    # The split that takes less room stays beside the two of the deeper cut.
    assert sorted(cut for _, cut in store._kept) == [2, 4, 4]
    without, _ = run(make_runner(home, prefix_cache="off"), trial(tmp_path / "off", 1, **FROZEN["head_only"]))
    assert alike(deep, without)


def test_turned_off_the_ranking_is_the_same(home: Path, tmp_path: Path) -> None:
    ranks = {}
    for cache in ("off", "auto"):
        work = make_runner(home, prefix_cache=cache)
        best = {}
        for name in ("freeze_bottom", "train_top", "head_only"):
            result, _ = run(work, trial(tmp_path / f"{name}-{cache}", **FROZEN[name]))
            assert result.best is not None
            best[name] = result.best.metrics["accuracy"]
        ranks[cache] = sorted(best, key=lambda name: (-best[name], name))
    assert ranks["off"] == ranks["auto"]


@pytest.mark.parametrize("adaptation", ["freeze_bottom", "head_only"])
@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_task_learns_the_same(works: Any, name: str, adaptation: str, tmp_path: Path) -> None:  # noqa: F811
    work = works(name)
    given = {"layers": 1} if adaptation == "freeze_bottom" else {}
    changes = {"adaptation": adaptation, "adaptation_parameters": given, "epochs": 1, "batch_size": 64}
    results = {}
    for cache in ("off", "auto"):
        work.training = work.training.model_copy(update={"prefix_cache": cache})
        try:
            results[cache], _ = run(work, trial(tmp_path / cache, **{**changes, "label_smoothing": 0.0}))
        except ModelError:
            # A tied output layer, or none, has nothing to train.
            assert adaptation == "head_only", name
            return
    assert alike(results["off"], results["auto"])
    notes = " ".join(results["auto"].notes)
    if name.startswith("relation-extraction"):
        why = "the embeddings train, or dropout is on in them."
        assert f"prefix cache: not used with {adaptation}, since {why}" in notes
    elif type(work._context.base.config).__name__ == "T5Config":
        assert f"not used with {adaptation}, since its layers (T5Block) hand on more than hidden states" in notes
    else:
        assert READ in notes


@pytest.mark.parametrize("name", ["freeze_bottom", "head_only"])
def test_an_encoder_decoder_that_classifies_learns_the_same(tmp_path: Path, name: str) -> None:
    home = write_home(tmp_path / "home")
    shutil.rmtree(home / "model")
    write_tiny_writer(home / "model", "bart")
    without, _ = run(make_runner(home, prefix_cache="off"), trial(tmp_path / "off", **FROZEN[name]))
    with_it, _ = run(make_runner(home), trial(tmp_path / "auto", **FROZEN[name]))
    assert alike(without, with_it)
    assert READ in with_it.notes
    assert sorted(kept()) == ([2, 3] if name == "freeze_bottom" else [2, 4])


def test_a_model_that_mixes_padding_in_is_refused(tmp_path: Path) -> None:
    from transformers import FNetConfig, FNetModel

    home = write_home(tmp_path / "home")
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": 200}
    FNetModel(FNetConfig(**settings, max_position_embeddings=64)).save_pretrained(home / "model")
    result, _ = run(make_runner(home), trial(tmp_path / "trial", adaptation="head_only"))
    why = "it takes no attention mask, so that padding changes what it computes"
    assert f"prefix cache: not used with head_only, since {why}." in result.notes
    assert not kept()


def test_later_trials_and_other_processes_compute_nothing(home: Path, tmp_path: Path) -> None:
    run(make_runner(home), trial(tmp_path / "one", **FROZEN["train_top"]))
    (train, validation) = kept()[2]
    written = [(path / disk_entries.HIDDEN).stat().st_mtime_ns for path in (train, validation)]
    run(make_runner(home), trial(tmp_path / "two", 1, **FROZEN["train_top"]))
    assert [(path / disk_entries.HIDDEN).stat().st_mtime_ns for path in (train, validation)] == written
    assert [(path / disk_entries.USES).stat().st_size for path in (train, validation)] == [2, 2]


def test_one_pass_yields_every_cut_of_the_space(home: Path, tmp_path: Path) -> None:
    work = make_runner(home)
    work.cache_depths = (4, 3, 2)
    shallow = {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 2}}
    run(work, trial(tmp_path / "one", **shallow))
    assert {cut: len(paths) for cut, paths in kept().items()} == {2: 2, 3: 2, 4: 2}
    inodes = {path: (path / disk_entries.HIDDEN).stat().st_ino for path in kept()[4]}
    deep, _ = run(work, trial(tmp_path / "two", 1, **FROZEN["head_only"]))
    assert {path: (path / disk_entries.HIDDEN).stat().st_ino for path in kept()[4]} == inodes
    without, _ = run(make_runner(home, prefix_cache="off"), trial(tmp_path / "off", 1, **FROZEN["head_only"]))
    assert alike(deep, without)


def test_a_resumed_trial_yields_nothing_above_what_it_freezes(home: Path, tmp_path: Path) -> None:
    """Its upper layers have trained: what they return belongs to nobody else."""
    shallow = {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 2}}
    run(make_runner(home, prefix_cache="off"), trial(tmp_path / "trial", **shallow), stop_after=1)
    work = make_runner(home)
    work.cache_depths = (4, 2, 1)
    resumed, diary = run(work, trial(tmp_path / "trial", attempt=2, **shallow))
    assert sorted(kept()) == [1, 2]
    whole, _ = run(make_runner(home, prefix_cache="off"), trial(tmp_path / "whole", **shallow))
    assert diary.steps == [1, 2]
    assert alike(resumed, whole)


def test_changed_data_model_or_precision_is_never_served_from_an_old_key(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home")
    keys: list[set[str]] = []

    def look(work: TrialRunner, name: str) -> None:
        run(work, trial(tmp_path / name, **FROZEN["train_top"]))
        keys.append({path.name for path in kept()[2]} - set().union(*keys))

    look(make_runner(home), "first")
    look(make_runner(home, precision="bf16"), "precision")
    other = make_runner(home)
    other.task_plan = task_plan(max_length=9)
    look(other, "max-length")
    lines = (home / "train.csv").read_text(encoding="utf-8").splitlines()
    (home / "train.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n", encoding="utf-8")
    look(make_runner(home), "data")
    config = json.loads((home / "model" / "config.json").read_text())
    (home / "model" / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-3}))
    look(make_runner(home), "config")
    from tiny_models import write_tiny_model

    shutil.rmtree(home / "model")
    write_tiny_model(home / "model", seed=1)
    look(make_runner(home), "weights")
    # Two splits each time; validation, test and train go by one key of their content.
    assert [len(new) for new in keys] == [2, 2, 2, 2, 2, 2]
