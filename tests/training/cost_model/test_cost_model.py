"""What recipes cost, against what torch itself counts, and in the order in which anyone would put them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cost_examples import minilm_workload
from finesearch.plan import Recipe, TrainingPlan
from finesearch.tasks import make_task
from finesearch.training.adaptations.adapt import adapt
from finesearch.training.cost_model.cost_model import CostModel
from finesearch.training.cost_model.machine_benchmark import benchmark_machine
from finesearch.training.cost_model.workload import TokenCounts, Workload, measure_workload
from finesearch.training.model.dimensions import Dimensions, dimensions_of
from finesearch.training.model.model_config import build_skeleton, read_config
from finesearch.training.model.model_facts import inspect_model
from finesearch.training.task_context import load_task_context
from tiny_models import write_tiny_model
from tiny_writers import write_tiny_writer
from training_cases import task_plan

ROWS, LENGTH = 8, 24


def priced(adaptation: str = "full", parameters: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    return Recipe(adaptation=adaptation, adaptation_parameters=parameters or {}, **changes)


def seconds(recipe: Recipe, cached: bool = False, **training: Any) -> float:
    return CostModel(minilm_workload(), TrainingPlan(**training)).seconds(recipe, cached)


@pytest.mark.parametrize(
    ("adaptation", "parameters"),
    [
        ("full", {}),
        ("freeze_bottom", {"layers": 2}),
        ("train_top", {"layers": 1}),
        ("head_only", {}),
        ("lora", {"rank": 2}),
        ("biases_only", {}),
    ],
)
def test_operations_are_those_that_torch_counts(adaptation: str, parameters: dict[str, Any], tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model", hidden=128, dropout=0.0)
    context = load_bert(folder)
    model, structure, fresh = context
    recipe = priced(adaptation, parameters, epochs=1, batch_size=ROWS)
    adapt(model, structure, adaptation, recipe.adaptation_parameters, fresh)
    batch = {
        "input_ids": torch.randint(5, 60, (ROWS, LENGTH)),
        "attention_mask": torch.ones(ROWS, LENGTH, dtype=torch.long),
    }
    counter = FlopCounterMode(display=False)
    with counter:
        model(**batch).logits.sum().backward()
    reading = TokenCounts(tokens=ROWS * LENGTH, squares=ROWS * LENGTH**2)
    load = minilm_workload().model_copy(
        update={
            "dimensions": dimensions_of(model),
            "num_layers": 4,
            "train_rows": ROWS,
            "train": (reading,),
            "validation_rows": 0,
            "validation": (TokenCounts(tokens=0.0, squares=0.0),),
        }
    )
    operations = CostModel(load, TrainingPlan()).cost(recipe).operations
    assert counter.get_total_flops() == pytest.approx(operations, rel=0.12)


def load_bert(folder: Path) -> tuple[Any, Any, Any]:
    from transformers import AutoModelForSequenceClassification

    from finesearch.training.model.module_structure import trace_structure

    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager")
    example = {"input_ids": torch.tensor([[2, 10, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    fresh = frozenset(name for name, _ in model.named_parameters() if name.startswith("classifier."))
    return model, trace_structure(model, example), fresh


def test_dimensions_tell_blocks_from_tables_and_output_layers(tmp_path: Path) -> None:
    bert = write_tiny_model(tmp_path / "bert")
    sizes = dimensions_of(build_skeleton(read_config(bert), "text-classification", bert))
    block = 4 * 32 * 32 + 2 * 32 * 64
    assert blocks_and_weights(sizes) == [(4, block)]
    assert sizes.stacks[0].vectors == 4 * 32 + 64 + 32 + 4 * 32, "biases, and two norms"
    assert [(each.inputs, each.outputs) for each in sizes.stacks[0].linear] == [(32, 32)] * 4 + [(32, 64), (64, 32)]
    assert (sizes.hidden_size, sizes.blocks, sizes.output_weights) == (32, 4, 0)
    gpt = write_tiny_writer(tmp_path / "gpt2", "gpt2")
    written = dimensions_of(build_skeleton(read_config(gpt), "translation", gpt))
    vocabulary = read_config(gpt).vocab_size
    assert blocks_and_weights(written) == [(2, 12 * 32 * 32)]
    assert [(each.inputs, each.outputs) for each in written.stacks[0].linear][0] == (32, 96), "stored transposed"
    assert (written.embedding_weights, written.output_weights) == ((vocabulary + 96) * 32, vocabulary * 32)
    bart = write_tiny_writer(tmp_path / "bart", "bart")
    pair = dimensions_of(build_skeleton(read_config(bart), "translation", bart))
    assert blocks_and_weights(pair) == [(2, block), (2, block + 4 * 32 * 32)]


def blocks_and_weights(sizes: Dimensions) -> list[tuple[int, int]]:
    return [(stack.blocks, stack.weights) for stack in sizes.stacks]


def test_layers_that_share_one_block_are_counted_as_often_as_they_run() -> None:
    from transformers import AlbertConfig, AlbertForSequenceClassification

    sizes = {"hidden_size": 32, "embedding_size": 16, "num_attention_heads": 4, "intermediate_size": 64}
    with torch.device("meta"):
        model = AlbertForSequenceClassification(AlbertConfig(vocab_size=50, num_hidden_layers=5, **sizes))
    (stack,) = dimensions_of(model).stacks
    assert stack.blocks == 5
    assert stack.weights == pytest.approx(4 * 32 * 32 + 2 * 32 * 64, rel=0.25)


def test_what_is_frozen_saves_and_what_is_kept_saves_more() -> None:
    full, two, four = seconds(priced()), *(seconds(priced("freeze_bottom", {"layers": k})) for k in (2, 4))
    lora, head = seconds(priced("lora")), seconds(priced("head_only"))
    assert full > two > four > head
    assert full > lora > head
    kept = [seconds(priced("freeze_bottom", {"layers": k}), cached=True) for k in (2, 4)]
    assert two > kept[0] > kept[1]
    assert seconds(priced("head_only"), cached=True) < head / 10
    for recipe in (priced(), priced("lora"), priced("freeze_embeddings"), priced("freeze_bottom", {"layers": 0})):
        assert seconds(recipe, cached=True) == seconds(recipe)


def test_a_cut_that_is_kept_saves_what_computing_it_takes() -> None:
    model = CostModel(minilm_workload(), TrainingPlan(epochs=1))
    recipe = priced("freeze_bottom", {"layers": 4}, epochs=1)
    saved = model.seconds(recipe) - model.seconds(recipe, cached=True)
    # One pass over both splits, in larger batches.
    assert model.prefix_build_seconds(4) == pytest.approx(saved, rel=0.1)
    assert minilm_workload(rows=1000).prefix_bytes(4) == 27 * 1500 * 384 * 4


def test_costs_follow_epochs_passes_evaluations_and_workers() -> None:
    one = seconds(priced(epochs=1))
    assert seconds(priced(epochs=3)) == pytest.approx(3 * one)
    assert seconds(priced(epochs=1), workers_per_trial=2) == pytest.approx(one / 2)
    assert seconds(priced(epochs=1, layer_drop=0.5)) < 0.8 * one
    assert seconds(priced(epochs=1, rdrop=1.0)) > 1.6 * one
    assert seconds(priced(epochs=1), evaluations_per_epoch=4) > one
    assert seconds(priced("prompt_tuning", {"virtual_tokens": 40})) > seconds(priced("prompt_tuning"))


def test_asking_costs_one_evaluation_and_examples_make_it_longer() -> None:
    zero, few = seconds(priced("zero_shot")), seconds(priced("few_shot", {"examples": 8}))
    assert zero < seconds(priced("head_only"))
    assert few > 4 * zero


def test_a_solved_layer_costs_one_pass_up_to_its_layer_and_little_once_the_features_are_there() -> None:
    last, lower = seconds(priced("linear_probe")), seconds(priced("linear_probe", {"layer": 2}))
    assert seconds(priced("head_only")) > last > 1.5 * lower
    assert seconds(priced("linear_probe"), cached=True) < last / 5


def test_writing_answers_costs_by_the_token_and_the_beam() -> None:
    def writing(new_tokens: int, beams: int = 1) -> float:
        load = minilm_workload().model_copy(update={"new_tokens": new_tokens, "beams": beams})
        return CostModel(load, TrainingPlan()).seconds(priced(epochs=1))

    assert writing(0) < writing(32) < writing(64) < writing(64, beams=4)


def test_a_workload_is_what_training_will_read(home: Path) -> None:
    plan = task_plan()
    context = load_task_context(plan, home, home / "cache")
    task, facts = make_task(plan), inspect_model(plan, home)
    load: Workload = measure_workload(task, context.splits, context.facts, facts)
    for split, rows, reading in (("train", 52, load.train[0]), ("validation", 37, load.validation[0])):
        lengths = context.tokens[split].lengths
        assert len(lengths) == rows
        # Few rows are all read, or some twice.
        assert reading.tokens == pytest.approx(lengths.sum(), rel=0.1)
        assert reading.squares == pytest.approx((lengths.astype(float) ** 2).sum(), rel=0.15)
    assert (load.train_rows, load.validation_rows, load.num_layers) == (52, 37, 4)
    assert load.parameters == facts.parameters
    assert isinstance(load.dimensions, Dimensions)


def test_a_machine_is_measured_in_a_moment() -> None:
    machine, words = benchmark_machine(TrainingPlan(precision="fp32"), hidden_size=64)
    assert 1e8 < machine.operations_per_s < 1e15
    assert words.endswith("billion operations a second in fp32 on 1 CPU thread(s)")
