"""GGUF models, dequantized once per machine into an ordinary model folder, which then replaces the file.

Every process of a node, and every later search, finds that folder by the file's content: reading quantized tensors
takes longer than reading plain ones, and what follows (training, checkpoints, exports) knows nothing of the format.
"""

from __future__ import annotations

import contextlib
import io
from importlib.util import find_spec
from pathlib import Path

from finesearch.data.build_once import build_once
from finesearch.errors import ModelError
from finesearch.storage import checksummed_dirs
from finesearch.storage.local_dirs import cache_home
from finesearch.training.weights.weight_files import WEIGHT_NAMES

SUFFIX = ".gguf"
# Increased whenever the same file would produce another folder.
VERSION = 1


def gguf_file(folder: Path) -> Path | None:
    """The GGUF file of a model folder; None where the folder has other weights, or none.

    Raises:
        ModelError: there are several.
    """
    found = sorted(folder.glob(f"*{SUFFIX}"))
    if not found or any((folder / name).exists() for name in WEIGHT_NAMES):
        return None
    if len(found) > 1:
        raise ModelError(
            f"task.model: {folder} holds {len(found)} GGUF files ({', '.join(path.name for path in found)}), expected "
            f"one. Name the one that is meant: …/{found[0].name}."
        )
    return found[0]


def dequantized(file: Path) -> Path:
    """A folder with the same model as fp32 weights, with its config and tokenizer; created on first use.

    Raises:
        ModelError: the package gguf is missing, or transformers cannot read this file.
        DiskFullError, StorageError: the cache cannot be written.
    """
    if find_spec("gguf") is None:
        raise ModelError(
            f"task.model: {file} needs the package gguf, which is not installed. Install it on every node: "
            f"pip install gguf."
        )
    home = dequantized_models_home()
    folder = home / f"{file.stem}-{checksummed_dirs.file_sha256(file)[:16]}-v{VERSION}"

    def build(temporary: Path) -> None:
        _convert(file, temporary)
        checksummed_dirs.write_manifest(temporary)  # also fsyncs the files that it lists

    with checksummed_dirs.disk_full_as_error(home):
        build_once(folder, build, Path.is_dir)
    return folder


def dequantized_models_home() -> Path:
    """Where dequantized models are kept: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    return cache_home() / "models"


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from finesearch.training.model.model_files import quiet_transformers

    # The conversion's progress bar cannot be switched off.
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        try:
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
            first_line = (str(error).strip() or "no details").splitlines()[0]
            raise ModelError(
                f"task.model: transformers cannot read {file} ({type(error).__name__}: {first_line}). "
                f"Use a model of an architecture that it reads from GGUF (Llama, Mistral, Qwen, GPT-2, …), or its "
                f"safetensors."
            ) from error
        config = read.config
        # transformers refuses to save a model that it considers quantized.
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        plain = type(read)(config)
        plain.load_state_dict(read.state_dict())
        plain.tie_weights()
        plain.generation_config = read.generation_config
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
