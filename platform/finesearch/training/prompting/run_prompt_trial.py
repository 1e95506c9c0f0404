"""One prompting trial, from its parameters to a checkpoint that holds the prompt."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.plan.prompt_templates import AUTO
from finesearch.storage import checksummed_dirs
from finesearch.tasks.generation.generation_task import GenerationTask
from finesearch.tasks.prompting import (
    ChoicePromptTask,
    DialoguePromptTask,
    GenerationPromptTask,
    PromptTask,
    Question,
    make_prompt_task,
)
from finesearch.training.checkpointing import checkpoint_layout
from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord
from finesearch.training.checkpointing.checkpoint_writer import GENERATION
from finesearch.training.model.dimensions import ParameterCounts
from finesearch.training.prompting.few_shot_examples import choose_examples
from finesearch.training.prompting.generate_replies import PromptedDialogue, generate_dialogue_split
from finesearch.training.prompting.generate_text import generate_split, make_generator, untouched
from finesearch.training.prompting.methods import (
    check_prompting,
    choose_method,
    choose_style,
    load_prompt_model,
    max_input_tokens,
    uses_cls_pooling,
)
from finesearch.training.prompting.prompt import read_prompt, write_prompt
from finesearch.training.prompting.score_split import score_split
from finesearch.training.prompting.scoring.prompt_spec import PromptSpec
from finesearch.training.prompting.scoring.prompted_model import PromptedModel
from finesearch.training.runtime.distributed import Processes
from finesearch.training.runtime.heartbeat import heartbeat
from finesearch.training.runtime.precision import choose_precision
from finesearch.training.runtime.seeding import derived_seed
from finesearch.training.trial_types import Evaluation, ScoredPredictions, TrialResult, TrialSpec

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from finesearch.training.attempt import Attempt
    from finesearch.training.task_context import TaskContext

STEP = 1


def run_prompt_trial(attempt: Attempt) -> TrialResult:
    """Prompt the model on validation, and write the checkpoint; the result has one evaluation, not yet reported.

    Raises:
        ModelError: the task or the model cannot be prompted.
    """
    began = time.perf_counter()
    spec, context, processes, beat = attempt.spec, attempt.context, attempt.processes, attempt.callbacks.beat
    parameters = spec.recipe.adaptation_parameters
    check_prompting(spec.recipe.adaptation, parameters, context.task, context.base.config, context.base.tokenizer)
    precision = choose_precision(attempt.training.precision, processes.device)
    with heartbeat(beat):
        prompt = make_prompt(context, prompt_task_of(context), spec)
        if prompt.method in ("likelihood", "cloze"):
            prompted = load_prompted_model(context, prompt, precision.name, processes.device)
            prompt = replace(prompt, max_length=prompted.max_field_tokens())
    model, scored = ask(context, prompt, precision.name, "validation", processes, beat)
    evaluation = Evaluation(
        step=STEP,
        epoch=0.0,
        metrics=scored.metrics,
        train_loss=None,
        seconds=time.perf_counter() - began,
        tokens=0,
        trainable_parameters=0,
    )
    total = sum(parameter.numel() for parameter in model.parameters())
    record = attempt.checkpoint_record(
        history=(evaluation,),
        trained=(),
        parameters=ParameterCounts(trainable=0, total=total),
        zero_stage=0,
        precision=precision.name,
    )
    path = processes.run_on_rank_zero(lambda: _write(context, spec, record, prompt, model))
    return TrialResult(
        stopped=False,
        best=evaluation,
        history=(evaluation,),
        checkpoint=str(path),
        trainable_parameters=0,
        total_parameters=total,
        seconds=evaluation.seconds,
        tokens=0,
        checkpoint_bytes=processes.run_on_rank_zero(lambda: checksummed_dirs.listed_bytes(path)),
        warnings=precision.warnings,
        notes=(*precision.notes, *_notes(spec, prompt)),
    )


def ask(
    context: TaskContext,
    prompt: PromptSpec,
    precision: str,
    split: str,
    processes: Processes,
    beat: Callable[[], None] = lambda: None,
) -> tuple[PreTrainedModel, ScoredPredictions]:
    """The prompted model, and its scores on a split."""
    with heartbeat(beat):
        model, answer = _ready(context, prompt, precision, split, processes, beat)
    return model, answer()


def _ready(
    context: TaskContext, prompt: PromptSpec, precision: str, split: str, processes: Processes, beat: Callable[[], None]
) -> tuple[PreTrainedModel, Callable[[], ScoredPredictions]]:
    """The model, and a function that scores its answers."""
    asking = prompt_task_of(context)
    if isinstance(asking, GenerationPromptTask):
        generator = make_generator(context, asking, prompt, precision, processes.device)
        return generator.model, partial(generate_split, generator, asking, context, split, processes, beat)
    rows = context.splits.plain_rows(split)
    if isinstance(asking, DialoguePromptTask):
        model = untouched(context, prompt, precision, processes.device)
        dialogue = PromptedDialogue(model, context.base, asking, prompt, max_input_tokens(model))
        return model, partial(generate_dialogue_split, dialogue, context.tokens[split], rows, processes, beat)
    prompted = load_prompted_model(context, prompt, precision, processes.device)
    return prompted.model, partial(score_split, prompted, asking, rows, processes, beat)


def prompt_task_of(context: TaskContext) -> PromptTask:
    """The task's prompts."""
    asking = make_prompt_task(context.task, context.facts)
    assert asking is not None, "checked before anything ran"
    return asking


