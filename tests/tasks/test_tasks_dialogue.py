"""Dialogue: what the assistant says is what is learned, by the model's own chat template, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finesearch.errors import DataError, ModelError
from finesearch.plan import GenerationPlan, TaskPlan
from finesearch.tasks import TaskFacts, make_task
from finesearch.tasks.generation.chat_template import (
    PLAIN_TEMPLATE,
    UnsupportedChatTemplate,
    apply_chat_template,
    render_conversation,
)
from finesearch.tasks.generation.generation_task import IGNORED
from finesearch.tasks.task import UnencodableRow
from finesearch.training.model.model_config import read_config
from finesearch.training.model.model_files import load_tokenizer
from tiny_writers import ENCODER_DECODERS, write_tiny_writer, write_writer_tokenizer

TURNS = (
    "{% for m in messages %}<|turn|>{{ m['role'] }} {{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant {% endif %}"
)
# Writes nothing of what was thought in earlier turns, as templates of reasoning models do.
FORGETFUL = (
    "{% for m in messages %}{% if loop.last or m['role'] != 'assistant' %}{{ m['role'] }} {{ m['content'] }}"
    "{% else %}assistant said something{% endif %}\n{% endfor %}{% if add_generation_prompt %}assistant {% endif %}"
)
STRICT = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m['role'] }} {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


def turns(*contents: str, first: str = "user") -> list[dict[str, str]]:
    roles = ["user", "assistant"] if first == "user" else ["assistant", "user"]
    return [{"role": roles[n % 2], "content": content} for n, content in enumerate(contents)]


TALK = turns("good film", "very good", "the music", "it is lovely")


@pytest.fixture
def plan(make_plan: Callable[..., TaskPlan]) -> Callable[..., TaskPlan]:
    def make(**fields: Any) -> TaskPlan:
        generation = GenerationPlan(max_new_tokens=8)
        defaults = {"kind": "dialogue", "columns": {"messages": "messages"}, "generation": generation}
        return make_plan(**{**defaults, "max_length": 64, **fields})

    return make


def model(folder: Path, template: str | None = TURNS, architecture: str = "llama") -> tuple[Any, Any]:
    write_tiny_writer(folder, architecture)
    write_writer_tokenizer(folder, with_end=architecture in ENCODER_DECODERS, chat_template=template)
    return read_config(folder), load_tokenizer(folder)


def encoded(plan: TaskPlan, config: Any, tokenizer: Any, *talks: Any) -> list[dict[str, Any]]:
    task = make_task(plan)
    facts = task.add_model_shape(TaskFacts(kind="dialogue"), config, tokenizer)
    made = task.encode({"messages": list(talks)}, tokenizer, facts)
    return [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]


def said(row: dict[str, Any], tokenizer: Any) -> str:
    """The learned tokens, with a bar where something that is not learned stands between them."""
    parts, last = [], None
    for place, label in enumerate(row["labels"]):
        if label != IGNORED:
            assert label == row["input_ids"][place]
            parts.append(("" if last in (None, place - 1) else "| ") + tokenizer.decode([label]))
            last = place
    return " ".join(parts)


@pytest.mark.parametrize("template", [TURNS, PLAIN_TEMPLATE])
def test_every_turn_of_the_assistant_is_learned_and_nothing_else(template: str, plan: Any, tmp_path: Path) -> None:
    config, tokenizer = model(tmp_path, template)
    (row,) = encoded(plan(), config, tokenizer, TALK)
    assert said(row, tokenizer) == "very good </s> | it is lovely </s>"
    assert row["reference"] == "it is lovely"
    prompt = tokenizer.decode(row["input_ids"][: row["prompt"]])
    assert prompt.split()[-1].rstrip(":").lower() == "assistant" or prompt.endswith(":")
    assert tokenizer.decode(row["input_ids"][row["prompt"] :]).split() == ["it", "is", "lovely", "</s>"]


def test_the_labels_are_those_that_the_model_would_see_token_by_token(plan: Any, tmp_path: Path) -> None:
    config, tokenizer = model(tmp_path)
    (row,) = encoded(plan(), config, tokenizer, TALK)
    text = render_conversation(TALK, tokenizer, None).text
    assert row["input_ids"] == tokenizer(text.rstrip(), add_special_tokens=False)["input_ids"]


def test_the_loss_is_the_mean_over_the_assistants_tokens(plan: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    config, tokenizer = model(tmp_path)
    made = plan()
    task, network = make_task(made), AutoModelForCausalLM.from_pretrained(tmp_path)
    rows = encoded(made, config, tokenizer, TALK, turns("the plot", "bad"))
    batch = task.collate(rows, tokenizer)
    with torch.no_grad():
        outputs = network(**task.model_inputs(batch))
        read = task.predict(outputs, batch)
        sums, counts = 0.0, 0
        for row, (nll, tokens) in zip(rows, read, strict=True):
            ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
            mean = float(network(input_ids=ids, labels=labels).loss)
            assert tokens == sum(label != IGNORED for label in row["labels"])
            assert nll == pytest.approx(mean * tokens, abs=1e-4)
            sums, counts = sums + nll, counts + tokens
        assert float(task.loss(outputs, batch)) == pytest.approx(sums / counts, abs=1e-5)
    predictions = task.join(None, read)
    assert task.score(predictions, ["a", "b"]) == {"perplexity": pytest.approx(math.exp(sums / counts))}
    assert set(task.score(task.join(["a", "b"], read), ["a", "b"])) == {"perplexity", "rougeL", "bleu"}
    statistics = task.statistics("perplexity", predictions, ["a", "b"])
    assert statistics is not None
    whole = statistics.counts.sum(0, keepdims=True)
    assert statistics.score(whole)[0] == pytest.approx(math.exp(sums / counts))


def test_an_encoder_decoder_reads_all_before_the_last_reply(plan: Any, tmp_path: Path) -> None:
    config, tokenizer = model(tmp_path, architecture="t5")
    (row,) = encoded(plan(), config, tokenizer, TALK)
    assert "very good" in tokenizer.decode(row["input_ids"])
    assert "lovely" not in tokenizer.decode(row["input_ids"])
    assert tokenizer.decode(row["labels"]) == "it is lovely</s>" or tokenizer.decode(row["labels"]).split() == [
        "it",
        "is",
        "lovely",
        "</s>",
    ]
    assert row["decoder_input_ids"][1:] == row["labels"][:-1]


def test_a_long_conversation_loses_its_oldest_turns_and_keeps_the_system_prompt(plan: Any, tmp_path: Path) -> None:
    config, tokenizer = model(tmp_path)
    talk = [{"role": "system", "content": "be quick"}, *turns("film " * 12, "bad", "the music", "it is lovely")]
    made = plan(max_length=40)
    (row,) = encoded(made, config, tokenizer, talk)
    text = tokenizer.decode(row["input_ids"])
    assert len(row["input_ids"]) <= 40
    assert "quick" in text
    assert "film" not in text
    assert said(row, tokenizer).endswith("it is lovely </s>")
    for reply in ("good " * 40, "good"):
        (row,) = encoded(plan(max_length=16), config, tokenizer, turns("film " * 40, reply))
        assert len(row["input_ids"]) == 16
        assert row["labels"][row["prompt"]] != IGNORED
        # What is generated from hangs on what was asked alone, and holds nothing of the reply.
        asked = tokenizer.decode(row["prompt_ids"])
        assert (len(row["prompt_ids"]), "good" in asked, "film" in asked) == (16, False, True)


def test_the_plans_system_prompt_stands_where_there_is_none(plan: Any, tmp_path: Path) -> None:
    config, tokenizer = model(tmp_path)
    own = [{"role": "system", "content": "be slow"}, *TALK]
    with_plans, with_own = encoded(plan(system="be quick"), config, tokenizer, TALK, own)
    assert "quick" in tokenizer.decode(with_plans["input_ids"])
    assert "quick" not in tokenizer.decode(with_own["input_ids"])


def test_what_comes_after_the_last_reply_is_left_out_and_counted(plan: Any, make_splits: Any) -> None:
    made = plan()
    rows = {"messages": [[*TALK, {"role": "user", "content": "and now"}], turns("the plot", "bad")]}
    other = {"messages": [turns("the scene", "good")]}
    splits = make_splits(rows, other, {"messages": [turns("the actor", "weak")]}, plan=made)
    facts = make_task(made).read(splits)
    assert facts.notes == (
        "1 of the 2 train conversations go on after the assistant's last turn: what follows it is left out.",
    )


TOOLS = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }}{% for c in m['tool_calls'] or [] %}"
    "{{ c['function']['name'] }} {{ c['function']['arguments'] | tojson }}{% endfor %}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)
CALL = {"function": {"name": "plot", "arguments": '{"scene": "bad"}'}}
CALLING = [
    {"role": "user", "content": "good film"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "name": "plot", "content": "the actor"},
    {"role": "assistant", "content": "weak"},
]


def test_tool_calls_are_learned_where_the_template_writes_them_and_refused_elsewhere(plan: Any, tmp_path: Path) -> None:
    config, tokenizer = model(tmp_path, TOOLS)
    (row,) = encoded(plan(), config, tokenizer, CALLING)
    learned = said(row, tokenizer)
    assert learned == "plot <unk> <unk> </s> | weak </s>"
    with pytest.raises(UnencodableRow) as caught:
        encoded(plan(chat_template="plain"), config, tokenizer, CALLING)
    assert caught.value.what == "the chat template leaves out the call of the tool 'plot'"


WRONG = [
    ([], "holds no turn"),
    ([{"role": "user", "content": "a"}], "holds no turn of the assistant"),
    (turns("a", " "), "holds an empty turn: number 2, of the assistant"),
    ([{"role": "bot", "content": "a"}, *turns("a", "b")], "holds the role 'bot' in turn 1.*\n.*Expected system, user"),
    ([*turns("a", "b"), {"role": "system", "content": "c"}], "holds a system turn as number 3"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_a_wrong_row_is_named(wrong: Any, message: str, plan: Any, make_splits: Any) -> None:
    made = plan()
    good = {"messages": [TALK]}
    splits = make_splits({"messages": [turns("x", "y"), wrong]}, good, good, plan=made)
    with pytest.raises(DataError, match=f"(?s)row 2: the column 'messages' {message}"):
        make_task(made).read(splits)


def test_a_model_without_a_chat_template_is_refused_with_what_would_work(plan: Any, tmp_path: Path) -> None:
    config, tokenizer = model(tmp_path, None)
    with pytest.raises(ModelError, match="no chat template. Choose a model that was made for chat, or set task.chat"):
        make_task(plan()).add_model_shape(TaskFacts(kind="dialogue"), config, tokenizer)
    (row,) = encoded(plan(chat_template="plain"), config, tokenizer, TALK)
    assert said(row, tokenizer) == "very good </s> | it is lovely </s>"


@pytest.mark.parametrize(
    "loop", ["{% for i in range(1000000000) %}{% endfor %}", "{{ 1 // 0 }}", "{{ messages[99].x }}"]
)
def test_a_template_that_cannot_be_rendered_is_refused(loop: str, plan: Any, tmp_path: Path) -> None:
    config, tokenizer = model(tmp_path, FORGETFUL)
    with pytest.raises(ModelError, match="task.chat_template: the chat template refuses these turns"):
        make_task(plan(chat_template=loop)).add_model_shape(TaskFacts(kind="dialogue"), config, tokenizer)


def test_a_template_without_an_end_is_refused(plan: Any, tmp_path: Path) -> None:
    config, tokenizer = model(tmp_path, "{{ 'x' * 4000000000 }}")
    with pytest.raises(ModelError, match="rendering 4 short turns takes more than 1 GiB of memory: the template loops"):
        make_task(plan()).add_model_shape(TaskFacts(kind="dialogue"), config, tokenizer)


def test_a_conversation_that_the_template_refuses_is_named(plan: Any, tmp_path: Path) -> None:
    config, tokenizer = model(tmp_path, STRICT)
    twice = [{"role": "user", "content": "a"}, *turns("b", "c")]
    with pytest.raises(UnencodableRow) as caught:
        encoded(plan(), config, tokenizer, TALK, twice)
    assert caught.value.row == 1
    assert "the chat template refuses these turns: roles must alternate" in caught.value.what
    with pytest.raises(UnsupportedChatTemplate):
        render_conversation(twice, tokenizer, None)


def test_the_commonest_reply_has_no_perplexity(plan: Any) -> None:
    task = make_task(plan())
    metrics = task.score(task.majority(["yes", "no", "yes"], 2), ["yes", "no"])
    assert math.isnan(metrics["perplexity"])
    assert metrics["rougeL"] == 0.5
    best = task.score(task.perfect_predictions(["yes", "no"]), ["yes", "no"])
    assert (best["perplexity"], best["rougeL"]) == (1.0, 1.0)


def weighed(*weights: Any) -> list[dict[str, Any]]:
    """A conversation whose replies have these weights; None: no key."""
    said = [f"{side} {n}" for n in range(len(weights)) for side in ("good film", "bad plot")]
    talk: list[dict[str, Any]] = [*turns(*said)]
    for turn, weight in zip(talk[1::2], weights, strict=True):
        turn |= {} if weight is None else {"weight": weight}
    return talk


@pytest.mark.parametrize("template", [TURNS, PLAIN_TEMPLATE])
def test_a_turn_of_weight_0_is_read_and_not_learned(template: str, plan: Any, tmp_path: Path) -> None:
    config, tokenizer = model(tmp_path, template)
    plain, zero, last, trailing = encoded(
        plan(), config, tokenizer, weighed(None, None), weighed(0, 1), weighed(1, 0.0), weighed(0, None)
    )
    replies = said(plain, tokenizer).split(" | ")
    assert len(replies) == 2
    assert said(zero, tokenizer) == replies[1]
    assert zero["input_ids"] == plain["input_ids"], "what is not learned is still read"
    assert trailing == zero
    # The last reply that is learned is the one that is generated and compared.
    assert said(last, tokenizer) == replies[0]
    assert last["reference"] == "bad plot 0"
    assert len(last["input_ids"]) < len(plain["input_ids"])


def test_an_encoder_decoder_learns_the_last_reply_whose_weight_is_not_0(plan: Any, tmp_path: Path) -> None:
    config, tokenizer = model(tmp_path, PLAIN_TEMPLATE, ENCODER_DECODERS[0])
    (row,) = encoded(plan(), config, tokenizer, weighed(1, 0))
    (whole,) = encoded(plan(), config, tokenizer, weighed(1))
    assert row == whole


def test_weights_are_counted_and_others_than_0_and_1_are_refused(plan: Any, make_splits: Any) -> None:
    good = {"messages": [weighed(0, 1), weighed(1, 0), weighed(None, 1)]}
    made = plan()
    notes = make_task(made).read(make_splits(good, good, good, plan=made)).notes
    assert notes[0] == "2 turns of the assistant in train have weight 0: they are not learned."
    assert notes[1].startswith("1 of the 3 train conversations go on after the assistant's last turn that is learned")
    for talk, message in (
        (weighed(1, 0.5), r"row 2: the column 'messages' holds the weight 0\.5 in turn 4, of the assistant\.\n  Expec"),
        (weighed(0, 0), r"row 2: the column 'messages' holds no turn of the assistant whose weight is not 0"),
    ):
        bad = {"messages": [weighed(1, 1), talk]}
        with pytest.raises(DataError, match=message):
            make_task(made).read(make_splits(bad, bad, bad, plan=made))


def test_each_reply_is_learned_behind_the_history_that_it_has_when_it_is_generated(plan: Any, tmp_path: Path) -> None:
    config, tokenizer = model(tmp_path, FORGETFUL)
    talk = [*turns("good film", "bad plot"), *turns("good plot", "bad film"), *turns("plot", "good bad plot")]
    talk[3] |= {"weight": 0}
    made = make_task(plan(max_length=400))
    facts = made.add_model_shape(TaskFacts(kind="dialogue"), config, tokenizer)
    assert any("each reply of a conversation is learned in a row of its own" in note for note in facts.notes)
    rows = encoded(plan(max_length=400), config, tokenizer, talk, turns("good", "bad film"))
    assert [row["window"] for row in rows] == [0, 1, 0], "two replies are learned, then one"
    for row, end in zip(rows, (2, 6, 2), strict=True):
        whole = talk[:end] if row is not rows[2] else turns("good", "bad film")
        prompt = apply_chat_template(whole[:-1], tokenizer, None, prompt=True)
        assert list(row["input_ids"][: row["prompt"]]) == tokenizer(prompt, add_special_tokens=False)["input_ids"]
        assert list(row["prompt_ids"]) == list(row["input_ids"][: row["prompt"]])
        learned = [token for token in row["labels"] if token != -100]
        said = tokenizer(whole[-1]["content"], add_special_tokens=False)["input_ids"]
        assert learned == said
    told = [{"text": text, "nll": 1.0, "tokens": 2} for text in "abc"]
    assert made.combine(told, rows, facts) == [
        {"text": "b", "nll": 2.0, "tokens": 4}, {"text": "c", "nll": 1.0, "tokens": 2},
    ]  # fmt: skip
    assert made.references(rows) == ["good bad plot", "bad film"]
