"""Models that are asked and not trained: scores against plain computations, trials, reloading, two ranks."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finesearch.errors import CheckpointError, ModelError, TrialError
from finesearch.plan import TrainingPlan
from finesearch.tasks.prompting import Question
from finesearch.training.checkpointing.checkpoint_record import read_record
from finesearch.training.loop.score_checkpoint import evaluate_checkpoint
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.prompting.few_shot_examples import choose_examples
from finesearch.training.prompting.methods import load_prompt_model, possible_methods
from finesearch.training.prompting.prompt import read_prompt
from finesearch.training.prompting.scoring.nearest_examples import Nearest
from finesearch.training.prompting.scoring.prompt_spec import PromptSpec
from finesearch.training.prompting.scoring.prompted_model import PromptedModel
from paths import IMPORT_ROOTS
from tiny_models import write_tiny_model
from tiny_writers import write_tiny_writer
from training_cases import run, task_plan, trial, write_home

CANDIDATES = ("good", "very bad", "not good")
QUESTIONS = [Question(fields={"text": text}) for text in ("the film was dull", "a lovely story", "good")]
EXAMPLES = (
    Question(fields={"text": "a great film"}, answer=0),
    Question(fields={"text": "the plot was awful"}, answer=1),
)


def write_masked(folder: Path) -> Path:
    """A tiny BERT with the output layer that fills gaps."""
    from transformers import BertForMaskedLM

    from finesearch.training.model.model_files import quiet_transformers

    write_tiny_model(folder)
    with quiet_transformers():
        torch.manual_seed(0)
        BertForMaskedLM.from_pretrained(folder).save_pretrained(folder)
    return folder


def prompted(folder: Path, template: str, **settings: Any) -> PromptedModel:
    method = settings.pop("method")
    model, tokenizer = load_prompt_model(folder, method)
    prompt = PromptSpec(
        method=method, style="plain", template=template, candidates=CANDIDATES, calibrate=False, **settings
    )
    return PromptedModel(model, tokenizer, prompt, field_tokens=16, most_tokens=60)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("examples", [(), EXAMPLES])
def test_likelihoods_are_the_models_own_of_each_candidate(architecture: str, examples: Any, tmp_path: Path) -> None:
    write_tiny_writer(tmp_path, architecture)
    asked = prompted(tmp_path, "{text} => {label}", method="likelihood", examples=examples)
    scores = asked.scores(QUESTIONS)
    shown = "a great film => good\n\nthe plot was awful => very bad\n\n" if examples else ""
    for question, row in zip(QUESTIONS, scores, strict=True):
        prompt = f"{shown}{question.fields['text']} =>"
        for candidate, score in zip(CANDIDATES, row, strict=True):
            # The plain way: the loss of the candidate's tokens with the prompt before them.
            before = asked.tokenizer(prompt, add_special_tokens=False)["input_ids"]
            whole = asked.tokenizer(f"{prompt} {candidate}", add_special_tokens=False)["input_ids"]
            assert whole[: len(before)] == before
            first = asked.tokenizer("a")["input_ids"][:-1]
            first = first[: len(first) - len(asked.tokenizer("a", add_special_tokens=False)["input_ids"]) + 1]
            ids = torch.tensor([[*first, *whole]])
            labels = ids.clone()
            labels[:, : len(first) + len(before)] = -100
            with torch.no_grad():
                loss = asked.model(input_ids=ids, labels=labels).loss
            assert score == pytest.approx(-float(loss) * (len(whole) - len(before)), abs=1e-4)


def test_an_encoder_decoder_reads_the_prompt_and_scores_what_it_would_write(tmp_path: Path) -> None:
    write_tiny_writer(tmp_path, "t5")
    asked = prompted(tmp_path, "{text} => {label}", method="likelihood")
    scores = asked.scores(QUESTIONS)
    for question, row in zip(QUESTIONS, scores, strict=True):
        source = asked.tokenizer(f"{question.fields['text']} =>", return_tensors="pt", return_token_type_ids=False)
        for candidate, score in zip(CANDIDATES, row, strict=True):
            labels = torch.tensor([asked.tokenizer(candidate, add_special_tokens=False)["input_ids"]])
            with torch.no_grad():
                loss = asked.model(**source, labels=labels).loss
            assert score == pytest.approx(-float(loss) * labels.shape[1], abs=1e-4)


def test_a_gap_is_as_long_as_the_candidate_that_fills_it(tmp_path: Path) -> None:
    write_masked(tmp_path)
    asked = prompted(tmp_path, "{text} was {label} to me", method="cloze")
    scores = asked.scores(QUESTIONS)
    for question, row in zip(QUESTIONS, scores, strict=True):
        for candidate, score in zip(CANDIDATES, row, strict=True):
            pieces = asked.tokenizer(candidate, add_special_tokens=False)["input_ids"]
            text = f"{question.fields['text']} was {' '.join(['[MASK]'] * len(pieces))} to me"
            inputs = asked.tokenizer(text, return_tensors="pt")
            places = (inputs["input_ids"][0] == asked.tokenizer.mask_token_id).nonzero().flatten()
            with torch.no_grad():
                known = asked.model(**inputs).logits[0].log_softmax(-1)
            wanted = [float(known[place, piece]) for place, piece in zip(places, pieces, strict=True)]
            assert score == pytest.approx(sum(wanted) / len(wanted), abs=1e-4)


def test_similarity_is_the_cosine_of_mean_states_and_prototypes(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    asked = prompted(tmp_path, "{text}\nit was {label}", method="similarity", examples=EXAMPLES)
    scores = asked.scores(QUESTIONS)

    def embedded(text: str) -> Any:
        with torch.no_grad():
            states = asked.model(**asked.tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        mean = states.mean(0).numpy()
        return mean / np.linalg.norm(mean)

    sums = [embedded(f"it was {candidate}") for candidate in CANDIDATES]
    sums[0] = sums[0] + embedded("a great film")
    sums[1] = sums[1] + embedded("the plot was awful")
    known = np.stack([each / np.linalg.norm(each) for each in sums])
    for question, row in zip(QUESTIONS, scores, strict=True):
        assert row == pytest.approx(known @ embedded(question.fields["text"]), abs=1e-5)


def test_a_span_is_compared_by_its_own_tokens(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    asked = prompted(tmp_path, "{text}\n{label}", method="similarity")
    text = "the dull film"
    word, other = (Question(fields={"text": text, "word": w}, span=s) for w, s in (("dull", (4, 8)), ("film", (9, 13))))
    first, second = asked.scores([word, other])
    assert not np.allclose(first, second)
    with torch.no_grad():
        states = asked.model(**asked.tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        label = asked.model(**asked.tokenizer("good", return_tensors="pt")).last_hidden_state[0].mean(0)
    assert first[0] == pytest.approx(float(torch.cosine_similarity(states[2], label, dim=0)), abs=1e-5)


def test_calibration_takes_off_what_an_answer_scores_without_content(tmp_path: Path) -> None:
    write_tiny_writer(tmp_path, "llama")
    plain = prompted(tmp_path, "{text} => {label}", method="likelihood")
    model, tokenizer = load_prompt_model(tmp_path, "likelihood")
    prompt = replace(plain.prompt, calibrate=True)
    calibrated = PromptedModel(model, tokenizer, prompt, 16, 60).scores(QUESTIONS)
    free = plain.scores([Question(fields={"text": "N/A"})])
    assert calibrated == pytest.approx(plain.scores(QUESTIONS) - free, abs=1e-5)


def test_examples_that_do_not_fit_are_left_out_the_first_ones_first(tmp_path: Path) -> None:
    from finesearch.training.prompting.scoring.render_prompt import PromptRenderer

    write_tiny_writer(tmp_path, "llama")
    asked = prompted(tmp_path, "{text} => {label}", method="likelihood", examples=EXAMPLES * 3)
    renderer = PromptRenderer(asked.prompt, asked.tokenizer, field_tokens=16, most_tokens=30)
    text = renderer.before(QUESTIONS[0], asked.prompt.examples, room=3)
    assert text.endswith("the film was dull => ")
    assert 1 <= text.count("=>") - 1 < 6
    assert len(asked.tokenizer(text)["input_ids"]) + 3 <= 30
    long = Question(fields={"text": "very " * 40})
    assert len(asked.tokenizer(renderer.before(long, (), 0), add_special_tokens=False)["input_ids"]) <= 19


@pytest.mark.parametrize("method", ["cloze", "likelihood"])
def test_long_texts_are_cut_so_that_template_and_answer_fit(method: str, tmp_path: Path) -> None:
    if method == "cloze":
        write_masked(tmp_path)
    else:
        write_tiny_writer(tmp_path, "gpt2")
    model, tokenizer = load_prompt_model(tmp_path, method)
    most = 64 if method == "cloze" else 96
    prompt = PromptSpec(
        method=method,
        style="plain",
        template="is it {labels}? {text} => {label}",
        candidates=CANDIDATES,
        calibrate=True,
        examples=EXAMPLES,
    )
    whole = PromptedModel(model, tokenizer, prompt, field_tokens=most, most_tokens=most)
    fits = whole.max_field_tokens()
    assert 8 < fits < most
    asked = PromptedModel(model, tokenizer, prompt, fits, most)
    # Words, and letters of which the vocabulary makes a token each.
    scores = asked.scores([Question(fields={"text": text}) for text in ("film " * 200, "qzj " * 200)])
    assert np.isfinite(scores).all()
    with pytest.raises(TrialError, match="takes .* tokens and an answer up to .* Shorten the template"):
        PromptedModel(model, tokenizer, prompt, most, 12).max_field_tokens()


def test_likelihoods_are_the_same_however_few_answers_are_scored_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finesearch.training.prompting.scoring import likelihood

    for architecture in ("llama", "t5"):
        write_tiny_writer(tmp_path / architecture, architecture)
        asked = prompted(tmp_path / architecture, "{text} => {label}", method="likelihood")
        whole = asked.scores(QUESTIONS)
        with monkeypatch.context() as patch:
            patch.setattr(likelihood, "LOGITS_AT_ONCE", 1)
            assert asked.scores(QUESTIONS) == pytest.approx(whole, abs=1e-5)


def test_an_output_layer_that_would_be_drawn_at_random_is_not_asked(tmp_path: Path) -> None:
    from transformers import BertConfig, ElectraConfig

    write_tiny_model(tmp_path)
    with pytest.raises(TrialError, match="have no .*cls.predictions.*without which a model cannot be asked by cloze"):
        load_prompt_model(tmp_path, "cloze")
    # ELECTRA's discriminator predicts no words, BERT's class for pretraining does.
    assert possible_methods(ElectraConfig(architectures=["ElectraForPreTraining"])) == ("similarity",)
    assert possible_methods(BertConfig(architectures=["BertForPreTraining"]))[0] == "cloze"


def test_scores_that_are_not_finite_are_no_answer(tmp_path: Path) -> None:
    write_tiny_writer(tmp_path, "llama")
    asked = prompted(tmp_path, "{text} => {label}", method="likelihood")
    with torch.no_grad():
        next(asked.model.parameters()).fill_(float("nan"))
    with pytest.raises(TrialError, match="scores of the answers are NaN or infinite"):
        asked.scores(QUESTIONS)


def test_examples_are_balanced_at_random_or_the_nearest() -> None:
    known = [
        Question(fields={"text": f"text {n} {'red' if n % 3 else 'blue'}"}, answer=int(n % 3 > 0)) for n in range(30)
    ]
    balanced = choose_examples(known, 6, "balanced", seed=1)
    assert sorted(each.answer or 0 for each in balanced) == [0, 0, 0, 1, 1, 1]
    assert choose_examples(known, 6, "balanced", seed=1) == balanced != choose_examples(known, 6, "balanced", seed=2)
    assert len({each.fields["text"] for each in choose_examples(known, 6, "random", seed=1)}) == 6
    pool = choose_examples(known, 2, "similar", seed=1)
    (shown,) = Nearest(pool, 2)([Question(fields={"text": "text 7 red"})])
    assert [each.answer for each in shown] == [1, 1]
    assert shown[-1].fields["text"] == "text 7 red"


def asking(home: Path, folder: Path, adaptation: str = "few_shot", model: str = "model", **parameters: Any) -> Any:
    plan = task_plan(model)
    work = TrialRunner(plan, TrainingPlan(precision="fp32"), str(home), str(home / "cache"), "accuracy", "max")
    result, diary = run(work, trial(folder, adaptation=adaptation, adaptation_parameters=parameters))
    return plan, work, result, diary


@pytest.mark.parametrize("selection", ["balanced", "random", "similar"])
def test_a_trial_asks_once_and_its_checkpoint_answers_the_same(selection: str, home: Path, tmp_path: Path) -> None:
    plan, work, result, diary = asking(home, tmp_path / "t", examples=12, selection=selection)
    assert [e.step for e in diary.evaluations] == [1]
    assert (result.trainable_parameters, result.history[0].train_loss, result.history[0].epoch) == (0, None, 0.0)
    folder = Path(str(result.checkpoint))
    assert not list(folder.glob("*.safetensors"))
    prompt = read_prompt(folder)
    assert (prompt.method, len(prompt.examples)) == ("similarity", 52 if selection == "similar" else 12)
    assert read_record(folder).trained == ()
    for split in ("validation", "test"):
        scored = evaluate_checkpoint(folder, split, plan, work.training, home, work.cache)
        assert len(scored.predictions) == {"validation": 37, "test": 30}[split]
        if split == "validation":
            assert scored.metrics == result.history[0].metrics
    # Again: what is there is told again, and nothing is asked.
    again, diary = run(
        work, trial(tmp_path / "t", adaptation="few_shot", adaptation_parameters=encode_prompt(selection))
    )
    assert again.model_dump(exclude={"warnings"}) == result.model_dump(exclude={"warnings"})
    assert [e.step for e in diary.evaluations] == [1]


def encode_prompt(selection: str) -> dict[str, Any]:
    return {"examples": 12, "selection": selection}


def test_a_damaged_prompt_is_found(home: Path, tmp_path: Path) -> None:
    plan, work, result, _ = asking(home, tmp_path / "t", "zero_shot")
    path = Path(str(result.checkpoint)) / "prompt.json"
    path.write_text(path.read_text().replace("good", "fine"))
    with pytest.raises(CheckpointError, match="does not match its manifest"):
        evaluate_checkpoint(path.parent, "validation", plan, work.training, home, work.cache)


def test_what_a_model_can_be_asked_hangs_on_its_weights(home: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig

    assert possible_methods(AutoConfig.from_pretrained(home / "model")) == ("similarity",)
    assert possible_methods(AutoConfig.from_pretrained(write_masked(tmp_path / "m"))) == ("cloze", "similarity")
    for name, methods in (("llama", ("likelihood", "similarity")), ("t5", ("likelihood",))):
        write_tiny_writer(tmp_path / name, name)
        assert possible_methods(AutoConfig.from_pretrained(tmp_path / name)) == methods
    with pytest.raises(ModelError, match="method: cloze does not suit BertConfig .BertModel.. Use similarity, or auto"):
        asking(home, tmp_path / "t", "zero_shot", method="cloze")
    with pytest.raises(ModelError, match="style: chat cannot be had: similarity has no turns. Use plain, or auto"):
        asking(home, tmp_path / "u", "zero_shot", style="chat")
    with pytest.raises(ModelError, match="the line with {label} describes a label and the other lines are the text"):
        asking(home, tmp_path / "v", "zero_shot", template="{text} is {label}")


def test_two_ranks_answer_what_one_answers(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home")
    _, _, alone, _ = asking(home, tmp_path / "alone", examples=12)
    script = tmp_path / "rank.py"
    script.write_text(
        "import sys, torch.distributed as dist\n"
        f"sys.path[:0] = {list(map(str, IMPORT_ROOTS))!r}\n"
        "from pathlib import Path\n"
        "from training_cases import run, task_plan, trial\n"
        "from finesearch.plan import TrainingPlan\n"
        "from finesearch.training.loop.trial_runner import TrialRunner\n"
        "dist.init_process_group('gloo')\n"
        f"home, folder = Path({str(home)!r}), Path({str(tmp_path / 'pair')!r})\n"
        "training = TrainingPlan(precision='fp32', workers_per_trial=2)\n"
        "work = TrialRunner(task_plan(), training, str(home), str(home / 'cache'), 'accuracy', 'max')\n"
        "spec = trial(folder, adaptation='few_shot', adaptation_parameters={'examples': 12})\n"
        "result, _ = run(work, spec)\n"
        f"Path({str(tmp_path)!r}, f'rank{{dist.get_rank()}}.json').write_text(result.model_dump_json())\n"
    )
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29631",
        "WORLD_SIZE": "2",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    started = [
        subprocess.Popen([sys.executable, str(script)], env={**environment, "RANK": str(rank), "LOCAL_RANK": "0"})
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    told = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert told[0]["best"]["metrics"] == told[1]["best"]["metrics"] == alone.history[0].metrics
    assert read_prompt(Path(told[0]["checkpoint"])) == read_prompt(Path(str(alone.checkpoint)))
    assert math.isfinite(told[0]["seconds"])
