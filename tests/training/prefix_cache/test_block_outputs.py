"""How deep a model stays as it is, and that it computes the same from given outputs: on every architecture."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_adaptations import ARCHITECTURES, EXAMPLE, build
from test_soft_prompts import writer

from finesearch.plan import parse_plan
from finesearch.training.adaptations.adapt import adapt
from finesearch.training.model.module_structure import trace_structure
from finesearch.training.prefix_cache.block_outputs import (
    NotCacheable,
    OutputInjector,
    capture,
    required_depths,
    stacks_of,
)
from finesearch.training.prefix_cache.cacheable_depth import cache_depths_of_space, find_frozen_depth
from finesearch.training.prefix_cache.embedding_bypass import bypassed_modules
from finesearch.training.prefix_cache.self_test import VerifiedBlocks
from prefix_cases import READ, alike, own_cache  # noqa: F401 - a fixture
from training_cases import make_runner, recipe, run, trial

ROWS = {
    "input_ids": torch.tensor([[1, 5, 9, 7, 11, 2], [1, 8, 2, 0, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]),
}


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_outputs_and_gradients_are_those_of_the_model_itself(architecture: str, layers: int) -> None:
    model = build(architecture)
    structure = trace_structure(model, EXAMPLE)
    adapted = adapt(model, structure, "freeze_bottom", {"layers": layers}, fresh=())
    depth = find_frozen_depth(model, structure, "freeze_bottom", adapted)
    assert depth.blocks == layers
    captured = capture(model.eval(), structure, ROWS, [layers])
    real = ROWS["attention_mask"].bool()[..., None]
    hidden = {cut: torch.where(real, at, 0.0) for cut, (at, _) in captured.items()}
    before = bypassed_modules(model, structure, ROWS, hidden[layers].shape)
    assert before, "the embeddings are left out as well"
    if (architecture, layers) == ("deberta-v2", 1):
        before = {}  # the convolution above its first block takes them
    injector = OutputInjector(model, structure, [layers], {cut: form for cut, (_, form) in captured.items()}, before)
    own, fed = (_trained(model, injector, given) for given in (None, hidden))
    assert torch.allclose(own[0], fed[0], atol=1e-6)
    assert own[1].keys() == fed[1].keys()
    assert all(torch.allclose(own[1][name], fed[1][name], atol=1e-5) for name in own[1])


def _trained(model: Any, injector: OutputInjector, given: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits and gradients of one step with dropout where something trains."""
    model.train()
    model.zero_grad()
    torch.manual_seed(5)
    injector.inject(given)
    logits = model(**ROWS).logits
    logits.square().sum().backward()
    injector.inject(None)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), gradients


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_a_cut_above_an_encoder_takes_its_end_along(cut: int) -> None:
    model = writer("bart").eval()
    inputs = {**ROWS, "decoder_input_ids": torch.tensor([[2, 4, 6], [2, 7, 0]])}
    structure = trace_structure(model, inputs)
    stacks = stacks_of(structure, is_encoder_decoder=True, has_target=True)
    cuts = required_depths(stacks, cut)
    assert cuts == ((cut,) if cut <= 2 else (2, cut))
    captured = capture(model, structure, inputs, cuts)
    injector = OutputInjector(model, structure, cuts, {at: form for at, (_, form) in captured.items()})
    with torch.no_grad():
        own = model(**inputs).logits
        injector.inject({at: hidden for at, (hidden, _) in captured.items()})
        for block in structure.blocks[:cut]:
            for parameter in model.get_submodule(block).parameters():
                parameter.fill_(torch.nan)
        assert torch.allclose(model(**inputs).logits, own, atol=1e-6)


def test_layers_that_hand_on_more_than_hidden_states_are_refused() -> None:
    model = writer("t5").eval()
    inputs = {**ROWS, "decoder_input_ids": torch.tensor([[0, 4, 6], [0, 7, 0]])}
    with pytest.raises(NotCacheable, match=r"its layers \(T5Block\) hand on more than hidden states"):
        capture(model, trace_structure(model, inputs), inputs, [1])


def test_nothing_above_the_cut_is_computed() -> None:
    model = build("bert").eval()
    with torch.no_grad():
        for parameter in model.get_submodule("bert.encoder.layer.1").parameters():
            parameter.fill_(torch.nan)
    ran: list[str] = []
    for index in range(3):
        block = model.get_submodule(f"bert.encoder.layer.{index}")
        block.register_forward_pre_hook(lambda *_, at=index: ran.append(str(at)))  # type: ignore[misc]
    capture(model, trace_structure(build("bert"), EXAMPLE), ROWS, [1])
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
    structure = trace_structure(model, EXAMPLE)
    whole = recipe(adaptation=adaptation, adaptation_parameters=parameters).adaptation_parameters
    adapted = adapt(model, structure, adaptation, whole, fresh=(), steps=3)
    depth = find_frozen_depth(model, structure, adaptation, adapted)
    assert (depth.blocks, depth.why) == (blocks, why)


def test_embeddings_that_are_looked_at_above_the_blocks_are_computed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import BertModel

    plain = BertModel.forward

    def forward(self: BertModel, *args: Any, **named: Any) -> Any:
        seen: list[torch.Tensor] = []
        handle = self.embeddings.register_forward_hook(lambda _module, _args, output: seen.append(output))
        outputs = plain(self, *args, **named)
        handle.remove()
        outputs.pooler_output = outputs.pooler_output + seen[0][:, 0]
        return outputs

    results = {}
    monkeypatch.setattr(BertModel, "forward", forward)
    for cache in ("off", "auto"):
        work = make_runner(home, prefix_cache=cache)
        results[cache], _ = run(work, trial(tmp_path / cache, adaptation="head_only"))
    assert READ in results["auto"].notes
    (fit,) = work._context.prefix_session.verified.values()
    assert isinstance(fit, VerifiedBlocks)
    assert not fit.bypassed_modules
    assert alike(results["off"], results["auto"])


def test_shared_blocks_are_refused() -> None:
    from transformers import AlbertConfig, AlbertForSequenceClassification

    settings = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 120}
    model = AlbertForSequenceClassification(AlbertConfig(**settings, num_hidden_layers=3))
    structure = trace_structure(model, EXAMPLE)
    adapted = adapt(model, structure, "head_only", {}, fresh=())
    assert find_frozen_depth(model, structure, "head_only", adapted).why == "its layers share one block"


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
    assert cache_depths_of_space(plan.space, num_layers=6) == (6, 5, 4, 3, 2, 1)
    assert cache_depths_of_space(plan.space, num_layers=0) == ()
