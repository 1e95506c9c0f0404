"""One trial that asks: from its parameters to a checkpoint that holds what was asked and how."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.plan.prompt_templates import AUTO
from finesearch.storage import atomic_dirs
from finesearch.tasks.prompting import (
    Asking,
    Choosing,
    ComparingPairs,
    Extracting,
    Question,
    Spoken,
    Written,
    prompting_of,
)
from finesearch.training.checkpoints import checkpoint_layout
from finesearch.training.checkpoints.checkpoint_record import CheckpointRecord, library_versions
from finesearch.training.checkpoints.checkpoint_writer import GENERATION
from finesearch.training.metric_history import Yardstick
from finesearch.training.prompting.few_shot_examples import choose_examples
from finesearch.training.prompting.generate_replies import Speaker, speak_split
from finesearch.training.prompting.generate_text import make_writer, untouched, write_split
from finesearch.training.prompting.methods import (
    check_prompting,
    choose_method,
    choose_style,
    load_asked,
    most_tokens_of,
)
from finesearch.training.prompting.pair_similarity import compare_split
from finesearch.training.prompting.prompt import Prompt, read_prompt
from finesearch.training.prompting.score_split import Answerer, answer_split
from finesearch.training.prompting.span_similarity import extract_split
from finesearch.training.runtime.distributed import Processes
from finesearch.training.runtime.heartbeat import alive
from finesearch.training.runtime.precision import choose_precision, compute_in, move
from finesearch.training.runtime.seeding import derived_seed
from finesearch.training.trial_types import Evaluation, Scored, TrialResult, TrialSpec

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from finesearch.plan import TrainingPlan
    from finesearch.training.task_context import Materials

STEP = 1


def run_asking(
    materials: Materials,
    training: TrainingPlan,
    yardstick: Yardstick,
    spec: TrialSpec,
    processes: Processes,
    beat: Callable[[], None],
) -> TrialResult:
    """Ask about validation, and write the checkpoint; the result has the one evaluation, which is yet to be reported.

    Raises:
        ModelError: the task or the model cannot be asked.
    """
    began = time.perf_counter()
    parameters = spec.recipe.adaptation_parameters
    check_prompting(spec.recipe.adaptation, parameters, materials.task, materials.base.config, materials.base.tokenizer)
    precision = choose_precision(training.precision, processes.device)
    with alive(beat):
        prompt = make_prompt(materials, asking_of(materials), spec)
        if prompt.method in ("likelihood", "cloze"):
            answerer = make_answerer(materials, prompt, precision.name, processes.device)
            prompt = prompt.model_copy(update={"max_length": answerer.fitting_field()})
    model, scored = ask(materials, prompt, precision.name, "validation", processes, beat)
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
    record = _record(materials, training, yardstick, spec, evaluation, total, precision.name)
    path = processes.first_does(lambda: _write(materials, spec, record, prompt, model))
    return TrialResult(
        stopped=False,
        best=evaluation,
        history=(evaluation,),
        checkpoint=str(path),
        trainable_parameters=0,
        total_parameters=total,
        seconds=evaluation.seconds,
        tokens=0,
        checkpoint_bytes=processes.first_does(lambda: atomic_dirs.listed_bytes(path)),
        warnings=precision.warnings,
        notes=(*precision.notes, *_notes(spec, prompt)),
    )


def ask(
    materials: Materials,
    prompt: Prompt,
    precision: str,
    split: str,
    processes: Processes,
    beat: Callable[[], None] = lambda: None,
) -> tuple[PreTrainedModel, Scored]:
    """The model that is asked, and how well it answers about a split."""
    with alive(beat):
        model, answer = _ready(materials, prompt, precision, split, processes, beat)
    return model, answer()


def _ready(
    materials: Materials, prompt: Prompt, precision: str, split: str, processes: Processes, beat: Callable[[], None]
) -> tuple[PreTrainedModel, Callable[[], Scored]]:
    """The model, and what has it answer."""
    asking, rows = asking_of(materials), materials.splits.plain_rows(split)
    if isinstance(asking, Written):
        writer = make_writer(materials, asking, prompt, precision, processes.device)
        return writer.model, partial(write_split, writer, materials.tokens[split], rows, processes, beat)
    if isinstance(asking, Spoken):
        model = untouched(materials, prompt, precision, processes.device)
        speaker = Speaker(model, materials.base, asking, prompt, most_tokens_of(model))
        return model, partial(speak_split, speaker, materials.tokens[split], rows, processes, beat)
    answerer = make_answerer(materials, prompt, precision, processes.device)
    if isinstance(asking, Extracting):
        return answerer.model, partial(extract_split, answerer, asking, rows, processes, beat)
    if isinstance(asking, ComparingPairs):
        return answerer.model, partial(compare_split, answerer, asking, rows, processes, beat)
    assert isinstance(asking, Choosing), type(asking)
    return answerer.model, partial(answer_split, answerer, asking, rows, processes, beat)


def asking_of(materials: Materials) -> Asking:
    """How the task asks."""
    asking = prompting_of(materials.task, materials.facts)
    assert asking is not None, "checked before anything ran"
    return asking


def make_prompt(materials: Materials, asking: Asking, spec: TrialSpec) -> Prompt:
    """What the trial asks; the examples are those of its seed."""
    name, wanted = spec.recipe.adaptation, spec.recipe.adaptation_parameters
    base = materials.base
    method = choose_method(wanted["method"], materials.task, base.config, name)
    is_written = not asking.candidates
    has_template = getattr(base.tokenizer, "chat_template", None) is not None
    style = choose_style(wanted["style"], method, has_template, name)
    shown = wanted.get("examples")
    own = wanted["template"] == AUTO
    template = asking.template(method, shows_examples=shown is not None) if own else str(wanted["template"])
    examples: tuple[Question, ...] = ()
    if shown is not None:
        rows = materials.splits.plain_rows("train")
        known = [each for questions in asking.questions(rows) for each in questions if each.is_answered]
        # There are no labels to balance where the answer is written.
        selection = "random" if is_written and wanted["selection"] == "balanced" else wanted["selection"]
        examples = choose_examples(known, shown, selection, derived_seed(spec.seed, "examples"))
    return Prompt(
        method=method,
        style=style,
        template=template,
        candidates=asking.candidates,
        calibrate=wanted["calibrate"] and isinstance(asking, Choosing),
        examples=examples,
        similar_shown=shown if wanted.get("selection") == "similar" else None,
        system=materials.plan.system,
        answer=asking.answer if isinstance(asking, Written) else "label",
        labels=asking.labels if isinstance(asking, Choosing) else (),
        max_length=materials.plan.max_length,
        answer_tokens=asking.answer_tokens if isinstance(asking, Written) else 0,
    )


def make_answerer(materials: Materials, prompt: Prompt, precision: str, device: torch.device) -> Answerer:
    """The model that a prompt is for, loaded once a process for each method."""
    key = (prompt.method, precision)
    if key not in materials.asked:
        model, tokenizer = load_asked(materials.base.folder, prompt.method)
        compute_in(model, precision, device)
        move(model, device)
        materials.asked[key] = (model, tokenizer)
    model, tokenizer = materials.asked[key]
    return Answerer(
        model=model,
        tokenizer=tokenizer,
        prompt=prompt,
        folder=materials.base.folder,
        field_tokens=prompt.max_length,
        most_tokens=most_tokens_of(model),
    )


def _notes(spec: TrialSpec, prompt: Prompt) -> tuple[str, ...]:
    return (f"{spec.recipe.adaptation} asks by {prompt.method}, style {prompt.style}, where the plan says auto.",)


def _write(
    materials: Materials, spec: TrialSpec, record: CheckpointRecord, prompt: Prompt, model: PreTrainedModel
) -> Path:
    directory = Path(spec.directory)
    temporary = checkpoint_layout.temporary_folder(directory, STEP, spec.attempt)
    with checkpoint_layout.discarded_on_failure(temporary):
        checkpoint_layout.begin(directory, STEP, spec.attempt, with_resume=False)
        model.config.save_pretrained(temporary)
        if materials.task.is_generated:
            (temporary / GENERATION).write_text(model.generation_config.to_json_string(), encoding="utf-8")
        for name, content in materials.tokenizer_files.items():
            (temporary / name).write_bytes(content)
        prompt.write(temporary)
        record.write(temporary)
        return checkpoint_layout.complete(temporary, STEP, spec.attempt).path


def _record(
    materials: Materials,
    training: TrainingPlan,
    yardstick: Yardstick,
    spec: TrialSpec,
    evaluation: Evaluation,
    total: int,
    precision: str,
) -> CheckpointRecord:
    return CheckpointRecord(
        base=materials.base_reference,
        kind=materials.task.kind,
        facts=materials.facts.model_dump(mode="json"),
        trial=spec.number,
        attempt=spec.attempt,
        seed=spec.seed,
        recipe=spec.recipe,
        metric=yardstick.metric,
        goal=yardstick.goal,
        history=(evaluation,),
        trained=(),
        trainable_parameters=0,
        total_parameters=total,
        zero_stage=0,
        workers=training.workers_per_trial,
        precision=precision,
        versions=library_versions(),
    )


def answer_again(
    folder: Path, record: CheckpointRecord, materials: Materials, split: str, processes: Processes
) -> Scored:
    """Ask what a checkpoint holds about a split; the folder and its base model have been verified."""
    _, scored = ask(materials, read_prompt(folder), record.precision, split, processes)
    return scored
