"""Clipping and clearing under ZeRO 0, over trained parameters alone: what DeepSpeed and torch do."""

from pathlib import Path

import pytest
import torch

from finesearch.training.runtime.gradient_clipping import clip, install_fast_clipping
from training_cases import equal, make_runner, merged, run, trial


def gradients(scale: float) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((4, 3), (7,), (2, 2))]
    for parameter in parameters[:2]:
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    return parameters


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0, float("nan"), float("inf")])
def test_clipping_is_that_of_torch(scale: float) -> None:
    ours, theirs = gradients(scale), gradients(scale)
    clip(ours, 1.5)
    torch.nn.utils.clip_grad_norm_(theirs, 1.5)
    for one, other in zip(ours[:2], theirs[:2], strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad.nan_to_num(7.0), other.grad.nan_to_num(7.0))
    assert ours[2].grad is None


@pytest.mark.parametrize("largest", [1e-3, 1e3, None])
def test_a_trial_learns_what_it_does_with_the_steps_of_deepspeed(
    largest: float | None, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 2}, "gradient_clipping": largest}
    ours, _ = run(make_runner(home), trial(tmp_path / "ours", epochs=1, **settings))
    monkeypatch.setattr(
        "finesearch.training.runtime.deepspeed_engine.install_fast_clipping", lambda engine, gradient_clipping: None
    )
    theirs, _ = run(make_runner(home), trial(tmp_path / "theirs", epochs=1, **settings))
    assert ours.history[0].train_loss == pytest.approx(theirs.history[0].train_loss, rel=1e-6)
    for name, tensor in merged(theirs.checkpoint).items():
        torch.testing.assert_close(merged(ours.checkpoint)[name], tensor, rtol=1e-5, atol=1e-6)
    # Where nothing is clipped, to the last bit.
    if largest != 1e-3:
        assert equal(merged(ours.checkpoint), merged(theirs.checkpoint))


def test_every_gradient_of_a_trained_parameter_is_cleared() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    model[0].requires_grad_(False)

    class Engine:
        """What of an engine is looked at."""

        module = model

    engine = Engine()
    install_fast_clipping(engine, None)  # type: ignore[arg-type]
    model(torch.ones(1, 3)).sum().backward()
    assert model[1].weight.grad is not None
    engine.zero_grad()  # type: ignore[attr-defined]
    assert [parameter.grad for parameter in model.parameters()] == [None] * 4
