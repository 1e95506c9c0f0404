"""Outputs of frozen layers are kept: the same results, computed once, never from an old key."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pairs import HERE, seen_by_two
from test_training_adaptations import ARCHITECTURES, EXAMPLE, build
from test_training_contract import NAMES, works  # noqa: F401 - a fixture
from test_training_prompts import writer
from training_cases import bench, recipe, run, task_plan, trial, without_clock, write_home

from finesearch.errors import ModelError
from finesearch.plan import parse_plan
from finesearch.training import Evaluation, TrialResult, Workbench
from finesearch.training.adaptations import adapt
from finesearch.training.anatomy import study
from finesearch.training.prefix import entries
from finesearch.training.prefix.bottom import Feed, Unfit, capture, needed_cuts, stacks_of
from finesearch.training.prefix.depth import cuts_of_space, depth_of
from finesearch.training.prefix.rows import FileRows, MemoryRows, RowWriter
from tiny_writers import write_tiny_writer

READ = "prefix cache: outputs of frozen layers were computed once and reused by epochs, evaluations and trials."
ROWS = {
    "input_ids": torch.tensor([[1, 5, 9, 7, 11, 2], [1, 8, 2, 0, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]),
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))


def kept() -> dict[int, list[Path]]:
    """Cut -> folders of whole entries."""
    found: dict[int, list[Path]] = {}
    for entry in entries.every_entry():
        found.setdefault(entry.cut, []).append(entry.path)
    return found


def alike(one: TrialResult, other: TrialResult) -> bool:
    """The same evaluations but for rounding."""
    return len(one.history) == len(other.history) and all(
        _alike(ours, theirs)
        for ours, theirs in zip(without_clock(one.history), without_clock(other.history), strict=True)
    )


def _alike(one: Evaluation, other: Evaluation) -> bool:
    assert one.train_loss is not None
    assert other.train_loss is not None
    return (
        one.metrics == pytest.approx(other.metrics, rel=1e-4, abs=1e-4)
        and one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
        and one.tokens == other.tokens
    )


# -- the mechanism, on every architecture ------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_outputs_and_gradients_are_those_of_the_model_itself(architecture: str, layers: int) -> None:
    model = build(architecture)
    anatomy = study(model, EXAMPLE)
    adapted = adapt(model, anatomy, "freeze_bottom", {"layers": layers}, fresh=())
    depth = depth_of(model, anatomy, "freeze_bottom", adapted)
    assert depth.blocks == layers
    captured = capture(model.eval(), anatomy, ROWS, [layers])
    real = ROWS["attention_mask"].bool()[..., None]
    hidden = {cut: torch.where(real, at, 0.0) for cut, (at, _) in captured.items()}
    feed = Feed(model, anatomy, [layers], {cut: form for cut, (_, form) in captured.items()})
    own, fed = (_trained(model, feed, given) for given in (None, hidden))
    assert torch.allclose(own[0], fed[0], atol=1e-6)
    assert own[1].keys() == fed[1].keys()
    assert all(torch.allclose(own[1][name], fed[1][name], atol=1e-5) for name in own[1])


def _trained(model: Any, feed: Feed, given: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits and gradients of one step with dropout where something trains."""
    model.train()
    model.zero_grad()
    torch.manual_seed(5)
    feed.give(given)
    logits = model(**ROWS).logits
    logits.square().sum().backward()
    feed.give(None)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), gradients


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_a_cut_above_an_encoder_takes_its_end_along(cut: int) -> None:
    model = writer("bart").eval()
    inputs = {**ROWS, "decoder_input_ids": torch.tensor([[2, 4, 6], [2, 7, 0]])}
    anatomy = study(model, inputs)
    stacks = stacks_of(anatomy, is_encoder_decoder=True, has_target=True)
    cuts = needed_cuts(stacks, cut)
    assert cuts == ((cut,) if cut <= 2 else (2, cut))
    captured = capture(model, anatomy, inputs, cuts)
    feed = Feed(model, anatomy, cuts, {at: form for at, (_, form) in captured.items()})
    with torch.no_grad():
        own = model(**inputs).logits
        feed.give({at: hidden for at, (hidden, _) in captured.items()})
        for block in anatomy.blocks[:cut]:
            for parameter in model.get_submodule(block).parameters():
                parameter.fill_(torch.nan)
        assert torch.allclose(model(**inputs).logits, own, atol=1e-6)


