"""Code for the model card of an export whose class transformers has: how to load the model and ask it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

AUTO_CLASSES = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
}
_LOAD = """{torch}from transformers import {auto}, AutoTokenizer

folder = "."
tokenizer = AutoTokenizer.from_pretrained(folder)
model = {auto}.from_pretrained(folder).eval()
"""
_LOAD_ADAPTER = """{torch}from peft import PeftModel
from transformers import AutoConfig, {auto}, AutoTokenizer{quantized}

folder = "."
tokenizer = AutoTokenizer.from_pretrained(folder)
base = {auto}.from_pretrained({home}, config=AutoConfig.from_pretrained(folder){bits})
model = PeftModel.from_pretrained(base, folder).eval()
"""
# Layers outside of the blocks, which were not quantized.
_SKIPPED = 'llm_int8_skip_modules=["classifier", "pooler", "score", "lm_head", "qa_outputs"]'
_BITS = {
    "int8": f", quantization_config=BitsAndBytesConfig(load_in_8bit=True, {_SKIPPED})",
    "nf4": (
        ', quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", '
        f"bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16, {_SKIPPED})"
    ),
}
_CLASSIFY = """tokens = tokenizer({texts}, truncation=True, max_length={max_length}, return_tensors="pt")
with torch.no_grad():
    logits = model(**tokens).logits[0]
{answer}
"""
_ANSWERS = {
    "single_label_classification": "print(model.config.id2label[int(logits.argmax())], logits.softmax(-1))",
    "multi_label_classification": (
        "print([model.config.id2label[i] for i, p in enumerate(logits.sigmoid().tolist()) if p > 0.5])"
    ),
    "regression": "print(float(logits[0]))",
}
_TAG = """words = "Ada Lovelace was born in London .".split()
tokens = tokenizer(words, is_split_into_words=True, truncation=True, max_length={max_length}, return_tensors="pt")
with torch.no_grad():
    tags = model(**tokens).logits[0].argmax(-1).tolist()
first = {{}}
for place, word in enumerate(tokens.word_ids()):
    if word is not None:
        first.setdefault(word, place)
print([(word, model.config.id2label[tags[first[at]]]) for at, word in enumerate(words) if at in first])
"""
_FIND = """question, context = "Where was she born?", "She was born in London."
tokens = tokenizer(question, context, return_offsets_mapping=True, return_tensors="pt")
places = tokens.pop("offset_mapping")[0].tolist()
outside = torch.tensor([part != 1 for part in tokens.sequence_ids()])
with torch.no_grad():
    scores = model(**tokens)
starts = scores.start_logits[0].masked_fill(outside, -torch.inf).log_softmax(-1)
ends = scores.end_logits[0].masked_fill(outside, -torch.inf).log_softmax(-1)
spans = starts[:, None] + ends[None]
backwards = torch.ones_like(spans, dtype=torch.bool).tril(-1)
best = int(spans.masked_fill(backwards, -torch.inf).argmax())
start, end = divmod(best, len(places))
print(context[places[start][0] : places[end][1]])
"""
_WRITE = """{language}tokens = tokenizer({texts}, truncation=True, max_length={max_length}, return_tensors="pt")
with torch.no_grad():
    written = model.generate(**tokens)
print(tokenizer.decode(written[0]{after}, skip_special_tokens=True))
"""
_TALK = """turns = [{{"role": "user", "content": "Hello"}}]
text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
tokens = tokenizer(text, add_special_tokens={is_pair}, return_tensors="pt")
with torch.no_grad():
    written = model.generate(**tokens)
print(tokenizer.decode(written[0]{after}, skip_special_tokens=True))
"""


def usage_code(folder: Path, task: dict[str, Any], base_weights: str = "auto") -> str:
    """Python code that loads the export in a folder and answers one input.

    task: the ``task`` section of the resolved plan. base_weights: what an adapter was trained over.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind, is_pair = task["kind"], bool(config.get("is_encoder_decoder"))
    auto = AUTO_CLASSES.get(kind, "AutoModelForSeq2SeqLM" if is_pair else "AutoModelForCausalLM")
    adapter = folder / "adapter_config.json"
    if adapter.exists():
        home = json.dumps(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"])
        quantized, bits = (", BitsAndBytesConfig", _BITS[base_weights]) if base_weights in _BITS else ("", "")
        load = _LOAD_ADAPTER.format(auto=auto, home=home, torch="import torch\n", quantized=quantized, bits=bits)
    else:
        load = _LOAD.format(auto=auto, torch="import torch\n")
    fields = {"max_length": task["max_length"], "is_pair": is_pair}
    fields["after"] = "" if is_pair else '[tokens["input_ids"].shape[1] :]'
    if kind == "text-classification":
        fields["texts"] = '"A text.", "Its pair."' if "text_pair" in task["columns"] else '"A text."'
        fields["answer"] = _ANSWERS[config.get("problem_type") or "single_label_classification"]
        return load + _CLASSIFY.format(**fields)
    if kind == "token-classification":
        return load + _TAG.format(**fields)
    if kind == "question-answering":
        return load + _FIND
    if kind == "dialogue":
        return load + _TALK.format(**fields)
    text = f"{task.get('prefix') or ''}A text.{'' if is_pair else task.get('separator') or ''}"
    source_language = task.get("source_language")
    fields["language"] = f"tokenizer.src_lang = {source_language!r}\n" if source_language else ""
    fields["texts"] = json.dumps(text, ensure_ascii=False)
    return load + _WRITE.format(**fields)
