"""A tiny BERT-shaped model folder, as ``save_pretrained`` would leave it: random, seeded, made in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

# fmt: off
WORDS = [
    "the", "a", "an", "of", "and", "to", "in", "is", "was", "it", "this", "that", "very", "not", "film", "plot",
    "good", "bad", "great", "poor", "fine", "dull", "bright", "slow", "quick", "story", "actor", "scene", "music",
    "boring", "lovely", "awful", "superb", "weak", "strong", "happy", "sad", "warm", "cold", "clever", "stupid",
]
# fmt: on
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# "a" is a word already: twice in the list, it would leave a hole in the numbering.
VOCABULARY = [*SPECIAL, "[unused]", *LETTERS[1:], *(f"##{letter}" for letter in LETTERS), *WORDS]


def write_tiny_model(
    folder: Path, *, layers: int = 4, hidden: int = 32, heads: int = 4, seed: int = 0, dropout: float = 0.1
) -> Path:
    """Write ``config.json``, ``model.safetensors`` and a WordPiece tokenizer into ``folder`` and return it.

    The weights are those of an encoder without an output layer, like most models on a hub. Any ASCII text can be
    tokenised: words outside the vocabulary fall apart into letters.
    """
    import torch
    from transformers import BertConfig, BertModel

    from finesearch.training.model.model_files import quiet_transformers

    folder.mkdir(parents=True, exist_ok=True)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    write_tiny_tokenizer(folder)
    return folder


def write_tiny_tokenizer(folder: Path) -> Path:
    """Write the WordPiece tokenizer files alone into ``folder``."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    ids = {token: index for index, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": 64,
        **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    return folder


def sentences(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """``count`` seeded sentences and their labels (``good`` or ``bad``), learnable from single words.

    >>> texts, labels = sentences(4)
    >>> len(texts), sorted(set(labels))
    (4, ['bad', 'good'])
    """
    import random

    draw = random.Random(seed)
    telling = {"good": ["good", "great", "lovely", "superb"], "bad": ["bad", "poor", "awful", "dull"]}
    texts, labels = [], []
    for index in range(count):
        label = ("good", "bad")[index % 2]
        words = [draw.choice(WORDS) for _ in range(draw.randint(3, 12))] + draw.choices(telling[label], k=3)
        draw.shuffle(words)
        texts.append(" ".join(words))
        labels.append(label)
    return texts, labels
