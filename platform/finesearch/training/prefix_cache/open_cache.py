"""One trial's view of kept outputs: what the training loop and the evaluation call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from finesearch.data import EVALUATION_TOKENS, budget_batches
from finesearch.plan.space.frozen_layers import frozen_blocks
from finesearch.training.batching import batches_of
from finesearch.training.prefix_cache.block_outputs import Unfit, needed_cuts, stacks_of
from finesearch.training.prefix_cache.cache_request import Wish
from finesearch.training.prefix_cache.cache_stores import DiskStore, MemoryStore, Store
from finesearch.training.prefix_cache.cacheable_depth import Depth, depth_of
from finesearch.training.prefix_cache.cached_rows import Rows
from finesearch.training.prefix_cache.forward import Passes
from finesearch.training.prefix_cache.self_test import Form, feed_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finesearch.plan import Recipe, TrainingPlan
    from finesearch.training.adaptations.adapt import Adapted
    from finesearch.training.runtime.distributed import Processes
    from finesearch.training.task_context import Materials

from finesearch.training.prefix_cache.cached_outputs import Serving

SPLITS = ("train", "validation")
LAYOUT = 1
GIB = 1 << 30


@dataclass(frozen=True, eq=False)
class Prefix:
    """What a trial has of kept outputs: by split, or nothing."""

    servings: Mapping[str, Serving] | None = None
    notes: tuple[str, ...] = ()

    def of(self, split: str) -> Serving | None:
        return (self.servings or {}).get(split)

    def close(self) -> None:
        """Let others delete what this trial has read."""
        for serving in (self.servings or {}).values():
            for rows in serving.rows.values():
                rows.close()


NOTHING = Prefix()


def open_prefix(
    materials: Materials,
    training: TrainingPlan,
    recipe: Recipe,
    model: PreTrainedModel,
    adapted: Adapted,
    precision: str,
    processes: Processes,
    beat: Callable[[], None],
    is_untouched: bool,
) -> Prefix:
    """Find or compute the outputs of the blocks that do not change under ``recipe``; the same cut on every rank.

    model: adapted, on its device, before any engine takes it. is_untouched: nothing of it has trained, so that blocks
    which are going to train still give what the base's give.
    """
    if training.prefix_cache == "off":
        return NOTHING
    depth = depth_of(model, materials.base.anatomy, recipe.adaptation, adapted)
    frozen = frozen_blocks(recipe.adaptation, recipe.adaptation_parameters, len(materials.base.anatomy.blocks))
    if not depth.blocks:
        return Prefix(notes=(_refusal(recipe.adaptation, depth.why),) if frozen else ())
    was_training = model.training
    try:
        return _Opening(materials, training, model, precision, processes, beat, is_untouched).open(depth)
    except Unfit as error:
        return Prefix(notes=(_refusal(recipe.adaptation, str(error)),))
    finally:
        model.train(was_training)


def _refusal(adaptation: str, why: str) -> str:
    return f"prefix cache: not used with {adaptation}, since {why}."


@dataclass(frozen=True, eq=False)
class _Opening:
    materials: Materials
    training: TrainingPlan
    model: PreTrainedModel
    precision: str
    processes: Processes
    beat: Callable[[], None]
    is_untouched: bool

    def open(self, depth: Depth) -> Prefix:
        """
        Raises:
            Unfit: the model does not take kept outputs.
        """
        base, store = self.materials.base, self._store()
        has_target = "decoder_input_ids" in self.materials.tokens.train.column_names
        stacks = stacks_of(base.anatomy, base.config.is_encoder_decoder, has_target)
        passes = Passes(self.model, self.materials.task, base, stacks, self.processes)
        known = self.materials.kept.setdefault("fits", {})
        feed, fit = feed_of(passes, self.materials.tokens.train, depth.blocks, self.precision, known)
        cuts = needed_cuts(stacks, depth.blocks)
        found = store.find({split: self._wish(split, passes, cuts, fit.forms) for split in SPLITS})
        problems = tuple(store.problems)
        servings = {}
        for split, by_cut in found.items():
            if self._is_agreed(split, by_cut, cuts):
                servings[split] = Serving(feed, passes, by_cut)
            else:
                for rows in by_cut.values():
                    rows.close()
        if not servings:
            return Prefix(notes=problems or ("prefix cache: not used, since its budget leaves too little room.",))
        note = "prefix cache: outputs of frozen layers were computed once and reused by epochs, evaluations and trials."
        return Prefix(servings, (note, *problems))

    def _store(self) -> Store:
        memory = int(self.training.prefix_cache_memory_gib * GIB)
        where = self.training.prefix_cache
        if where == "disk" or (where == "auto" and self.processes.device.type == "cpu"):
            return DiskStore(memory, self.training.prefix_cache_disk_gib)
        store: Store = self.materials.kept.setdefault("prefix", MemoryStore(memory))
        return store

    def _wish(self, split: str, passes: Passes, cuts: tuple[int, ...], forms: Mapping[int, Form]) -> Wish:
        tokens = self.materials.tokens[split]
        asked = (cut for other in self._others(max(cuts)) for cut in needed_cuts(passes.stacks, other))
        others = [cut for cut in dict.fromkeys(asked) if cut not in cuts and passes.stack(cut).first in forms]
        if split == "train":
            # No pass is larger than those that the trial makes without a cache.
            batches = budget_batches(tokens.lengths, EVALUATION_TOKENS[self.processes.device.type])
        else:
            # The very batches in which a clean process will score the split again: both agree to the last bit.
            batches = batches_of(passes.task, tokens, self.processes)
        return Wish(self._key(split), tokens, batches, cuts, tuple(others), forms, passes, self.beat)

    def _others(self, cut: int) -> tuple[int, ...]:
        """Cuts of the space that this trial's model can yield: those above its own only while nothing has trained."""
        base = self.materials.base
        # Beside adapters, even untrained ones, a block may give something else.
        is_plain = all(name in base.tensors or name in base.fresh for name, _ in self.model.named_parameters())
        return tuple(asked for asked in self.materials.cuts if asked < cut or (is_plain and self.is_untouched))

    def _key(self, split: str) -> str:
        """SHA-256, the first 32 hex digits, over all that the outputs depend on but the cut."""
        known = self.materials.kept.setdefault("prefix keys", {})
        place = (split, self.precision, self.processes.device.type)
        if place not in known:
            known[place] = self._computed_key(split)
        key: str = known[place]
        return key

    def _computed_key(self, split: str) -> str:
        base = self.materials.base
        depends_on = {
            "layout": LAYOUT,
            "weights": self.materials.base_reference.sha256,
            "config": base.config.to_dict(),
            "tokens": self.materials.tokens.key,
            "split": split,
            "precision": self.precision,
            "device": self.processes.device.type,
            "libraries": [version("torch"), version("transformers")],
        }
        return hashlib.sha256(json.dumps(depends_on, sort_keys=True, default=str).encode()).hexdigest()[:32]

    def _is_agreed(self, split: str, by_cut: Mapping[int, Rows], cuts: tuple[int, ...]) -> bool:
        """Whether every rank has every cut of a split; all of it where weights are cut up among the ranks."""
        has = by_cut.keys() == set(cuts)
        if self.training.zero_stage == 3:
            everyone = np.arange(len(self.materials.tokens[split]))
            has = has and all(bool(rows.has(everyone).all()) for rows in by_cut.values())
        return all(self.processes.gather(has))
