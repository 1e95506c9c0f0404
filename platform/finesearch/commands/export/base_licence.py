"""What the card of a base model says of its licence and languages, for the card of a model made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

KEYS = ("license", "license_name", "license_link", "language")


def base_card_data(folder: Path) -> dict[str, Any]:
    """Licence and languages from README.md of a base model's folder; empty where it has none that can be read."""
    from huggingface_hub import ModelCard

    try:
        content = (folder / "README.md").read_text(encoding="utf-8")
        data: dict[str, Any] = ModelCard(content, ignore_metadata_errors=True).data.to_dict()  # type: ignore[no-untyped-call]
    except (OSError, UnicodeDecodeError, ValueError):
        return {}
    return {key: data[key] for key in KEYS if data.get(key)}


def licence_words(data: dict[str, Any]) -> str:
    """A sentence on the licence.

    >>> licence_words({"license": "mit"})
    'The base model has the licence mit, which holds for this model too unless its owner says otherwise.'
    """
    name = data.get("license_name") or data.get("license")
    if name is None:
        return "The folder of the base model names no licence. Look it up before you hand this model on."
    return f"The base model has the licence {name}, which holds for this model too unless its owner says otherwise."