def test_layers_that_hand_on_more_than_hidden_states_are_refused() -> None:
    model = writer("t5").eval()
    inputs = {**ROWS, "decoder_input_ids": torch.tensor([[0, 4, 6], [0, 7, 0]])}
    with pytest.raises(Unfit, match=r"its layers \(T5Block\) hand on more than hidden states"):
        capture(model, study(model, inputs), inputs, [1])


def test_nothing_above_the_cut_is_computed() -> None:
    model = build("bert").eval()
    with torch.no_grad():
        for parameter in model.get_submodule("bert.encoder.layer.1").parameters():
            parameter.fill_(torch.nan)
    ran: list[str] = []
    for index in range(3):
        block = model.get_submodule(f"bert.encoder.layer.{index}")
        block.register_forward_pre_hook(lambda *_, at=index: ran.append(str(at)))  # type: ignore[misc]
    capture(model, study(build("bert"), EXAMPLE), ROWS, [1])
    assert ran == ["0"]


@pytest.mark.parametrize(
    ("adaptation", "parameters", "blocks", "why"),
    [
        ("full", {}, 0, "the embeddings train, or dropout is on in them"),
        ("freeze_embeddings", {}, 0, "layer 1 trains"),
        ("freeze_bottom", {"layers": 2}, 2, "layer 3 trains"),
        ("train_top", {"layers": 1}, 2, "layer 3 trains"),
        ("head_only", {}, 3, ""),
        ("norms_only", {}, 0, "the embeddings train, or dropout is on in them"),
        ("pattern", {"patterns": r"layer\.2\."}, 2, "layer 3 trains"),
        ("lora", {"targets": "layer.2.attention.self.query"}, 2, "layer 3 trains"),
        ("lora", {}, 0, "layer 1 trains"),
        ("prompt_tuning", {"virtual_tokens": 3}, 0, "prompt_tuning changes what the first layer gets"),
        ("gradual_unfreezing", {"every_steps": 2}, 0, "frozen layers join the training as it goes on"),
    ],
)
def test_how_deep_a_model_stays_as_it_is(adaptation: str, parameters: Any, blocks: int, why: str) -> None:
    model = build("bert")
    anatomy = study(model, EXAMPLE)
    whole = recipe(adaptation=adaptation, adaptation_parameters=parameters).adaptation_parameters
    adapted = adapt(model, anatomy, adaptation, whole, fresh=(), steps=3)
    depth = depth_of(model, anatomy, adaptation, adapted)
    assert (depth.blocks, depth.why) == (blocks, why)


def test_shared_blocks_are_refused() -> None:
    from transformers import AlbertConfig, AlbertForSequenceClassification

    settings = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 120}
    model = AlbertForSequenceClassification(AlbertConfig(**settings, num_hidden_layers=3))
    anatomy = study(model, EXAMPLE)
    adapted = adapt(model, anatomy, "head_only", {}, fresh=())
    assert depth_of(model, anatomy, "head_only", adapted).why == "its layers share one block"


def test_the_cuts_that_a_space_can_ask_for() -> None:
    plan = parse_plan(
        """
        name: cuts
        task: {kind: text-classification, model: model, data: {train: a.csv}, columns: {text: a, label: b}}
        space:
          adaptation:
            one_of: {full: {}, freeze_bottom: {layers: {min: 1, max: 3}}, train_top: {layers: [1, 2]}, head_only: {}}
        """,
        "plan.yaml",
    )
    assert cuts_of_space(plan.space, num_layers=6) == (6, 5, 4, 3, 2, 1)
    assert cuts_of_space(plan.space, num_layers=0) == ()


# -- whole trials ------------------------------------------------------------------------------------------------------

FROZEN = {
    "freeze_bottom": {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 3}},
    "train_top": {"adaptation": "train_top", "adaptation_parameters": {"layers": 2}},
    "head_only": {"adaptation": "head_only"},
    "rdrop": {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 2}, "rdrop": 0.5},
    "layer_drop": {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 2}, "layer_drop": 0.3},
    "ema": {"adaptation": "train_top", "adaptation_parameters": {"layers": 1}, "ema_decay": 0.5},
}


