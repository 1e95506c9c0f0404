"""Tiny models that write text, random and seeded: T5, BART, GPT-2 and Llama, and an encoder-decoder of two BERTs."""

from __future__ import annotations

import json
from pathlib import Path

from tiny_models import WORDS

NOUNS = ["hund", "katze", "haus", "baum", "kind", "ball", "auto", "buch", "tisch", "garten"]
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-:=>#|"
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<de>", "<fr>", "<|turn|>"]
VOCABULARY = [*SPECIAL, *CHARACTERS, *(f"##{c}" for c in CHARACTERS), "[NEWLINE]", *WORDS, *NOUNS]
SHAPES = ("t5", "bart", "gpt2", "llama")
ENCODER_DECODERS = ("t5", "bart")


def write_tiny_writer(folder: Path, architecture: str, *, seed: int = 0, tie: bool = True, **settings: object) -> Path:
    """Write a model of two layers, 32 wide, and its tokenizer into ``folder`` and return it.

    architecture: one of ``SHAPES``. The output layer is tied to the embeddings unless told otherwise.
    """
    import torch
    import transformers

    from finesearch.training.model.model_files import quiet_transformers

    common = {
        "vocab_size": len(VOCABULARY),
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": tie,
    }
    sizes = {
        "t5": {
            "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0,
        },
        "bart": {
            "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
            "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
            "max_position_embeddings": 64, "decoder_start_token_id": 2, "forced_bos_token_id": 1,
        },
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96},
        "llama": {
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "intermediate_size": 64, "max_position_embeddings": 128,
        },
    }[architecture]  # fmt: skip
    names = {
        "t5": ("T5Config", "T5ForConditionalGeneration"),
        "bart": ("BartConfig", "BartForConditionalGeneration"),
        "gpt2": ("GPT2Config", "GPT2LMHeadModel"),
        "llama": ("LlamaConfig", "LlamaForCausalLM"),
    }[architecture]
    folder.mkdir(parents=True, exist_ok=True)
    config, model = (getattr(transformers, name) for name in names)
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        model(config(**{**common, **sizes, **settings})).save_pretrained(folder)
    write_writer_tokenizer(folder, with_end=architecture in ENCODER_DECODERS)
    return folder


def write_tiny_pair(folder: Path, seed: int = 0) -> Path:
    """An encoder-decoder warm-started from an encoder (Rothe et al., 2020), as a user would save it."""
    import torch
    from transformers import BertConfig, BertModel, EncoderDecoderModel

    from finesearch.training.model.model_files import quiet_transformers

    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder / "encoder")
        pair = EncoderDecoderModel.from_encoder_decoder_pretrained(folder / "encoder", folder / "encoder")
    pair.config.decoder_start_token_id, pair.config.pad_token_id, pair.config.eos_token_id = 1, 0, 2
    pair.save_pretrained(folder)
    write_writer_tokenizer(folder, with_end=True)
    return folder


def write_writer_tokenizer(folder: Path, with_end: bool, chat_template: str | None = None) -> Path:
    """WordPiece over ``VOCABULARY``; a line end is a token. with_end: every text ends with ``</s>``."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    ids = {token: index for index, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace("\n", " [NEWLINE] ")])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece()
    if with_end:
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{name}_token": token for name, token in (("pad", "<pad>"), ("bos", "<s>"), ("eos", "</s>"))},
        "unk_token": "<unk>",
        "additional_special_tokens": SPECIAL[4:],
        **({"chat_template": chat_template} if chat_template else {}),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    return folder


def word_pairs(count: int, seed: int = 0, longest: int = 5) -> tuple[list[str], list[str]]:
    """``count`` seeded sources and targets: each word of a made-up language has one word in the other.

    >>> word_pairs(1)
    (['good film scene slow bad'], ['auto hund kind tisch buch'])
    """
    import random

    draw = random.Random(seed)
    english = ["film", "plot", "story", "actor", "scene", "music", "good", "bad", "slow", "quick"]
    german = dict(zip(english, NOUNS, strict=True))
    sources, targets = [], []
    for _ in range(count):
        words = [draw.choice(english) for _ in range(draw.randint(4, longest))]
        sources.append(" ".join(words))
        targets.append(" ".join(german[word] for word in words))
    return sources, targets
