"""A tiny Llama in one GGUF file, with a tokenizer and a chat template: random, seeded, partly quantized."""

from __future__ import annotations

from pathlib import Path

import numpy as np

WORDS = ["good", "bad", "film", "story", "the", "very"]
CHAT = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


def write_tiny_gguf(path: Path, *, layers: int = 2, hidden: int = 64, seed: int = 0) -> Path:
    """Write the file and return it."""
    from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants

    letters = [chr(code) for code in range(33, 127)] + ["Ġ", "Ċ"]
    merges: list[str] = []
    tokens = ["<|end|>", "<|start|>", *letters]
    for word in WORDS:
        whole = word[0]
        for letter in word[1:]:
            merges.append(f"{whole} {letter}")
            whole += letter
            if whole not in tokens:
                tokens.append(whole)
    merges = list(dict.fromkeys(merges))
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * hidden)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(hidden // 4)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * 2 + [TokenType.NORMAL] * (len(tokens) - 2))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_chat_template(CHAT)
    rng = np.random.default_rng(seed)

    def add(name: str, *shape: int, quantized: bool = False) -> None:
        values = (rng.standard_normal(shape) * 0.1).astype(np.float32)
        if len(shape) == 1:
            values += 1.0
        kind = GGMLQuantizationType.Q8_0 if quantized else GGMLQuantizationType.F32
        writer.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", len(tokens), hidden)
    add("output_norm.weight", hidden)
    for layer in range(layers):
        block = f"blk.{layer}"
        add(f"{block}.attn_norm.weight", hidden)
        add(f"{block}.ffn_norm.weight", hidden)
        add(f"{block}.attn_q.weight", hidden, hidden, quantized=True)
        add(f"{block}.attn_k.weight", hidden // 2, hidden, quantized=True)
        add(f"{block}.attn_v.weight", hidden // 2, hidden, quantized=True)
        add(f"{block}.attn_output.weight", hidden, hidden, quantized=True)
        add(f"{block}.ffn_gate.weight", 2 * hidden, hidden, quantized=True)
        add(f"{block}.ffn_up.weight", 2 * hidden, hidden, quantized=True)
        add(f"{block}.ffn_down.weight", hidden, 2 * hidden, quantized=True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