@pytest.mark.parametrize("name", FROZEN)
def test_a_trial_learns_the_same_with_and_without(home: Path, tmp_path: Path, name: str) -> None:
    without, _ = run(bench(home, prefix_cache="off"), trial(tmp_path / "off", **FROZEN[name]))
    assert not kept()
    with_it, _ = run(bench(home), trial(tmp_path / "auto", **FROZEN[name]))
    assert alike(without, with_it)
    assert READ in with_it.notes
    assert READ not in without.notes


@pytest.mark.parametrize("gib", [1.0, 1e-5])
def test_a_trial_learns_the_same_from_memory(home: Path, tmp_path: Path, gib: float) -> None:
    work = bench(home, prefix_cache="memory", prefix_cache_memory_gib=gib)
    without, _ = run(bench(home, prefix_cache="off"), trial(tmp_path / "off", **FROZEN["freeze_bottom"]))
    for number in range(2):
        result, _ = run(work, trial(tmp_path / f"{number}", number, **FROZEN["freeze_bottom"]))
        assert READ in result.notes
        assert number or alike(result, without)
    store = work._materials.kept["prefix"]
    assert store.bytes <= gib * (1 << 30)
    # The smaller budget holds a part of the rows only.
    (train,) = (rows for rows in store._kept.values() if len(rows._starts) == 52)
    assert bool(train.has(np.arange(52)).all()) == (gib == 1.0)
    assert not kept()


@pytest.mark.gpu
@pytest.mark.parametrize("name", FROZEN)
def test_a_trial_on_a_gpu_learns_the_same_with_and_without(home: Path, tmp_path: Path, name: str) -> None:
    without, _ = run(bench(home, prefix_cache="off", gpus_per_worker=1.0), trial(tmp_path / "off", **FROZEN[name]))
    work = bench(home, gpus_per_worker=1.0)
    with_it, _ = run(work, trial(tmp_path / "auto", **FROZEN[name]))
    assert alike(without, with_it)
    assert work._materials.kept["prefix"].bytes > 0
    assert not kept()


def test_in_memory_what_saves_least_goes_first(home: Path, tmp_path: Path) -> None:
    work = bench(home, prefix_cache="memory")
    run(work, trial(tmp_path / "shallow", **FROZEN["train_top"]))
    store = work._materials.kept["prefix"]
    both = store.bytes
    store.memory_bytes = int(1.5 * both)
    deep, _ = run(work, trial(tmp_path / "deep", 1, **FROZEN["head_only"]))
    # The split that takes less room stays beside the two of the deeper cut.
    assert sorted(cut for _, cut in store._kept) == [2, 4, 4]
    without, _ = run(bench(home, prefix_cache="off"), trial(tmp_path / "off", 1, **FROZEN["head_only"]))
    assert alike(deep, without)


def test_turned_off_the_ranking_is_the_same(home: Path, tmp_path: Path) -> None:
    ranks = {}
    for cache in ("off", "auto"):
        work = bench(home, prefix_cache=cache)
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
    elif type(work._materials.base.config).__name__ == "T5Config":
        assert f"not used with {adaptation}, since its layers (T5Block) hand on more than hidden states" in notes
    else:
        assert READ in notes


@pytest.mark.parametrize("name", ["freeze_bottom", "head_only"])
def test_an_encoder_decoder_that_classifies_learns_the_same(tmp_path: Path, name: str) -> None:
    home = write_home(tmp_path / "home")
    shutil.rmtree(home / "model")
    write_tiny_writer(home / "model", "bart")
    without, _ = run(bench(home, prefix_cache="off"), trial(tmp_path / "off", **FROZEN[name]))
    with_it, _ = run(bench(home), trial(tmp_path / "auto", **FROZEN[name]))
    assert alike(without, with_it)
    assert READ in with_it.notes
    assert sorted(kept()) == ([2, 3] if name == "freeze_bottom" else [2, 4])


def test_a_model_that_mixes_padding_in_is_refused(tmp_path: Path) -> None:
    from transformers import FNetConfig, FNetModel

    home = write_home(tmp_path / "home")
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": 200}
    FNetModel(FNetConfig(**settings, max_position_embeddings=64)).save_pretrained(home / "model")
    result, _ = run(bench(home), trial(tmp_path / "trial", adaptation="head_only"))
    why = "it takes no attention mask, so that padding changes what it computes"
    assert f"prefix cache: not used with head_only, since {why}." in result.notes
    assert not kept()


