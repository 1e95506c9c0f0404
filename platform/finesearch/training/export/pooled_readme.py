"""The README.md of an exported pooled classifier: how plain transformers and ten lines of Python use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finesearch.training.heads.pooled_head import pooled_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

README = '''# Text classification

Written by finesearch. `AutoModel` loads the backbone (and says that the head is not its own); the head stands in the
same file and reads {what}.

```python
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoTokenizer

folder = "."
config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
backbone = AutoModel.from_pretrained(folder).eval()
weights = load_file(f"{{folder}}/model.safetensors")


def logits(texts, pairs=None, max_length=None):
    """Logits (n, labels) of texts, or of pairs of texts; max_length: that of the plan, to cut them as in training."""
    tokens = tokenizer(texts, pairs, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
    mask = tokens["attention_mask"].bool()
    with torch.no_grad():
        states = backbone(**tokens).last_hidden_state
{pooling}{hidden}    return pooled @ weights["classifier.weight"].T + weights["classifier.bias"]


def {function}
```
'''

_POOLED = {
    "cls": ("the first token's state", "states[torch.arange(len(states)), mask.int().argmax(1)]"),
    "mean": (
        "the mean of the tokens' states",
        "states.masked_fill(~mask[..., None], 0.0).sum(1) / mask.sum(1, keepdim=True)",
    ),
    "max": ("the largest value of each feature", 'states.masked_fill(~mask[..., None], -float("inf")).amax(1)'),
    "last": (
        "the last token's state",
        "states[torch.arange(len(states)), (mask * torch.arange(mask.shape[1])).argmax(1)]",
    ),
    "attention": (
        "a weighted mean of the tokens' states",
        "(scores.softmax(1)[..., None] * states.masked_fill(~mask[..., None], 0.0)).sum(1)",
    ),
}
_SCORES = """    scores = (states @ weights["token_scores.weight"].T)[..., 0] + weights["token_scores.bias"]
    scores = scores.masked_fill(~mask, -float("inf"))
"""
_NORMALIZED = """    pooled = torch.nn.functional.normalize(pooled, dim=-1)
"""
_HIDDEN = """    pooled = torch.tanh(pooled @ weights["dense.weight"].T + weights["dense.bias"])
"""
_FUNCTIONS = {
    "single_label_classification": '''label(text, pair=None):
    """The most likely label."""
    return config.id2label[int(logits([text], pair and [pair])[0].argmax())]''',
    "multi_label_classification": '''labels(text, pair=None, threshold=0.5):
    """The labels above a threshold."""
    above = logits([text], pair and [pair])[0].sigmoid() > threshold
    return [config.id2label[number] for number in above.nonzero().flatten().tolist()]''',
    "regression": '''value(text, pair=None):
    """The number."""
    return float(logits([text], pair and [pair])[0, 0])''',
}


_BACKBONE = "AutoModel.from_pretrained(folder).eval()"
_STATES = "backbone(**tokens).last_hidden_state"


def pooled_readme(model: PreTrainedModel) -> str:
    """The text for a model of ``PooledClassifier``; its code block runs beside the weights."""
    config: Any = model.config
    head, problem_type = pooled_head(config), str(config.problem_type)
    assert head is not None
    what, expression = _POOLED[head.pooling]
    return README.format(
        what=what
        + (" scaled to length 1" if head.normalizes else "")
        + (" through a hidden layer" if head.hidden_size is not None else ""),
        pooling=(_SCORES if head.pooling == "attention" else "")
        + f"    pooled = {expression}\n"
        + (_NORMALIZED if head.normalizes else ""),
        hidden=_HIDDEN if head.hidden_size is not None else "",
        function=_FUNCTIONS[problem_type],
    )


def prompted_readme(model: PreTrainedModel) -> str:
    """The text where a soft prompt stands in ``prompt/``."""
    prompted = 'PeftModel.from_pretrained(AutoModel.from_pretrained(folder), f"{folder}/prompt").eval()'
    return _changed(pooled_readme(model), (_BACKBONE, prompted), (_STATES, f"{_STATES}[:, -mask.shape[1] :]"))


def adapter_readme(model: PreTrainedModel, home: str, revision: str | None) -> str:
    """The text where an adapter for the base model in ``home`` stands beside the head."""
    base = repr(home) + (f", revision={revision!r}" if revision else "")
    adapted = f"PeftModel.from_pretrained(AutoModel.from_pretrained({base}, dtype=torch.float32), folder).eval()"
    files = ("model.safetensors", HEAD_FILE)
    said = (
        "`AutoModel` loads the backbone (and says that the head is not its own)",
        "peft loads the adapter onto the base",
    )
    beside = ("stands in the\nsame file", f"stands in\n{HEAD_FILE}")
    return _changed(pooled_readme(model), (_BACKBONE, adapted), files, said, beside)


HEAD_FILE = "head.safetensors"
"""The head beside an exported adapter."""


def _changed(text: str, *changes: tuple[str, str]) -> str:
    for old, new in (("import torch\n", "import torch\nfrom peft import PeftModel\n"), *changes):
        assert old in text, old
        text = text.replace(old, new)
    return text
