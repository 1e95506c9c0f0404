"""Opens the prefix cache for one trial: the interface for the training loop and the evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from finesearch.data import EVALUATION_TOKENS_PER_PASS, token_budget_batches
from finesearch.plan.space.branches import QUANTIZED
from finesearch.plan.space.frozen_layers import num_frozen_blocks
from finesearch.training.batching import inference_batches
from finesearch.training.prefix_cache.block_outputs import NotCacheable, required_depths, stacks_of
from finesearch.training.prefix_cache.cache_request import CacheRequest
from finesearch.training.prefix_cache.cache_stores import DiskPrefixStore, PrefixStore
from finesearch.training.prefix_cache.cacheable_depth import FrozenDepth, find_frozen_depth
from finesearch.training.prefix_cache.cached_outputs import CachedOutputs
from finesearch.training.prefix_cache.cached_rows import Rows
from finesearch.training.prefix_cache.forward import PrefixForward
from finesearch.training.prefix_cache.self_test import HiddenStateFormat, injector_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finesearch.training.adaptations.adapt import AdaptationResult
    from finesearch.training.attempt import Attempt
    from finesearch.training.runtime.distributed import Processes
    from finesearch.training.task_context import TaskContext

SPLITS = ("train", "validation")
LAYOUT = 1
GIB = 1 << 30


@dataclass(frozen=True, eq=False)
class PrefixCache:
    """A trial's cached outputs by split, or none."""

    servings: Mapping[str, CachedOutputs] | None = None
    notes: tuple[str, ...] = ()

    def of(self, split: str) -> CachedOutputs | None:
        return (self.servings or {}).get(split)

    def close(self) -> None:
        """Unlock the entries that this trial has read, so that they can be evicted."""
        for serving in (self.servings or {}).values():
            for rows in serving.rows.values():
                rows.close()


NOTHING = PrefixCache()


def open_prefix_cache(
    attempt: Attempt, model: PreTrainedModel, adapted: AdaptationResult, precision: str, is_untouched: bool
) -> PrefixCache:
    """Find or compute the outputs of the blocks that the recipe leaves frozen; the same depth on every rank.

    model: adapted, on its device, before any engine takes it. is_untouched: nothing has trained yet, so that blocks
    that will train still return the base model's outputs.
    """
    if attempt.training.prefix_cache == "off":
        return NOTHING
    recipe, structure = attempt.recipe, attempt.base.structure
    depth = find_frozen_depth(model, structure, recipe.adaptation, adapted)
    frozen = num_frozen_blocks(recipe.adaptation, recipe.adaptation_parameters, len(structure.blocks))
    if not depth.blocks:
        return PrefixCache(notes=(_refusal(recipe.adaptation, depth.why),) if frozen else ())
    was_training = model.training
    try:
        return _Opening(attempt, model, precision, is_untouched).open(depth)
    except NotCacheable as error:
        return PrefixCache(notes=(_refusal(recipe.adaptation, str(error)),))
    finally:
        model.train(was_training)


def _refusal(adaptation: str, why: str) -> str:
    return f"prefix cache: not used with {adaptation}, since {why}."