def test_later_trials_and_other_processes_compute_nothing(home: Path, tmp_path: Path) -> None:
    run(bench(home), trial(tmp_path / "one", **FROZEN["train_top"]))
    (train, validation) = kept()[2]
    written = [(path / entries.HIDDEN).stat().st_mtime_ns for path in (train, validation)]
    run(bench(home), trial(tmp_path / "two", 1, **FROZEN["train_top"]))
    assert [(path / entries.HIDDEN).stat().st_mtime_ns for path in (train, validation)] == written
    assert [(path / entries.USES).stat().st_size for path in (train, validation)] == [2, 2]


def test_one_pass_yields_every_cut_of_the_space(home: Path, tmp_path: Path) -> None:
    work = bench(home)
    work.cuts = (4, 3, 2)
    shallow = {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 2}}
    run(work, trial(tmp_path / "one", **shallow))
    assert {cut: len(paths) for cut, paths in kept().items()} == {2: 2, 3: 2, 4: 2}
    inodes = {path: (path / entries.HIDDEN).stat().st_ino for path in kept()[4]}
    deep, _ = run(work, trial(tmp_path / "two", 1, **FROZEN["head_only"]))
    assert {path: (path / entries.HIDDEN).stat().st_ino for path in kept()[4]} == inodes
    without, _ = run(bench(home, prefix_cache="off"), trial(tmp_path / "off", 1, **FROZEN["head_only"]))
    assert alike(deep, without)


def test_a_resumed_trial_yields_nothing_above_what_it_freezes(home: Path, tmp_path: Path) -> None:
    """Its upper layers have trained: what they return belongs to nobody else."""
    shallow = {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 2}}
    run(bench(home, prefix_cache="off"), trial(tmp_path / "trial", **shallow), stop_after=1)
    work = bench(home)
    work.cuts = (4, 2, 1)
    resumed, diary = run(work, trial(tmp_path / "trial", attempt=2, **shallow))
    assert sorted(kept()) == [1, 2]
    whole, _ = run(bench(home, prefix_cache="off"), trial(tmp_path / "whole", **shallow))
    assert diary.steps == [1, 2]
    assert alike(resumed, whole)


def test_changed_data_model_or_precision_is_never_served_from_an_old_key(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home")
    keys: list[set[str]] = []

    def look(work: Workbench, name: str) -> None:
        run(work, trial(tmp_path / name, **FROZEN["train_top"]))
        keys.append({path.name for path in kept()[2]} - set().union(*keys))

    look(bench(home), "first")
    look(bench(home, precision="bf16"), "precision")
    other = bench(home)
    other.task_plan = task_plan(max_length=9)
    look(other, "max-length")
    lines = (home / "train.csv").read_text(encoding="utf-8").splitlines()
    (home / "train.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n", encoding="utf-8")
    look(bench(home), "data")
    config = json.loads((home / "model" / "config.json").read_text())
    (home / "model" / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-3}))
    look(bench(home), "config")
    from tiny_models import write_tiny_model

    shutil.rmtree(home / "model")
    write_tiny_model(home / "model", seed=1)
    look(bench(home), "weights")
    # Two splits each time; validation, test and train go by one key of their content.
    assert [len(new) for new in keys] == [2, 2, 2, 2, 2, 2]


# -- faults and budgets ------------------------------------------------------------------------------------------------


def test_damaged_files_are_computed_again(home: Path, tmp_path: Path) -> None:
    whole, _ = run(bench(home), trial(tmp_path / "one", **FROZEN["train_top"]))
    (train, validation) = kept()[2]
    with (train / entries.HIDDEN).open("r+b") as file:
        file.truncate(100)
    (validation / entries.MANIFEST).unlink()
    again, _ = run(bench(home), trial(tmp_path / "two", **FROZEN["train_top"]))
    assert alike(whole, again)
    assert len(kept()[2]) == 2


BUILDER = """
import sys, time
from pathlib import Path
from training_cases import bench, run, trial
home, out, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
spec = trial(out, adaptation="train_top", adaptation_parameters={"layers": 2})
result = bench(home).run(spec, lambda evaluation: True, lambda: time.sleep(pause))
print(result.model_dump_json())
"""


