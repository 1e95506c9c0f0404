"""Models that are asked to write, without training: the very prompts, examples that fit, where an answer ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_generation_trials import plan_of, write_home

from finesearch.errors import ModelError, TrialError
from finesearch.plan import GenerationPlan, TrainingPlan
from finesearch.tasks.prompting import Question
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.prompting import generate_text
from finesearch.training.prompting.generate_text import make_generator
from finesearch.training.prompting.prompt import read_prompt
from finesearch.training.prompting.run_prompt_trial import make_prompt, prompt_task_of
from finesearch.training.prompting.scoring import prompted_generator
from finesearch.training.prompting.scoring.prompted_generator import PromptedGenerator
from finesearch.training.runtime.distributed import Processes
from finesearch.training.steps.evaluate import evaluate
from tiny_writers import word_pairs, write_writer_tokenizer
from training_cases import run, trial

ALONE = Processes(0, 1, torch.device("cpu"))
CHAT = "{% for m in messages %}<|turn|> {{ m.role }}: {{ m.content }} {% endfor %}<|turn|> assistant:"


def make_runner(home: Path, plan: Any = None) -> TrialRunner:
    plan = plan or plan_of()
    return TrialRunner(plan, TrainingPlan(precision="fp32"), str(home), str(home / "cache"), plan.metric, "max")


def asked(work: TrialRunner, folder: Path, adaptation: str = "few_shot", **parameters: Any) -> Any:
    return run(work, trial(folder, adaptation=adaptation, adaptation_parameters=parameters))[0]


def writer(work: TrialRunner, adaptation: str = "few_shot", **parameters: Any) -> PromptedGenerator:
    spec = trial(Path("nowhere"), adaptation=adaptation, adaptation_parameters=parameters)
    context = work._context
    asking: Any = prompt_task_of(context)
    return make_generator(context, asking, make_prompt(context, asking, spec), "fp32", ALONE.device)


@pytest.mark.parametrize("architecture", ["t5", "llama", "pair"])
def test_zero_shot_writes_what_the_untrained_model_writes_in_training(architecture: str, tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", architecture)
    work = make_runner(home, plan_of(prefix="it is {a}: "))
    result = asked(work, tmp_path / "t", "zero_shot")
    context = work._context
    model, _ = context.base.build(trial(tmp_path).recipe, seed=0)
    expected = evaluate(model, context.task, context.base, context.tokens.validation, ALONE)
    again = evaluate_checkpoint(result.checkpoint, "validation", work.task_plan, work.training, home, work.cache)
    assert result.best.metrics == expected.metrics == again.metrics
    assert again.predictions == expected.predictions
    assert (result.trainable_parameters, read_prompt(Path(result.checkpoint)).method) == (0, "generation")


@pytest.mark.parametrize("architecture", ["t5", "gpt2"])
def test_few_shot_puts_examples_of_train_before_the_question(architecture: str, tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", architecture)
    work = make_runner(home)
    result = asked(work, tmp_path / "t", examples=2)
    prompt = read_prompt(Path(result.checkpoint))
    known = dict(zip(*word_pairs(48, 0), strict=True))
    assert [known[each.fields["source"]] for each in prompt.examples] == [each.written for each in prompt.examples]
    source = word_pairs(20, 1)[0][0]
    shown = "".join(f"{each.fields['source']} => {each.written}\n\n" for each in prompt.examples)
    own = writer(work, examples=2)
    inputs = own.tokenizer(f"{shown}{source} =>", return_tensors="pt", return_token_type_ids=False)
    written = own.model.generate(**inputs)
    if architecture == "gpt2":
        written = written[:, inputs["input_ids"].shape[1] :]
    expected = own.tokenizer.decode(written[0], skip_special_tokens=True).strip()
    again = evaluate_checkpoint(result.checkpoint, "validation", work.task_plan, work.training, home, work.cache)
    assert again.predictions[0] == expected != ""
    assert again.metrics == result.best.metrics


def test_examples_that_leave_no_room_for_the_answer_are_left_out(tmp_path: Path) -> None:
    work = make_runner(write_home(tmp_path, "gpt2"))
    own = writer(work, examples=30, selection="similar")
    source = word_pairs(20, 1)[0][0]
    (ids,) = own.prompts([Question(fields={"source": source})])
    text = own.tokenizer.decode(ids)
    # 96 positions, 12 for the answer; an example takes about 13.
    assert 70 < len(ids) <= 96 - 12
    assert text.endswith(f"{source} =>")
    assert 4 <= text.count("[NEWLINE] [NEWLINE]") < 30
    # A source that is too long loses its end, and never the separator.
    (ids,) = own.prompts([Question(fields={"source": "very " * 60})])
    assert own.tokenizer.decode(ids).endswith(" [NEWLINE] [NEWLINE] " + "very " * 22 + "=>")


def test_examples_are_turns_where_the_model_has_a_chat_template(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", "llama")
    write_writer_tokenizer(home / "model", with_end=False, chat_template=CHAT)
    work = make_runner(home)
    own = writer(work, examples=1)
    (example,) = own.prompt.examples
    (ids,) = own.prompts([Question(fields={"source": "slow film"})])
    expected = (
        f"<|turn|> user: {example.fields['source']} => <|turn|> assistant: {example.written} "
        "<|turn|> user: slow film => <|turn|> assistant:"
    )
    assert ids == own.tokenizer(expected, add_special_tokens=False)["input_ids"]
    assert own.extract_answer("one\n\ntwo") == "one\n\ntwo"
    assert asked(work, tmp_path / "t", examples=1).notes[-1].startswith("few_shot asks by generation, style chat,")


def test_an_answer_ends_where_the_next_example_would_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = write_home(tmp_path / "home", "gpt2")
    work = make_runner(home)
    own = writer(work, examples=2, template="{source} => {target}")
    assert [own.extract_answer(text) for text in ("one\ntwo", "one \n\n two", "\n\none")] == ["one", "one", "one"]
    lines = writer(work, examples=2, template="{source}\n{target}")
    assert [lines.extract_answer(text) for text in ("one\ntwo", "one\ntwo\n\nthree")] == ["one\ntwo", "one\ntwo"]
    whole = asked(work, tmp_path / "a", "zero_shot")
    texts = evaluate_checkpoint(whole.checkpoint, "validation", work.task_plan, work.training, home, work.cache)
    end = next(text.split()[1] for text in texts.predictions if len(text.split()) > 2)
    monkeypatch.setattr(prompted_generator, "BETWEEN", f" {end}")
    cut = evaluate_checkpoint(whole.checkpoint, "validation", work.task_plan, work.training, home, work.cache)
    assert cut.predictions == [text.partition(f" {end}")[0] for text in texts.predictions] != texts.predictions
    # And nothing is written that would be cut off.
    own = writer(work, "zero_shot")
    (ids,) = own.prompts([Question(fields={"source": word_pairs(20, 1)[0][0]})])
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.int64)}
    on = own.model.generate(**inputs).shape[1]
    with generate_text.stopping_after_answer(own):
        assert own.model.generate(**inputs).shape[1] < on
    assert own.model.generate(**inputs).shape[1] == on


def test_other_generation_settings_write_otherwise_from_the_same_checkpoint(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", "gpt2")
    work = make_runner(home)
    result = asked(work, tmp_path / "t", "zero_shot")
    short = work.task_plan.model_copy(update={"generation": GenerationPlan(max_new_tokens=2, batch_size=8, beams=2)})
    one, other = (
        evaluate_checkpoint(result.checkpoint, "validation", plan, work.training, home, work.cache)
        for plan in (work.task_plan, short)
    )
    assert max(len(text.split()) for text in other.predictions) <= 2 < max(len(t.split()) for t in one.predictions)


def test_what_cannot_be_asked_to_write_is_refused(tmp_path: Path) -> None:
    work = make_runner(write_home(tmp_path / "home", "llama"))
    for method in ("likelihood", "cloze", "similarity"):
        with pytest.raises(ModelError, match=rf"method: {method} chooses among given answers.*Use generation, or auto"):
            asked(work, tmp_path / method, method=method)
    with pytest.raises(ModelError, match="style: chat cannot be had: the tokenizer has no chat template"):
        asked(work, tmp_path / "chat", style="chat")
    long = "very " * 30 + "{source} => {target}"
    with pytest.raises(TrialError, match=r"task.max_length: 24 tokens leave no room for a text: .* alone takes 32"):
        asked(work, tmp_path / "long", "zero_shot", template=long)
    object.__setattr__(work._context.base, "fresh", frozenset({"lm_head.weight"}))
    with pytest.raises(TrialError, match=r"have no lm_head.weight, which an untrained model cannot write without"):
        asked(work, tmp_path / "fresh", "zero_shot")
