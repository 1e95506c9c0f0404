"""Read-only inputs shared by all trials of a task: tokenized splits, base model, names. Loaded once per process."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.data import TokenizedSplits, load_splits, tokenize
from finesearch.tasks import Task, TaskFacts, make_task
from finesearch.tasks.generation.generation_task import GenerationTask
from finesearch.tasks.own_metric import find_beside_plan
from finesearch.training.heads.recipe_base import RecipeBases
from finesearch.training.model.base_model import PretrainedBase, load_base_model
from finesearch.training.model.base_reference import BaseReference
from finesearch.training.model.model_config import build_skeleton, check_max_length
from finesearch.training.model.model_facts import add_model_facts
from finesearch.training.model.model_files import quiet_transformers, tokenizer_sha256
from finesearch.training.model.resolve_model import model_folder
from finesearch.training.prefix_cache.cache_session import PrefixCacheSession
from finesearch.training.prompt_models import PromptModels
from finesearch.training.weights.weight_files import weights_sha256

if TYPE_CHECKING:
    from finesearch.plan import GenerationPlan, TaskPlan
    from finesearch.tasks import RawSplits


@dataclass(frozen=True, eq=False, kw_only=True)
class TaskContext:
    """Read-only after loading, except for two caches that later trials reuse: ``prompt_models`` and ``prefix_session``.

    base: with the head that the folder's config asks for; ``bases`` has those of recipes.
    cache: the run's cache folder on this node. cache_depths: numbers of frozen bottom blocks that the search space can
    request, the most useful first. probe_layers: layers that it can probe; None is the last. known_features: names of
    folders of features that this process has verified.
    """

    plan: TaskPlan
    task: Task
    facts: TaskFacts
    tokens: TokenizedSplits
    base: PretrainedBase
    splits: RawSplits
    cache: Path
    cache_depths: tuple[int, ...] = ()
    probe_layers: tuple[int | None, ...] = ()
    known_features: set[str] = field(default_factory=set)
    prompt_models: PromptModels = field(default_factory=PromptModels)
    prefix_session: PrefixCacheSession = field(default_factory=PrefixCacheSession)
    precision: str = "fp32"

    @cached_property
    def tokenizer_files(self) -> dict[str, bytes]:
        """The tokenizer as ``save_pretrained`` writes it, by file name."""
        with tempfile.TemporaryDirectory() as folder, quiet_transformers():
            self.base.tokenizer.save_pretrained(folder)
            return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}

    @cached_property
    def bases(self) -> RecipeBases:
        """The base model with the head of each recipe."""
        load = partial(load_base_model, self.base.folder, self.task, self.facts, self.precision)
        return RecipeBases(self.base, load, self.precision)

    @cached_property
    def base_reference(self) -> BaseReference:
        """The base model as checkpoints name it, with the SHA-256 of its weights; the hash is computed here, once."""
        return BaseReference(
            model=self.plan.model,
            revision=self.plan.revision,
            folder=str(self.base.folder),
            sha256=weights_sha256(self.base.folder),
        )

    def with_generation(self, generation: GenerationPlan) -> TaskContext:
        """A copy with other generation settings, for tasks whose model generates text; nothing is read again.

        Raises:
            ModelError: the model has too few positions for such long texts.
        """
        plan = self.plan.model_copy(update={"generation": generation})
        task, base = make_task(plan).with_facts(self.facts), self.base
        assert isinstance(task, GenerationTask), task.kind
        positions = task.positions(base.config.is_encoder_decoder)
        check_max_length(build_skeleton(base.config, task.kind, base.folder), positions)
        config = task.generation_config(base.generation, base.tokenizer, self.facts)
        base = replace(base, generation=config)
        return replace(self, plan=plan, task=task, base=base, prompt_models=PromptModels())


def load_task_context(
    plan: TaskPlan,
    base: Path,
    cache: Path,
    cache_depths: tuple[int, ...] = (),
    probe_layers: tuple[int | None, ...] = (),
    *,
    precision: str = "fp32",
    base_weights: str = "auto",
) -> TaskContext:
    """Read data and model of a plan; tokenized splits are found in ``cache`` or built there.

    precision, base_weights: see ``load_base_model``; the latter for ``base``, others are read when a recipe wants them.

    Raises:
        DataError, ModelError, DiskFullError: see the functions called.
    """
    find_beside_plan(plan, base)
    task = make_task(plan)
    folder = model_folder(plan.model, plan.revision, base)
    splits = load_splits(plan, base, cache)
    facts = task.read(splits)
    task = task.with_facts(facts)
    if isinstance(task, GenerationTask):
        facts, _ = add_model_facts(task, facts, folder)
    model = load_base_model(folder, task, facts, precision, base_weights)
    tokens = tokenize(splits, task, facts, model.tokenizer, tokenizer_sha256(folder), cache)
    # The metrics library is imported on first use. Use it here, so that the first trial's time excludes the import.
    references = task.references(tokens.validation.rows())
    task.score(task.perfect_predictions(references), references)
    return TaskContext(
        plan=plan,
        task=task,
        facts=facts,
        tokens=tokens,
        base=model,
        splits=splits,
        cache=cache,
        cache_depths=cache_depths,
        probe_layers=probe_layers,
        precision=precision,
    )