@pytest.fixture
def builders() -> Iterator[Any]:
    started: list[subprocess.Popen[bytes]] = []

    def start(home: Path, out: Path, pause: float) -> subprocess.Popen[bytes]:
        roots = [HERE, HERE.parent, HERE.parents[1] / "platform"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, roots)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", BUILDER, str(home), str(out), str(pause)]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_killed_builder_poisons_nothing(home: Path, tmp_path: Path, builders: Any) -> None:
    builder = builders(home, tmp_path / "killed", 5.0)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in entries.home().glob(".building-*/*")):
        assert time.monotonic() < deadline, builder.communicate()[1].decode()
        time.sleep(0.02)
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait()
    assert not kept()
    assert list(entries.home().glob(".building-*"))
    result, _ = run(bench(home), trial(tmp_path / "after", **FROZEN["train_top"]))
    assert READ in result.notes
    assert not list(entries.home().glob(".building-*"))
    without, _ = run(bench(home, prefix_cache="off"), trial(tmp_path / "off", **FROZEN["train_top"]))
    assert alike(result, without)


def test_of_two_processes_one_computes_and_the_other_waits(home: Path, tmp_path: Path, builders: Any) -> None:
    both = [builders(home, tmp_path / name, 0.2) for name in ("one", "other")]
    results = []
    for process in both:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
        results.append(TrialResult.model_validate_json(out.splitlines()[-1]))
    assert alike(*results)
    assert [(path / entries.USES).stat().st_size for path in kept()[2]] == [2, 2]


def test_what_does_not_fit_is_computed_as_it_comes(home: Path, tmp_path: Path) -> None:
    without, _ = run(bench(home, prefix_cache="off"), trial(tmp_path / "off", **FROZEN["train_top"]))
    whole, _ = run(bench(home), trial(tmp_path / "whole", **FROZEN["train_top"]))
    sizes = sum(entry.bytes for entry in entries.every_entry())
    shutil.rmtree(entries.home())
    half, _ = run(
        bench(home, prefix_cache_disk_gib=0.5 * sizes / (1 << 30)), trial(tmp_path / "half", **FROZEN["train_top"])
    )
    assert any(not entry.is_complete for entry in entries.every_entry())
    assert alike(whole, without)
    assert alike(half, without)


def test_where_nothing_fits_the_trial_goes_on_without(home: Path, tmp_path: Path) -> None:
    result, _ = run(bench(home, prefix_cache_disk_gib=1e-7), trial(tmp_path / "none", **FROZEN["train_top"]))
    without, _ = run(bench(home, prefix_cache="off"), trial(tmp_path / "off", **FROZEN["train_top"]))
    assert alike(result, without)
    assert not kept()
    assert any("training.prefix_cache_disk_gib leaves 0.00 GB of 0.00 GB" in note for note in result.notes)


def test_a_home_that_cannot_be_written_costs_time_alone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder is to be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    result, _ = run(bench(home), trial(tmp_path / "trial", **FROZEN["train_top"]))
    assert any(note.startswith(f"prefix cache: {blocked}") and "cannot be written" in note for note in result.notes)


def make_entry(name: str, cut: int, kilobytes: int, uses: int, days: float = 0.0) -> Path:
    temporary, final = entries.home() / f".building-{name}", entries.home() / f"{name}-c{cut}"
    temporary.mkdir(parents=True)
    (temporary / entries.HIDDEN).write_bytes(b"x" * (kilobytes * 1000))
    entries.finish(temporary, final, cut, 10, 10)
    (final / entries.USES).write_bytes(b"." * uses)
    then = time.time() - days * 86_400
    os.utime(final / entries.USES, (then, then))
    return final


def test_what_saves_least_for_its_bytes_goes_first() -> None:
    deep = make_entry("deep", 6, 100, uses=2)
    shallow = make_entry("shallow", 1, 100, uses=2)
    large = make_entry("large", 6, 900, uses=2)
    old = make_entry("old", 6, 100, uses=8, days=9.0)
    assert entries.make_room(needed=300_000, budget=1_420_000) == 300_000
    assert [path.exists() for path in (deep, shallow, large, old)] == [True, True, True, False]
    assert entries.make_room(needed=300_000, budget=1_350_000) == 300_000
    assert [path.exists() for path in (deep, shallow, large)] == [True, True, False]
    assert entries.make_room(needed=300_000, budget=450_000) == 300_000
    assert [path.exists() for path in (deep, shallow)] == [True, False]
    assert entries.make_room(needed=300_000, budget=200_000) == 200_000
    assert not deep.exists()