def make_prompt(context: TaskContext, asking: PromptTask, spec: TrialSpec) -> PromptSpec:
    """The trial's prompt; its examples are chosen by the trial's seed."""
    name, wanted = spec.recipe.adaptation, spec.recipe.adaptation_parameters
    base = context.base
    method = choose_method(wanted["method"], context.task, base.config, name)
    is_written = not asking.candidates
    has_template = getattr(base.tokenizer, "chat_template", None) is not None
    style = choose_style(wanted["style"], method, has_template, name)
    shown = wanted.get("examples")
    own = wanted["template"] == AUTO
    template = asking.template(method, shows_examples=shown is not None) if own else str(wanted["template"])
    examples: tuple[Question, ...] = ()
    if shown is not None:
        rows = context.splits.plain_rows("train")
        known = [each for questions in asking.questions(rows) for each in questions if each.is_answered]
        # There are no labels to balance where the answer is generated.
        selection = "random" if is_written and wanted["selection"] == "balanced" else wanted["selection"]
        examples = choose_examples(known, shown, selection, derived_seed(spec.seed, "examples"))
    return PromptSpec(
        method=method,
        style=style,
        template=template,
        candidates=asking.candidates,
        calibrate=wanted["calibrate"] and isinstance(asking, ChoicePromptTask),
        examples=examples,
        similar_shown=shown if wanted.get("selection") == "similar" else None,
        system=context.plan.system,
        answer=asking.answer if isinstance(asking, GenerationPromptTask) else "label",
        labels=asking.labels if isinstance(asking, ChoicePromptTask) else (),
        max_length=context.plan.max_length,
        answer_tokens=asking.answer_tokens if isinstance(asking, GenerationPromptTask) else 0,
    )


def load_prompted_model(
    context: TaskContext, prompt: PromptSpec, precision: str, device: torch.device
) -> PromptedModel:
    """The model of a prompt, loaded once per process and method."""
    load = partial(load_prompt_model, context.base.folder, prompt.method)
    model, tokenizer = context.prompt_models.get(prompt.method, precision, device, load)
    return PromptedModel(
        model=model,
        tokenizer=tokenizer,
        prompt=prompt,
        field_tokens=prompt.max_length,
        most_tokens=max_input_tokens(model),
        first_token=uses_cls_pooling(context.base.folder),
    )


def _notes(spec: TrialSpec, prompt: PromptSpec) -> tuple[str, ...]:
    return (f"{spec.recipe.adaptation} asks by {prompt.method}, style {prompt.style}, where the plan says auto.",)


def _write(
    context: TaskContext, spec: TrialSpec, record: CheckpointRecord, prompt: PromptSpec, model: PreTrainedModel
) -> Path:
    directory = Path(spec.directory)
    temporary = checkpoint_layout.temporary_folder(directory, STEP, spec.attempt)
    with checkpoint_layout.discarded_on_failure(temporary):
        checkpoint_layout.begin(directory, STEP, spec.attempt, with_resume=False)
        model.config.save_pretrained(temporary)
        if isinstance(context.task, GenerationTask):
            (temporary / GENERATION).write_text(model.generation_config.to_json_string(), encoding="utf-8")
        for name, content in context.tokenizer_files.items():
            (temporary / name).write_bytes(content)
        write_prompt(prompt, temporary)
        record.write(temporary)
        return checkpoint_layout.complete(temporary, STEP, spec.attempt).path


def rescore_prompt(
    folder: Path, record: CheckpointRecord, context: TaskContext, split: str, processes: Processes
) -> ScoredPredictions:
    """Score a checkpoint's prompt on a split; the folder and its base model have been verified."""
    _, scored = ask(context, read_prompt(folder), record.precision, split, processes)
    return scored
