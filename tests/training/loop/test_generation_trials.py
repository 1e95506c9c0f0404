"""Models that write text, trained for real: every shape, reloaded, exported, frozen, over two ranks' batches."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from finesearch.errors import ModelError
from finesearch.plan import DataPlan, GenerationPlan, TaskPlan, TrainingPlan, parse_space
from finesearch.tasks import make_task
from finesearch.training.adaptations.space_check import check_recipe_space
from finesearch.training.checkpointing.checkpoint_record import read_record
from finesearch.training.export.export_checkpoint import export_checkpoint
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.model.model_facts import inspect_model
from finesearch.training.runtime.distributed import Processes
from finesearch.training.steps.evaluate import _shares
from finesearch.training.trial_types import TrialResult
from paths import PYTHONPATH, TRAINING_SUPPORT
from tiny_models import write_tiny_model
from tiny_writers import ENCODER_DECODERS, SHAPES, word_pairs, write_tiny_pair, write_tiny_writer
from training_cases import merged, run, trial


def write_home(folder: Path, architecture: str, train_rows: int = 48, **settings: Any) -> Path:
    if architecture == "pair":
        write_tiny_pair(folder / "model")
    else:
        write_tiny_writer(folder / "model", architecture, **settings)
    for seed, (split, rows) in enumerate((("train", train_rows), ("validation", 20), ("test", 20))):
        pairs = zip(*word_pairs(rows, seed), strict=True)
        lines = [json.dumps({"en": source, "de": target}) for source, target in pairs]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def plan_of(**fields: Any) -> TaskPlan:
    data = DataPlan(**{split: (f"{split}.jsonl",) for split in ("train", "validation", "test")})
    columns = {"source": "en", "target": "de"}
    settings = {"kind": "translation", "model": "model", "data": data, "columns": columns, "separator": " => "}
    generation = GenerationPlan(max_new_tokens=8, batch_size=8)
    return TaskPlan(**{**settings, "max_length": 24, "max_target_length": 12, "generation": generation, **fields})


def train(home: Path, plan: TaskPlan, folder: Path, precision: str = "fp32", **recipe: Any) -> tuple[Any, TrialResult]:
    epochs = recipe.get("epochs", 1)
    training = TrainingPlan(epochs=epochs, batch_size=16, precision=precision)
    work = TrialRunner(plan, training, str(home), str(home / "cache"), plan.metric, "max")
    settings = {"epochs": epochs, "learning_rate": 5e-3, "weight_decay": 0.0, "label_smoothing": 0.0, **recipe}
    return work, run(work, trial(folder, **settings))[0]


@pytest.mark.parametrize("architecture", [*SHAPES, "pair"])
def test_a_checkpoint_and_its_export_write_what_the_trial_wrote(architecture: str, tmp_path: Path) -> None:
    import transformers

    # A random model with tied embeddings repeats its last token, and this BART starts with the end token.
    home = write_home(tmp_path / "home", architecture, tie=architecture != "bart")
    plan = plan_of()
    work, result = train(home, plan, tmp_path / "trial", learning_rate=5e-4)
    assert result.best is not None
    again = evaluate_checkpoint(str(result.checkpoint), "validation", plan, work.training, home, work.cache)
    assert again.metrics == result.best.metrics
    out = export_checkpoint(str(result.checkpoint), tmp_path / "out")
    seq2seq = architecture in (*ENCODER_DECODERS, "pair")
    auto = transformers.AutoModelForSeq2SeqLM if seq2seq else transformers.AutoModelForCausalLM
    model, tokenizer = auto.from_pretrained(out), transformers.AutoTokenizer.from_pretrained(out)
    source = word_pairs(20, 1)[0][0]
    inputs = tokenizer(source if seq2seq else f"{source} => ", return_tensors="pt", return_token_type_ids=False)
    # No setting is given: the export carries the plan's.
    written = model.generate(**inputs)
    if not seq2seq:
        written = written[:, inputs["input_ids"].shape[1] :]
    assert tokenizer.decode(written[0], skip_special_tokens=True).strip() == again.predictions[0] != ""


def test_a_writer_learns_and_beats_the_majority(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", "llama", train_rows=400)
    plan = plan_of()
    work, result = train(home, plan, tmp_path / "trial", epochs=6)
    assert result.best is not None
    references = make_task(plan).references(work._context.tokens.validation.rows())
    task = make_task(plan)
    majority = task.score(task.majority(references, len(references)), references)
    assert result.best.metrics["chrf"] > 35 > 1.5 * majority["chrf"]


def test_tied_weights_stay_tied_in_a_trial_and_behind_a_checkpoint(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", "gpt2")
    work, result = train(home, plan_of(), tmp_path / "trial")
    model, _ = work._context.base.build(trial(tmp_path).recipe, seed=0)
    assert model.lm_head.weight is model.transformer.wte.weight
    after = merged(result.checkpoint)
    assert torch.equal(after["lm_head.weight"], after["transformer.wte.weight"])
    assert not torch.equal(after["lm_head.weight"], model.lm_head.weight)


@pytest.mark.parametrize("architecture", ["t5", "bart", "llama"])
def test_what_is_frozen_keeps_every_bit_in_both_shapes(architecture: str, tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", architecture)
    work, result = train(
        home, plan_of(), tmp_path / "trial", adaptation="freeze_bottom", adaptation_parameters={"layers": 1}
    )
    before, _ = work._context.base.build(trial(tmp_path).recipe, seed=3)
    after = merged(result.checkpoint)
    held = {name for name, tensor in before.named_parameters() if torch.equal(tensor, after[name])}
    first = {"t5": "encoder.block.0.", "bart": "model.encoder.layers.0.", "llama": "model.layers.0."}[architecture]
    table = {"t5": "shared.weight", "bart": "model.shared.weight", "llama": "model.embed_tokens.weight"}[architecture]
    inside = {name for name, _ in before.named_parameters() if name.startswith(first)}
    assert inside | {table} <= held
    sizes = {name: parameter.numel() for name, parameter in before.named_parameters()}
    assert result.trainable_parameters == sum(size for name, size in sizes.items() if name not in held)


def test_head_only_is_refused_where_the_head_is_tied_and_works_where_it_is_not(tmp_path: Path) -> None:
    space = parse_space({"learning_rate": 1e-3, "adaptation": ["full", "head_only"]})
    tied = write_home(tmp_path / "tied", "gpt2")
    with pytest.raises(ModelError, match="adaptation.head_only: the output layer of GPT2LMHeadModel has no parameters"):
        check_recipe_space(space, inspect_model(plan_of(), tied))
    with pytest.raises(ModelError, match="adaptation.head_only: the output layer of GPT2LMHeadModel has no parameters"):
        train(tied, plan_of(), tmp_path / "trial", adaptation="head_only")
    own = write_home(tmp_path / "own", "llama", tie=False)
    check_recipe_space(space, inspect_model(plan_of(), own))
    _, result = train(own, plan_of(), tmp_path / "other", adaptation="head_only")
    assert result.trainable_parameters == merged(result.checkpoint)["lm_head.weight"].numel()


def test_an_encoder_is_refused_and_so_are_texts_longer_than_the_positions(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model")
    with pytest.raises(ModelError, match="task.model: BertConfig is an encoder, which cannot write text, and transl"):
        inspect_model(plan_of(), tmp_path)
    home = write_home(tmp_path / "home", "gpt2")
    with pytest.raises(ModelError, match="GPT2LMHeadModel has 96 positions, so expected at most 96, got 102"):
        inspect_model(plan_of(max_length=90), home)


def test_beams_drawing_and_bf16_are_repeated_exactly(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", "t5")
    for number, generation in enumerate(
        (
            GenerationPlan(max_new_tokens=6, beams=3, length_penalty=2.0),
            GenerationPlan(max_new_tokens=6, temperature=0.7),
        )
    ):
        plan = plan_of(generation=generation)
        work, result = train(home, plan, tmp_path / f"trial-{number}", precision="bf16")
        again = evaluate_checkpoint(str(result.checkpoint), "validation", plan, work.training, home, work.cache)
        assert result.best is not None
        assert again.metrics == result.best.metrics
    # The same weights under other settings write other texts: nothing needs to be trained for that.
    other = evaluate_checkpoint(str(result.checkpoint), "validation", plan_of(), work.training, home, work.cache)
    assert other.predictions != again.predictions


def test_ranks_share_whole_batches_and_run_equally_often(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", "gpt2")
    plan = plan_of()
    work = TrialRunner(plan, TrainingPlan(), str(home), str(home / "cache"), "bleu", "max")
    tokens, task = work._context.tokens.validation, make_task(plan)
    alone = [rows.tolist() for _, rows in _shares(task, tokens, Processes(0, 1, torch.device("cpu")))]
    pair = [list(_shares(task, tokens, Processes(rank, 2, torch.device("cpu")))) for rank in (0, 1)]
    assert len(alone) == 3
    assert [len(shares) for shares in pair] == [2, 2]
    assert sorted(rows.tolist() for shares in pair for _, rows in shares if len(rows)) == sorted(alone)


def test_fewer_rows_are_scored_only_where_the_plan_says_so(tmp_path: Path) -> None:
    from finesearch.data import load_splits

    home = write_home(tmp_path / "home", "gpt2")
    whole = load_splits(plan_of(), home)
    files = {split: (f"{split}.jsonl",) for split in ("train", "validation", "test")}
    bounded = load_splits(plan_of(data=DataPlan(**files, evaluation_rows=7)), home)
    assert (len(whole["validation"]), len(bounded["train"])) == (20, 48)
    assert (len(bounded["validation"]), len(bounded["test"]), len(bounded.origins["test"])) == (7, 7, 7)
    assert "task.data.evaluation_rows: 7 of the 20 validation rows are scored (seed 0)." in bounded.notes
    where = int(bounded.origins["test"].where(3).split()[-1]) - 1
    assert bounded["test"][3] == whole["test"][where]


def test_two_ranks_write_what_one_process_writes_under_every_stage(tmp_path: Path) -> None:
    homes = {name: write_home(tmp_path / name, name, tie=name != "bart") for name in ("bart", "llama")}
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TRAINING_SUPPORT / "writer_pair.py")]
    workers = [
        subprocess.Popen([*command, str(rank), str(tmp_path), *homes], env=environment, stderr=subprocess.PIPE)
        for rank in (0, 1)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=300)
        assert worker.returncode == 0, errors.decode()[-4000:]
    for (name, home), stage in itertools.product(homes.items(), range(4)):
        result = TrialResult.model_validate_json((tmp_path / f"{name}-zero{stage}.json").read_bytes())
        assert result.best is not None
        again = evaluate_checkpoint(
            str(result.checkpoint), "validation", plan_of(), TrainingPlan(precision="fp32"), home, home / "cache"
        )
        assert again.metrics == result.best.metrics, (name, stage)
        assert any(again.predictions)
        assert read_record(Path(str(result.checkpoint))).zero_stage == stage


def test_a_summary_is_learned_and_scored_again(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", "t5", train_rows=96)
    plan = plan_of(kind="summarization", columns={"text": "en", "summary": "de"})
    work, result = train(home, plan, tmp_path / "trial", epochs=2)
    assert result.best is not None
    again = evaluate_checkpoint(str(result.checkpoint), "validation", plan, work.training, home, work.cache)
    assert again.metrics == result.best.metrics
    assert again.metrics["rougeL"] > 0.1
