"""The card of an export: metadata that the hub's library reads, scores, licence, and code that runs as it stands."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from finesearch.commands.export.model_card import EVALUATIONS, write_model_card
from finesearch.commands.export.usage_code import usage_code
from finesearch.plan import Recipe
from finesearch.run.ranked_json import RunReport
from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord
from finesearch.training.model.base_reference import BaseReference
from tiny_models import write_tiny_model
from tiny_writers import write_tiny_writer, write_writer_tokenizer

RUN_EACH = """
import json, os, sys
for folder, code in json.loads(sys.argv[1]).items():
    os.chdir(folder)
    exec(code, {})
print("finesearch" in sys.modules)
"""
CHAT = (
    "{% for message in messages %}{{ message['role'] }} {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


def encoder(folder: Path, name: str, **config: Any) -> Path:
    """A tiny encoder with the head of an Auto class, saved with its tokenizer."""
    import transformers

    base = write_tiny_model(folder / "base")
    model = getattr(transformers, name).from_pretrained(base, **config)
    model.save_pretrained(folder / name)
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(folder / name)
    return folder / name


def task(kind: str, **keys: Any) -> dict[str, Any]:
    return {"kind": kind, "max_length": 32, "columns": {"text": "text"}, **keys}


def test_the_code_of_every_kind_runs_without_us(tmp_path: Path) -> None:
    classes = "AutoModelForSequenceClassification"
    codes = {
        encoder(tmp_path / "one", classes): task("text-classification"),
        encoder(tmp_path / "many", classes, problem_type="multi_label_classification"): task("text-classification"),
        encoder(tmp_path / "number", classes, problem_type="regression", num_labels=1): task("text-classification"),
        encoder(tmp_path / "pair", classes): task("text-classification", columns={"text": "a", "text_pair": "b"}),
        encoder(tmp_path / "tags", "AutoModelForTokenClassification", num_labels=5): task("token-classification"),
        encoder(tmp_path / "spans", "AutoModelForQuestionAnswering"): task("question-answering"),
        write_tiny_writer(tmp_path / "t5", "t5"): task("translation", prefix="to German: ", separator=" ="),
        write_tiny_writer(tmp_path / "gpt2", "gpt2"): task("summarization", separator=" TL;DR"),
        write_tiny_writer(tmp_path / "llama", "llama"): task("dialogue"),
    }
    write_writer_tokenizer(tmp_path / "llama", with_end=False, chat_template=CHAT)
    written = {str(folder): usage_code(folder, keys) for folder, keys in codes.items()}
    assert 'tokenizer("to German: A text.",' in written[str(tmp_path / "t5")]
    assert 'tokenizer("A text. TL;DR",' in written[str(tmp_path / "gpt2")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN_EACH, json.dumps(written)],
        capture_output=True,
        text=True,
        timeout=300,
        env={"HF_HUB_OFFLINE": "1", "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    *said, knows_us = done.stdout.splitlines()
    assert knows_us == "False"
    one, many, number, pair, tags = said[:5]
    assert one.startswith("LABEL_")
    assert many.startswith("[")
    assert float(number) == pytest.approx(0.0, abs=5.0)
    assert pair.startswith("LABEL_")
    assert tags.startswith("[('Ada', 'LABEL_")


def a_report(**data: Any) -> RunReport:
    row = {
        "name": "trial 4", "trial": 4, "validation": 0.91, "test": 0.9, "test_interval": [0.87, 0.93], "error": None,
        "test_metrics": {"accuracy": 0.9, "macro_f1": 0.88}, "parameters": {"learning_rate": 1e-4}, "remarks": [],
    }  # fmt: skip
    second = {**row, "name": "trial 2", "trial": 2, "test": 0.8, "test_interval": None, "remarks": ["stopped at 3"]}
    floor = {**row, "name": "tfidf", "trial": None, "validation": 0.8, "test": 0.79}
    broken = {**floor, "name": "ordinary", "error": "out of memory"}
    return RunReport(
        name="reviews",
        metric="accuracy",
        goal="max",
        verdict={"sentence": "Trial 4 beats them."},
        baselines=[floor, broken],
        ranked=[row, second],
        cost={"trials": {"complete": 5, "failed": 0}},
        warnings=["Trial 4: it diverged once.", "Trial 2: other."],
        reproduction={"versions": {"torch": "2.13.0"}, "data_fingerprints": {"test": "ab12"}},
        plan=yaml.safe_dump({"space": {"learning_rate": 1}, "task": {**task("text-classification"), "data": data}}),
    )


def a_record(base: Path) -> CheckpointRecord:
    return CheckpointRecord(
        base=BaseReference(model=str(base), revision=None, folder=str(base), sha256="cd34"),
        kind="text-classification", facts={}, trial=4, attempt=1, seed=0, recipe=Recipe(), metric="accuracy",
        goal="max", history=(), trained=(), trainable_parameters=10, total_parameters=100, zero_stage=0, workers=1,
        precision="fp32", versions={},
    )  # fmt: skip


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return encoder(tmp_path / "made", "AutoModelForSequenceClassification")


def test_the_card_tells_scores_search_and_licence(export: Path, tmp_path: Path) -> None:
    base = tmp_path / "base-of-mine"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: cc-by-4.0\nlanguage: [en, de]\nunknown: 3\n---\n# Base\n")
    write_model_card(export, a_record(base), a_report(hub="stanfordnlp/sst2", revision="abc"), 1)
    card = ModelCard.load(export / "README.md")
    assert (card.data.license, card.data.language, card.data.library_name) == (
        "cc-by-4.0",
        ["en", "de"],
        "transformers",
    )
    assert card.data.base_model is None, "a folder of one's own has no id"
    assert {result.metric_type: result.metric_value for result in card.data.eval_results} == {
        "accuracy": 0.9,
        "macro_f1": 0.88,
    }
    assert "| this model | 0.9100 | 0.9000 | 0.8700 to 0.9300 |" in card.text
    assert "| tfidf | 0.8000 | 0.7900 |" in card.text
    assert "| ordinary |" not in card.text, "a baseline without a score"
    assert "made from `base-of-mine` by `full`" in card.text
    assert "the licence cc-by-4.0" in card.text
    assert "it diverged once" in card.text
    assert "Trial 2: other" not in card.text
    assert str(tmp_path) not in card.content
    (entry,) = parse_eval_result_entries(yaml.safe_load((export / EVALUATIONS).read_text()))
    assert (entry.dataset_id, entry.task_id, entry.value, entry.dataset_revision) == (
        "stanfordnlp/sst2",
        "default",
        0.9,
        "abc",
    )


def test_the_card_of_an_adapter_says_how_peft_loads_it(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base = encoder(tmp_path, "AutoModelForSequenceClassification")
    model = AutoModelForSequenceClassification.from_pretrained(base)
    folder = tmp_path / "adapter"
    get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=["query"])).save_pretrained(folder)
    model.config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    assert (folder / "README.md").exists(), "peft writes one, with nothing in it"
    write_model_card(folder, a_record(tmp_path / "base"), a_report(train="mine.csv"), 1)
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "peft"
    assert "More Information Needed" not in card.text
    code = card.text.split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN_EACH, json.dumps({str(folder): code})],
        capture_output=True,
        text=True,
        timeout=300,
        env={"HF_HUB_OFFLINE": "1", "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("LABEL_")


def test_a_card_of_a_second_rank_says_so_and_names_what_is_unknown(export: Path, tmp_path: Path) -> None:
    (export / "README.md").write_text("# Text classification\n\nWritten by finesearch. Load it so.\n")
    write_model_card(export, a_record(tmp_path / "gone"), a_report(train="mine.csv"), 2)
    card = ModelCard.load(export / "README.md")
    assert "It is trial 2, rank 2 of its search, which says: Trial 4 beats them." in card.text
    assert "## Use\n\nWritten by finesearch. Load it so.\n" in card.text
    assert "To be known: stopped at 3." in card.text
    assert "names no licence" in card.text
    assert not (export / EVALUATIONS).exists(), "the hub takes scores of its own data sets alone"