@dataclass(frozen=True, eq=False)
class _Opening:
    attempt: Attempt
    model: PreTrainedModel
    precision: str
    is_untouched: bool

    @property
    def context(self) -> TaskContext:
        return self.attempt.context

    @property
    def processes(self) -> Processes:
        return self.attempt.processes

    def open(self, depth: FrozenDepth) -> PrefixCache:
        """
        Raises:
            NotCacheable: the model does not accept cached outputs.
        """
        base, store = self.attempt.base, self._store()
        has_target = "decoder_input_ids" in self.context.tokens.train.column_names
        stacks = stacks_of(base.structure, base.config.is_encoder_decoder, has_target)
        prefix_forward = PrefixForward(self.model, self.context.task, base, stacks, self.processes)
        known = self.context.prefix_session.verified
        injector, fit = injector_of(prefix_forward, self.context.tokens.train, depth.blocks, self.precision, known)
        cache_depths = required_depths(stacks, depth.blocks)
        found = store.find({split: self._request(split, prefix_forward, cache_depths, fit.forms) for split in SPLITS})
        problems = tuple(store.problems)
        servings = {}
        for split, by_depth in found.items():
            if self._is_agreed(split, by_depth, cache_depths):
                servings[split] = CachedOutputs(injector, prefix_forward, by_depth)
            else:
                for rows in by_depth.values():
                    rows.close()
        if not servings:
            return PrefixCache(notes=problems or ("prefix cache: not used, since its budget leaves too little room.",))
        note = "prefix cache: outputs of frozen layers were computed once and reused by epochs, evaluations and trials."
        return PrefixCache(servings, (note, *problems))

    def _store(self) -> PrefixStore:
        training = self.attempt.training
        memory, where = int(training.prefix_cache_memory_gib * GIB), training.prefix_cache
        if where == "disk" or (where == "auto" and self.processes.device.type == "cpu"):
            return DiskPrefixStore(memory, training.prefix_cache_disk_gib)
        return self.context.prefix_session.memory_store(memory)

    def _request(
        self,
        split: str,
        prefix_forward: PrefixForward,
        cache_depths: tuple[int, ...],
        forms: Mapping[int, HiddenStateFormat],
    ) -> CacheRequest:
        tokens = self.context.tokens[split]
        asked = (
            depth
            for other in self._others(max(cache_depths))
            for depth in required_depths(prefix_forward.stacks, other)
        )
        others = [
            depth
            for depth in dict.fromkeys(asked)
            if depth not in cache_depths and prefix_forward.stack(depth).first in forms
        ]
        if split == "train":
            # No pass is larger than those of a trial without a cache.
            batches = token_budget_batches(tokens.lengths, EVALUATION_TOKENS_PER_PASS[self.processes.device.type])
        else:
            # Exactly the batches in which a fresh process will score the split again, for bit-identical results.
            batches = inference_batches(prefix_forward.task, tokens, self.processes)
        return CacheRequest(
            key=self._key(split),
            tokens=tokens,
            portions=batches,
            cache_depths=cache_depths,
            others=tuple(others),
            forms=forms,
            prefix_forward=prefix_forward,
            beat=self.attempt.callbacks.beat,
        )

    def _others(self, depth: int) -> tuple[int, ...]:
        """Depths of the space that this trial's model can compute: those above its own only before any training."""
        base = self.attempt.base
        # With adapters, even untrained ones, a block may return something else; with random weights it does.
        is_known = all(name in base.tensors or name in base.fresh for name, _ in self.model.named_parameters())
        is_plain = is_known and not base.reinitialized
        return tuple(asked for asked in self.context.cache_depths if asked < depth or (is_plain and self.is_untouched))

    def _key(self, split: str) -> str:
        """First 32 hex digits of the SHA-256 over all that the outputs depend on, except the depth; not of the head."""
        known, place = self.context.prefix_session.keys, (split, self.precision, self.processes.device.type, self._bits)
        if place not in known:
            known[place] = self._computed_key(split)
        return known[place]

    @property
    def _bits(self) -> str:
        """The type of quantized weights; fp32 and bf16 give the same outputs in a precision."""
        stored = self.attempt.base.stored
        return stored if stored in QUANTIZED else ""

    def _computed_key(self, split: str) -> str:
        base = self.context.base
        depends_on = {
            "layout": LAYOUT,
            "weights": self.context.base_reference.sha256,
            "config": base.config.to_dict(),
            "tokens": self.context.tokens.key,
            "split": split,
            "precision": self.precision,
            "device": self.processes.device.type,
            "libraries": [version("torch"), version("transformers")],
        }
        if self._bits:
            depends_on |= {"base_weights": self._bits, "bitsandbytes": version("bitsandbytes")}
        return hashlib.sha256(json.dumps(depends_on, sort_keys=True, default=str).encode()).hexdigest()[:32]

    def _is_agreed(self, split: str, by_depth: Mapping[int, Rows], cache_depths: tuple[int, ...]) -> bool:
        """Whether every rank has every depth of a split; with partitioned weights, every row of it."""
        has = by_depth.keys() == set(cache_depths)
        if self.attempt.training.zero_stage == 3:
            everyone = np.arange(len(self.context.tokens[split]))
            has = has and all(bool(rows.has(everyone).all()) for rows in by_depth.values())
        return all(self.processes.all_gather(has))