def test_what_is_read_is_not_deleted() -> None:
    path = make_entry("read", 1, 100, uses=1)
    held = entries.hold(path)
    assert held is not None
    assert entries.make_room(needed=100_000, budget=150_000) == 50_000
    os.close(held)
    assert entries.make_room(needed=100_000, budget=150_000) == 100_000
    assert not path.exists()
    assert entries.hold(path) is None


# -- rows --------------------------------------------------------------------------------------------------------------


def hidden_rows(count: int, width: int, dtype: torch.dtype) -> dict[int, torch.Tensor]:
    torch.manual_seed(0)
    return {row: torch.randn(1 + row % 5, width).to(dtype) for row in reversed(range(count))}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_come_back_bit_by_bit_where_the_tokens_are(tmp_path: Path, dtype: torch.dtype, side: str) -> None:
    hidden = hidden_rows(23, 8, dtype)
    writer_of = RowWriter(tmp_path / "hidden.arrow")
    numbers = list(hidden)
    for start in range(0, 20, 7):
        part = numbers[start : min(start + 7, 20)]
        writer_of.write(np.array(part), [hidden[row] for row in part])
    writer_of.close()
    assert writer_of.rows == 20
    file = FileRows(tmp_path / "hidden.arrow", 23, 1 << 20, -1)
    memory = MemoryRows({row: hidden[row] for row in numbers[:20]}, 23)
    wanted = np.array([4, 22, 9, 3])
    lengths = torch.tensor([len(hidden[row]) for row in wanted])[:, None]
    positions = torch.arange(6)
    real = positions < lengths if side == "right" else positions >= 6 - lengths
    for rows in (file, memory):
        assert rows.has(np.array([0, 2, 3, 22])).tolist() == [False, False, True, True]
        placed = rows.place(wanted, real)
        assert placed.dtype == dtype
        assert torch.equal(placed[real], torch.cat([hidden[row] for row in wanted]))
        assert not placed[~real].any()


PEAK = """
import resource, sys
from pathlib import Path
from training_cases import run, task_plan, trial
from finesearch.plan import TrainingPlan
from finesearch.training import Workbench
home, out, cache = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
training = TrainingPlan(epochs=2, batch_size=16, precision="fp32", prefix_cache=cache, prefix_cache_memory_gib=0.004)
work = Workbench(task_plan(), training, str(home), str(home / "tokens"), "accuracy", "max")
run(work, trial(out, adaptation="head_only"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def test_a_worker_takes_no_more_memory_than_its_budget_beside_what_it_takes_without(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", train_rows=1500)
    from tiny_models import write_tiny_model

    shutil.rmtree(home / "model")
    write_tiny_model(home / "model", layers=1, hidden=512)
    peaks = {}
    for cache in ("off", "auto"):
        roots = [HERE, HERE.parent, HERE.parents[1] / "platform"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, roots)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", PEAK, str(home), str(tmp_path / cache), cache]
        done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=300)
        peaks[cache] = int(done.stdout.splitlines()[-1])
    size = sum(entry.bytes for entry in entries.every_entry())
    assert size > 35e6, size
    # What goes through the reader is 40 times the budget; allocators differ by a few megabytes from run to run.
    assert peaks["auto"] - peaks["off"] < 0.004 * (1 << 30) + 20e6, (peaks, size)


# -- two workers, each on a node with a disk of its own ----------------------------------------------------------------


def test_two_nodes_with_disks_of_their_own_each_compute_their_own(home: Path, tmp_path: Path) -> None:
    seen = seen_by_two("prefix_pair_worker.py", home, tmp_path)
    for stage in range(4):
        for case in ("whole", "half"):
            results = [TrialResult.model_validate(of_rank[f"{stage}-{case}"]) for of_rank in seen]
            without = TrialResult.model_validate(seen[0][f"{stage}-off"])
            assert alike(results[0], without)
            assert alike(*results)
    assert [of_rank["entries"] for of_rank in seen] == [{"2": 2}, {"2": 2}]
    homes = [of_rank["home"] for of_rank in seen]
    assert homes[0] != homes[1]
    # Weights that are cut up among the ranks cannot be run by one of them for the rows that are missing.
    assert READ not in seen[0]["3-half"]["notes"]
    assert READ in seen[0]["2-half"]["notes"]
