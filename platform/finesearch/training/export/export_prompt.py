"""A checkpoint that asks as a folder that answers with plain transformers: the model, the prompt and a script."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.plan.prompt_templates import placeholders
from finesearch.training.checkpoints.checkpoint_record import CheckpointRecord
from finesearch.training.export import exported_prompt_script, exported_qa_script
from finesearch.training.prompting.methods import load_prompt_model, max_input_tokens
from finesearch.training.prompting.prompt import FILE, PromptSpec, read_prompt
from finesearch.training.prompting.similarity import pools_first_token

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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

from transformers import AutoTokenizer, {model_class}

tokenizer, model = AutoTokenizer.from_pretrained("."), {model_class}.from_pretrained(".").eval()
prompt = json.load(open("prompt.json"))


def shown(messages):
    examples, number = prompt["examples"], prompt["similar_shown"]
    if number is not None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(token_pattern=r"(?u)\\w+|[^\\w\\s]", sublinear_tf=True)
        known = vectorizer.fit_transform([each["fields"]["user"] for each in examples])
        said = " ".join(turn["content"] for turn in messages if turn["role"] == "user")
        alike = (vectorizer.transform([said]) @ known.T).toarray()[0]
        examples = [examples[place] for place in (-alike).argsort(kind="stable")[:number][::-1]]
    turns = [turn for each in examples for turn in json.loads(each["written"])]
    return [turn for turn in turns if turn["role"] != "system"]


def reply(messages):
    system = [turn for turn in messages if turn["role"] == "system"]
    if not system and prompt["system"]:
        system = [{{"role": "system", "content": prompt["system"]}}]
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
    """The model that a checkpoint asks, and its tokenizer; the folder has been verified. base: its folder, if moved.

    Raises:
        CheckpointError, ModelError: see ``load_checkpoint_model``.
    """
    from finesearch.training.checkpoints.load_checkpoint import base_folder, load_base
    from finesearch.training.model.model_files import load_tokenizer

    method = read_prompt(folder).method
    if method == "generation":
        return load_base(folder, record, base), load_tokenizer(folder)
    return load_prompt_model(base_folder(record, base, folder), method)


def save_prompt_checkpoint(
    model: PreTrainedModel, folder: Path, record: CheckpointRecord, base: str | Path | None, destination: Path
) -> None:
    """Write the model, ``prompt.json``, ``ask.py`` and a README.md; the tokenizer is yet to be added."""
    from finesearch.training.checkpoints.load_checkpoint import base_folder

    prompt = read_prompt(folder)
    model.save_pretrained(destination)
    complete = {
        **prompt.model_dump(mode="json"),
        "model_class": _auto_class(model, prompt),
        "most_tokens": max_input_tokens(model),
        "first_token": pools_first_token(base_folder(record, base, folder)),
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
    """What README.md shows; the script that it needs, if any, is put beside it."""
    if kind == "dialogue":
        is_pair = bool(model.config.is_encoder_decoder)
        start = "" if is_pair else 'inputs["input_ids"].shape[1] '
        return TALKING.format(model_class=_auto_class(model, prompt), is_pair=is_pair, start=start)
    finds = kind == "question-answering"
    script = Path(str((exported_qa_script if finds else exported_prompt_script).__file__))
    shutil.copyfile(script, destination / script.name)
    if finds:
        return FINDING
    return EACH_WORD if kind == "token-classification" else CODE.format(fields=fields)


def _auto_class(model: PreTrainedModel, prompt: PromptSpec) -> str:
    from finesearch.training.prompting.methods import auto_class_name

    method = "likelihood" if prompt.method == "generation" else prompt.method
    return auto_class_name(method, model.config)
