"""A fine-tuning loop in plain PyTorch: one process, whole batches, no DeepSpeed. What our floor must agree with."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import torch
from lion_pytorch import Lion
from torch.nn.functional import cross_entropy

from finesearch.data import training_batches
from finesearch.plan import Recipe
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.runtime.seeding import derived_seed

Change = Callable[[torch.nn.Module, float], None] | None
Losses = Callable[[torch.nn.Module, dict[str, Any], torch.Tensor], tuple[torch.Tensor, torch.Tensor]] | None
Look = Callable[[torch.nn.Module], None] | None


def depth_in_bert(name: str, layers: int = 4) -> int:
    """0 for the head, 1 for the top layer and the pooler above it, and so on down to the embeddings.

    >>> [depth_in_bert(name) for name in ("classifier.bias", "bert.encoder.layer.3.x", "bert.embeddings.x")]
    [0, 1, 5]
    """
    if not name.startswith("bert."):
        return 0
    layer = re.match(r"bert\.encoder\.layer\.(\d+)\.", name)
    return layers - int(layer[1]) if layer else layers + 1 if "embeddings" in name else 1


def plain_training(
    work: TrialRunner,
    recipe: Recipe,
    seed: int,
    pull: Change = None,
    losses_of: Losses = None,
    look: Look = None,
    every_steps: int | None = None,
) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Final tensors and the mean training loss of each epoch, for a recipe without dropout and with full adaptation.

    pull: changes the model before each update, given the learning rate. losses_of: the loss to descend and the one to
    report, from model, batch and labels, with the dropout of step and seed on. look: called after each step. With
    ``every_steps`` one more layer trains after so many steps; what does not train has no gradient at all.
    """
    context = work._context
    model, _ = context.base.build(recipe, seed)
    tokens = context.tokens.train
    epochs = [
        training_batches(tokens.lengths, recipe.batch_size, derived_seed(seed, "batches"), e)
        for e in range(recipe.epochs)
    ]
    steps = sum(map(len, epochs))
    # One group a parameter: some have a weight decay, each has a share of the rate by its layer.
    groups: list[dict[str, Any]] = [
        {
            "params": [parameter],
            "weight_decay": 0.0 if name.endswith("bias") or "LayerNorm" in name else recipe.weight_decay,
            "share": recipe.layerwise_decay ** depth_in_bert(name),
        }
        for name, parameter in model.named_parameters()
    ]
    own = recipe.optimizer_parameters
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(own["beta1"], own["beta2"]), eps=own["epsilon"])
    elif recipe.optimizer == "adafactor":
        settings = {"beta2_decay": own["beta2_decay"], "eps": (None, own["smallest_scale"])}
        optimizer = torch.optim.Adafactor(groups, lr=1.0, d=own["clipping_threshold"], **settings)
    elif recipe.optimizer == "lion":
        optimizer = Lion(groups, lr=1.0, betas=(own["beta1"], own["beta2"]))
    else:
        plain = [{"params": group["params"], "share": group["share"]} for group in groups]
        optimizer = torch.optim.SGD(plain, lr=1.0, momentum=own["momentum"], nesterov=own["nesterov"])
    warmup, step, losses = math.ceil(recipe.warmup_fraction * steps), 0, []
    for batches in epochs:
        total = 0.0
        for rows in batches:
            # Warm-up, then a straight line to nothing.
            factor = (step + 1) / (warmup + 1) if step < warmup else (steps - step) / (steps - warmup)
            rate = recipe.learning_rate * factor
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(every_steps is None or depth_in_bert(name) <= step // every_steps)
            batch = context.task.collate(tokens.rows(rows), context.base.tokenizer, multiple=1)
            labels = batch.pop("labels")
            if losses_of is None:
                own = loss = cross_entropy(model(**batch).logits, labels, label_smoothing=recipe.label_smoothing)
            else:
                torch.manual_seed(derived_seed(seed, "dropout", 0, step))
                loss, own = losses_of(model.train(), batch, labels)
            optimizer.zero_grad()
            loss.backward()
            if recipe.gradient_clipping is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clipping)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
            if recipe.optimizer == "sgd":
                with torch.no_grad():
                    for group in groups:
                        if group["params"][0].requires_grad:
                            group["params"][0].mul_(1 - rate * group["share"] * group["weight_decay"])
            if pull is not None:
                pull(model, rate)
            optimizer.step()
            total += own.item() * len(rows)
            step += 1
            if look is not None:
                look(model)
        losses.append(total / len(tokens))
    return dict(model.state_dict()), losses
