"""Each regularizer against its formula in plain PyTorch, and that it leaves alone what is not its own."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from test_adaptations import ARCHITECTURES, BERT, EXAMPLE, build
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from finesearch.errors import ModelError, PlanError
from finesearch.plan import parse_space
from finesearch.tasks import TaskFacts
from finesearch.training.adaptations.adapt import adapt
from finesearch.training.adaptations.space_check import check_recipe_space
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.model.base_model import PretrainedBase
from finesearch.training.model.model_facts import inspect_model
from finesearch.training.model.module_structure import trace_structure
from finesearch.training.regularizers.active_regularizers import METHODS as KNOWN
from finesearch.training.regularizers.active_regularizers import Regularizers, attach
from finesearch.training.regularizers.mixout import mixed
from finesearch.training.regularizers.neftune import noise
from finesearch.training.runtime.seeding import derived_seed
from plain_reference import plain_training
from regularizer_cases import ALL, METHODS, PLAIN, plain_average, plain_l2sp
from training_cases import equal, make_runner, merged, recipe, run, trial, without_clock

SEED = 3


@pytest.fixture(scope="module")
def work(home: Path) -> TrialRunner:
    return make_runner(home)


@pytest.fixture(scope="module")
def base(work: TrialRunner) -> PretrainedBase:
    return work._context.base


def attached(base: PretrainedBase, adaptation: str = "full", **changes: Any) -> tuple[PreTrainedModel, Regularizers]:
    settings = recipe(**{"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0, **changes})
    model, _ = base.build(settings, SEED)
    adapt(model, base.structure, adaptation, {"layers": 2}, base.fresh)
    return model, attach(model, base, settings, SEED, 0)


def assert_close(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(
            got[name], tensor, rtol=1e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_plan_and_training_know_the_same_methods() -> None:
    assert {method.name for method in KNOWN} == set(METHODS)
    assert all(recipe().model_dump()[name] in (0.0, None) for name in METHODS)


@pytest.mark.parametrize(("stage", "optimizer"), [(0, "adamw"), (0, "sgd"), (1, "sgd"), (2, "adamw")])
def test_l2sp_takes_weights_back_to_where_they_began(stage: int, optimizer: str, home: Path, tmp_path: Path) -> None:
    work = make_runner(home, zero_stage=stage)
    settings = {**PLAIN, **METHODS["l2sp"], "optimizer": optimizer}
    result, _ = run(work, trial(tmp_path, **settings))
    expected, losses = plain_l2sp(work, recipe(**settings), SEED)
    assert [evaluation.train_loss for evaluation in result.history] == pytest.approx(losses, rel=1e-5)
    assert_close(merged(result.checkpoint), expected)


def test_rdrop_descends_the_mean_of_two_passes_and_their_divergence(work: TrialRunner, tmp_path: Path) -> None:
    settings = {"epochs": 1, "batch_size": 7, "rdrop": 2.0}

    def losses_of(
        model: torch.nn.Module, batch: dict[str, Any], labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        both = model(**{name: torch.cat([tensor, tensor]) for name, tensor in batch.items()}).logits
        one, other = both.chunk(2)
        own = 0.5 * sum(cross_entropy(logits, labels, label_smoothing=0.1) for logits in (one, other))
        there = kl_div(log_softmax(one, -1), softmax(other, -1), reduction="batchmean")
        back = kl_div(log_softmax(other, -1), softmax(one, -1), reduction="batchmean")
        return own + 2.0 * 0.5 * (there + back), own

    result, _ = run(work, trial(tmp_path, **settings))
    expected, losses = plain_training(work, recipe(**settings), SEED, losses_of=losses_of)
    assert [evaluation.train_loss for evaluation in result.history] == pytest.approx(losses, rel=1e-5)
    assert_close(merged(result.checkpoint), expected)


def test_mixout_replaces_elements_by_the_papers_formula_and_keeps_the_mean() -> None:
    weight, start, share = torch.randn(400, 300), torch.randn(400, 300), 0.3
    got = mixed(weight, start, share, torch.Generator().manual_seed(1))
    mask = 1 - torch.empty_like(start).bernoulli_(1 - share, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(got, (mask * start + (1 - mask) * weight - share * start) / (1 - share))
    assert mask.mean().item() == pytest.approx(share, abs=0.01)
    assert (got - weight).mean().item() == pytest.approx(0.0, abs=0.01)


def test_mixout_runs_every_pretrained_matrix_mixed_and_no_other(base: PretrainedBase) -> None:
    model, regularizers = attached(base, mixout=0.4)
    plain, _ = base.build(recipe(dropout=0.0, attention_dropout=0.0, head_dropout=0.0), SEED)
    matrices = [
        name for name, module in plain.named_modules() if isinstance(module, torch.nn.Linear) and name != "classifier"
    ]
    assert len(matrices) == 4 * 6 + 1
    with torch.no_grad():
        for other in (model, plain):
            for parameter in other.parameters():
                parameter.mul_(1.5)
    generator = torch.Generator().manual_seed(derived_seed(SEED, "mixout", 0, 5))
    changed = {}
    for name in matrices:
        weight, start = plain.get_parameter(f"{name}.weight"), base.tensors[f"{name}.weight"]
        mask = 1 - torch.empty_like(start).bernoulli_(0.6, generator=generator)
        changed[f"{name}.weight"] = (mask * start + (1 - mask) * weight - 0.4 * start) / 0.6
    regularizers.before_step(5, 0.1)
    got = model(**EXAMPLE).logits
    expected = torch.func.functional_call(plain.train(), changed, kwargs=EXAMPLE).logits
    torch.testing.assert_close(got, expected)
    got.sum().backward()
    expected.sum().backward()
    for name, parameter in model.named_parameters():
        if name.startswith(("bert.encoder", "classifier")):
            torch.testing.assert_close(parameter.grad, plain.get_parameter(name).grad)
    model.eval()
    torch.testing.assert_close(model(**EXAMPLE).logits, plain.eval()(**EXAMPLE).logits)


def test_mixout_turns_gpt2s_matrices_round() -> None:
    model = build("gpt2").train()
    pretrained = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    base = _base_of(model, pretrained)
    model.eval()
    expected = model(**EXAMPLE).logits
    attach(model, base, recipe(mixout=0.5), SEED, 0).before_step(0, 0.1)
    for module in model.modules():
        if "Dropout" in type(module).__name__:
            module.p = 0.0
    # Mixed with themselves, weights are what they were.
    torch.testing.assert_close(model(**EXAMPLE).logits, expected)


def test_noise_of_neftune_is_as_large_as_the_paper_says_and_spares_padding() -> None:
    embedded, mask = torch.zeros(2, 8, 50), torch.tensor([[1] * 8, [1] * 2 + [0] * 6])
    drawn = noise(embedded, mask, 5.0, torch.Generator().manual_seed(0))
    for row, length in ((0, 8), (1, 2)):
        reach = 5.0 / (length * 50) ** 0.5
        assert 0.95 * reach < drawn[row, :length].abs().max() <= reach
        assert drawn[row, :length].std().item() == pytest.approx(reach / 3**0.5, rel=0.15)
        assert not drawn[row, length:].any()


def test_neftune_adds_its_noise_to_the_embeddings_in_training_alone(base: PretrainedBase) -> None:
    model, regularizers = attached(base, neftune=5.0)
    plain, _ = base.build(recipe(dropout=0.0, attention_dropout=0.0, head_dropout=0.0), SEED)
    embedded = plain.get_input_embeddings()(EXAMPLE["input_ids"])
    generator = torch.Generator().manual_seed(derived_seed(SEED, "neftune", 0, 2))
    drawn = torch.empty_like(embedded).uniform_(-1, 1, generator=generator)
    expected = plain(
        inputs_embeds=embedded + 5.0 / (4 * 32) ** 0.5 * drawn, attention_mask=EXAMPLE["attention_mask"]
    ).logits
    regularizers.before_step(2, 0.1)
    torch.testing.assert_close(model(**EXAMPLE).logits, expected)
    model.eval()
    torch.testing.assert_close(model(**EXAMPLE).logits, plain.eval()(**EXAMPLE).logits)


def test_layer_drop_trains_the_network_without_the_layers_that_it_drew(base: PretrainedBase) -> None:
    model, regularizers = attached(base, layer_drop=0.5)
    for step in range(4):
        draw = random.Random(derived_seed(SEED, "layer_drop", step))
        kept = [index for index in range(4) if draw.random() >= 0.5]
        plain, _ = base.build(recipe(dropout=0.0, attention_dropout=0.0, head_dropout=0.0), SEED)
        plain.bert.encoder.layer = torch.nn.ModuleList(plain.bert.encoder.layer[index] for index in kept)
        regularizers.before_step(step, 0.1)
        got = model(**EXAMPLE).logits
        torch.testing.assert_close(got, plain(**EXAMPLE).logits)
        model.zero_grad()
        got.sum().backward()
        for index in range(4):
            gradient = model.bert.encoder.layer[index].output.dense.weight.grad
            assert gradient is not None
            assert bool(gradient.any()) == (index in kept)
    model.eval()
    whole, _ = base.build(recipe(), SEED)
    torch.testing.assert_close(model(**EXAMPLE).logits, whole.eval()(**EXAMPLE).logits)


def _base_of(model: PreTrainedModel, pretrained: dict[str, torch.Tensor] | None = None) -> PretrainedBase:
    tokenizer: Any = lambda text, return_tensors: EXAMPLE  # noqa: E731
    return PretrainedBase(
        folder=Path(),
        kind="",
        facts=TaskFacts(kind=""),
        config=model.config,
        tokenizer=tokenizer,
        tensors=pretrained or {},
        fresh=frozenset(),
        head_dropouts={},
        inputs=frozenset(EXAMPLE),
        structure=trace_structure(model, EXAMPLE),
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_layers_can_be_left_out_of_every_architecture_with_blocks_of_its_own(architecture: str) -> None:
    model = build(architecture)
    names = trace_structure(model, EXAMPLE).blocks
    for module in model.modules():
        if "Dropout" in type(module).__name__:
            module.p = 0.0
    regularizers = attach(model, _base_of(model), recipe(layer_drop=0.999999), SEED, 0)
    regularizers.before_step(0, 0.1)
    before = model(**EXAMPLE).logits
    with torch.no_grad():
        for name in names:
            for parameter in model.get_submodule(name).parameters():
                parameter.add_(1.0)
    assert torch.equal(model(**EXAMPLE).logits, before)
    model.eval()
    assert not torch.equal(model(**EXAMPLE).logits, before)


def test_layers_that_share_one_block_cannot_be_left_out(tmp_path: Path) -> None:
    config = AutoConfig.for_model("albert", **{**BERT, "embedding_size": 16})
    model = AutoModelForSequenceClassification.from_config(config)
    text = "AlbertForSequenceClassification shares one block among all of its layers, so that none can be left out"
    with pytest.raises(ModelError, match=f"layer_drop: {text}"):
        attach(model, _base_of(model), recipe(layer_drop=0.1), SEED, 0)


def test_layer_drop_of_shared_blocks_is_refused_before_anything_runs(work: TrialRunner, home: Path) -> None:
    facts = inspect_model(work.task_plan, home).model_copy(update={"num_layers": 0})
    with pytest.raises(ModelError, match="space.layer_drop: BertForSequenceClassification shares one block"):
        check_recipe_space(parse_space({"layer_drop": [0.0, 0.1]}), facts)
    check_recipe_space(parse_space({"layer_drop": 0.0}), facts)


@pytest.mark.parametrize(("stage", "method"), [(0, "ema_decay"), (0, "swa_start"), (2, "ema_decay")])
def test_the_average_of_the_weights_is_kept_and_scored(method: str, stage: int, home: Path, tmp_path: Path) -> None:
    work = make_runner(home, zero_stage=stage)
    settings = {**PLAIN, **METHODS[method]}
    result, _ = run(work, trial(tmp_path, **settings))
    assert_close(merged(result.checkpoint), plain_average(work, recipe(**settings), SEED))
    scored = evaluate_checkpoint(str(result.checkpoint), "validation", work.task_plan, work.training, home, work.cache)
    assert result.best is not None
    assert scored.metrics == result.best.metrics


def test_averaging_leaves_the_raw_weights_path_as_it_is(home: Path, tmp_path: Path) -> None:
    work = make_runner(home, evaluations_per_epoch=2)
    plain, _ = run(work, trial(tmp_path / "plain"))
    averaged, _ = run(work, trial(tmp_path / "averaged", ema_decay=0.6))
    assert [e.train_loss for e in averaged.history] == [e.train_loss for e in plain.history]
    assert not equal(merged(averaged.checkpoint), merged(plain.checkpoint))


@pytest.mark.parametrize(
    ("stage", "settings"),
    [*((stage, ALL) for stage in (0, 1, 2)), (0, {"swa_start": 0.3}), (0, {"swa_start": 0.9})],
    ids=str,
)
def test_an_interrupted_trial_ends_as_the_undisturbed_one(
    stage: int, settings: dict[str, Any], home: Path, tmp_path: Path
) -> None:
    work = make_runner(home, zero_stage=stage, evaluations_per_epoch=2)
    whole, _ = run(work, trial(tmp_path / "whole", **settings))
    run(work, trial(tmp_path / "parts", **settings), stop_after=2)
    resumed, second = run(work, trial(tmp_path / "parts", attempt=2, **settings))
    assert second.trained == 4
    assert without_clock(resumed.history) == without_clock(whole.history)
    assert equal(merged(resumed.checkpoint), merged(whole.checkpoint))
    assert not any("no effect" in warning for warning in whole.warnings)


@pytest.mark.parametrize("stage", [0, 2])
def test_frozen_layers_keep_every_bit_and_their_outputs_under_every_method(
    stage: int, home: Path, tmp_path: Path
) -> None:
    work = make_runner(home, zero_stage=stage)
    frozen = {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 2}}
    result, _ = run(work, trial(tmp_path, **frozen, **ALL))
    before, _ = work._context.base.build(recipe(), SEED)
    after = merged(result.checkpoint)
    held = ("bert.embeddings.", "bert.encoder.layer.0.", "bert.encoder.layer.1.")
    for name, parameter in before.named_parameters():
        assert torch.equal(parameter, after[name]) == name.startswith(held), name
    assert [warning for warning in result.warnings if "no effect" in warning] == [
        "neftune 5 has no effect: the embeddings are frozen, and frozen layers run without noise."
    ]


def test_frozen_layers_compute_what_they_did(base: PretrainedBase) -> None:
    model, regularizers = attached(base, "freeze_bottom", **{**ALL, "mixout": 0.9, "layer_drop": 0.9})
    outputs: list[torch.Tensor] = []
    model.bert.encoder.layer[2].register_forward_pre_hook(lambda module, inputs: outputs.append(inputs[0].clone()))
    for step in range(6):
        regularizers.before_step(step, 0.1)
        model(**EXAMPLE)
    assert all(torch.equal(outputs[0], other) for other in outputs[1:])


def test_methods_that_find_nothing_to_act_on_say_so(base: PretrainedBase) -> None:
    _, regularizers = attached(base, "head_only", **ALL)
    assert regularizers.warnings == (
        "layer_drop 0.3 has no effect: every block is frozen, and frozen blocks always run.",
        "l2sp 0.5 has no effect: no weight that trains has a pretrained value.",
        "mixout 0.2 has no effect: no matrix that trains has a pretrained value.",
        "neftune 5 has no effect: the embeddings are frozen, and frozen layers run without noise.",
        "rdrop 0.5 has no effect: no dropout is on in what trains, so that both passes are the same.",
    )


@pytest.mark.parametrize("method", ["l2sp", "mixout", "layer_drop", "ema_decay", "swa_start"])
def test_what_needs_whole_weights_is_refused_under_zero_3(method: str, home: Path, tmp_path: Path) -> None:
    with pytest.raises(
        PlanError, match=rf"{method}: expected a training.zero_stage up to 2, got 3: .*\n  Set training"
    ):
        run(make_runner(home, zero_stage=3), trial(tmp_path, **METHODS[method]))
    assert not list(tmp_path.iterdir())


def test_what_needs_no_weights_gives_the_same_under_zero_3(home: Path, tmp_path: Path) -> None:
    both = {**METHODS["rdrop"], **METHODS["neftune"], "epochs": 1}
    results = [run(make_runner(home, zero_stage=stage), trial(tmp_path / str(stage), **both))[0] for stage in (0, 3)]
    one, other = ([evaluation.train_loss for evaluation in result.history] for result in results)
    assert one == pytest.approx(other, rel=1e-4)
