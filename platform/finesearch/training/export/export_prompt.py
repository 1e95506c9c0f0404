"""Exports a prompting trial's checkpoint: model, prompt, and a script that needs only torch and transformers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch import errors
from finesearch.plan import prompt_templates
from finesearch.plan.prompt_templates import placeholders
from finesearch.tasks.encoding import bio_tags, sliding_windows
from finesearch.tasks.generation import decoder_start
from finesearch.tasks.prompting import candidate_spans, question
from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord
from finesearch.training.export import exported_prompt_script, exported_qa_script
from finesearch.training.prompting import scoring
from finesearch.training.prompting.methods import load_prompt_model, max_input_tokens, uses_cls_pooling
from finesearch.training.prompting.prompt import FILE, prompt_settings, read_prompt
from finesearch.training.prompting.scoring.prompt_spec import PromptSpec

if TYPE_CHECKING:
    from types import ModuleType

    from transformers import PreTrainedModel

NEEDED_BY_SCORING = (errors, prompt_templates, bio_tags, sliding_windows, decoder_start, candidate_spans, question)
"""Modules that the files of ``scoring`` import besides one another; an export includes copies of them."""
README = """# A model and what it is asked

Written by finesearch ({adaptation}, by {method}). Nothing was trained: the weights are those of {model}.
`prompt.json` is what the model is asked. With torch and transformers{more} alone:

```python
{code}```
"""
CODE = """from ask import Asker

asker = Asker(".")
print(asker.answer({fields}))
"""
FINDING = """from find import Finder

finder = Finder(".")
print(finder.answer(question="a question", context="A context. It is short."))
"""
TALKING = """import json

from scoring.nearest_examples import examples_for
from scoring.question import Question
from scoring.read_export import read_export

prompted = read_export(".")
model, tokenizer, prompt = prompted.model, prompted.tokenizer, prompted.prompt


def shown(messages):
    said = " ".join(turn["content"] for turn in messages if turn["role"] == "user")
    (examples,) = examples_for(prompt, [Question(fields={{"user": said}})])
    turns = [turn for each in examples for turn in json.loads(each.written)]
    return [turn for turn in turns if turn["role"] != "system"]


def reply(messages):
    system = [turn for turn in messages if turn["role"] == "system"]
    if not system and prompt.system:
        system = [{{"role": "system", "content": prompt.system}}]
    own = [turn for turn in messages if turn["role"] != "system"]
    turns = [*system, *shown(own), *own]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    inputs = tokenizer(text, add_special_tokens={is_pair}, return_tensors="pt")
    written = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])[0]
    return tokenizer.decode(written[{start}:], skip_special_tokens=True).strip()


print(reply([{{"role": "user", "content": "Hello"}}]))
"""
EACH_WORD = """import re

from ask import Asker

asker, text = Asker("."), "a text"
for word in re.finditer(r"\\S+", text):
    print(word.group(), asker.answer(word.span(), text=text, word=word.group()))
"""


def load_prompt_checkpoint(
    folder: Path, record: CheckpointRecord, base: str | Path | None
) -> tuple[PreTrainedModel, Any]:
    """The model that a checkpoint prompts, and its tokenizer; the checkpoint has been verified.

    base: the base model's folder, if it was moved.

    Raises:
        CheckpointError, ModelError: see ``load_checkpoint_model``.
    """
    from finesearch.training.checkpointing.load_checkpoint import base_folder, load_base
    from finesearch.training.model.model_files import load_tokenizer

    method = read_prompt(folder).method
    if method == "generation":
        return load_base(folder, record, base), load_tokenizer(folder)
    return load_prompt_model(base_folder(record, base, folder), method)


def save_prompt_checkpoint(
    model: PreTrainedModel, folder: Path, record: CheckpointRecord, base: str | Path | None, destination: Path
) -> None:
    """Write the model, ``prompt.json``, a script with what it needs and a README.md; the tokenizer comes after."""
    from finesearch.training.checkpointing.load_checkpoint import base_folder

    prompt = read_prompt(folder)
    model.save_pretrained(destination)
    complete = {
        **prompt_settings(prompt),
        "model_class": _auto_class(model, prompt),
        "most_tokens": max_input_tokens(model),
        "first_token": uses_cls_pooling(base_folder(record, base, folder)),
    }
    (destination / FILE).write_text(json.dumps(complete, indent=1) + "\n", encoding="utf-8")
    names = [name for name in dict.fromkeys(placeholders(prompt.template)) if name not in (prompt.answer, "labels")]
    fields = ", ".join(f'{name}="a {name.replace("_", " ")}"' for name in names)
    uses_words = prompt.similar_shown is not None and prompt.method != "similarity"
    text = README.format(
        adaptation=record.recipe.adaptation,
        method=prompt.method,
        model=record.base.model,
        more=" and scikit-learn" if uses_words else "",
        code=_code(model, prompt, record.kind, fields, destination),
    )
    (destination / "README.md").write_text(text, encoding="utf-8")


def _code(model: PreTrainedModel, prompt: PromptSpec, kind: str, fields: str, destination: Path) -> str:
    """The code shown in README.md; the script that it needs, if any, is written beside it."""
    _write_scoring(destination / "scoring")
    if kind == "dialogue":
        is_pair = bool(model.config.is_encoder_decoder)
        start = "" if is_pair else 'inputs["input_ids"].shape[1] '
        return TALKING.format(is_pair=is_pair, start=start)
    finds = kind == "question-answering"
    if finds:
        _write_without_us(exported_qa_script, destination / "find.py")
        return FINDING
    _write_without_us(exported_prompt_script, destination / "ask.py")
    return EACH_WORD if kind == "token-classification" else CODE.format(fields=fields)


def _write_scoring(folder: Path) -> None:
    folder.mkdir()
    for module in NEEDED_BY_SCORING:
        _write_without_us(module, folder / _file(module).name)
    for path in _file(scoring).parent.glob("*.py"):
        _write_without_us(path, folder / path.name)


def _write_without_us(source: ModuleType | Path, destination: Path) -> None:
    """Copy one of our files, with its imports changed to the folder ``scoring``."""
    path = source if isinstance(source, Path) else _file(source)
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"from finesearch\.(?:\w+\.)*(\w+) import", r"from scoring.\1 import", text)
    destination.write_text(text, encoding="utf-8")


def _file(module: ModuleType) -> Path:
    return Path(str(module.__file__))


def _auto_class(model: PreTrainedModel, prompt: PromptSpec) -> str:
    from finesearch.training.prompting.methods import auto_class_name

    method = "likelihood" if prompt.method == "generation" else prompt.method
    return auto_class_name(method, model.config)
