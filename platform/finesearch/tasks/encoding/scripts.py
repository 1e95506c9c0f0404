"""Scripts of texts: which are written without spaces between words, and the words of a text in any script."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

UNSPACED = {
    "Chinese": "\u3005\u3007\u3100-\u312f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "Japanese": "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "Thai": "\u0e00-\u0e7f",
    "Lao": "\u0e80-\u0eff",
    "Burmese": "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f",
    "Khmer": "\u1780-\u17ff",
}
"""Scripts without spaces between words, as ranges of a regular expression; Japanese here is kana alone."""
KOREAN = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"

_UNSPACED = "".join(UNSPACED.values())
WORD_PATTERN = rf"(?u)[{_UNSPACED}]|[^\W{_UNSPACED}]+"
r"""``\w+``, except that each character of a script without spaces is a word."""
_SCRIPTS = {name: re.compile(f"[{ranges}]") for name, ranges in (*UNSPACED.items(), ("Korean", KOREAN))}


def count_scripts(texts: Iterable[str]) -> Counter[str]:
    """Number of letters of each script: those of ``UNSPACED``, Korean, ``English`` (a to z), and ``other``.

    >>> sorted(count_scripts(["Ab ж", "今日は!"]).items())
    [('Chinese', 2), ('English', 2), ('Japanese', 1), ('other', 1)]
    """
    characters: Counter[str] = Counter()
    for text in texts:
        characters.update(text)
    scripts: Counter[str] = Counter()
    for character, count in characters.items():
        if character.isalpha():
            scripts[_script(character)] += count
    return scripts


@lru_cache(maxsize=1 << 16)
def _script(character: str) -> str:
    if character.lower() in "abcdefghijklmnopqrstuvwxyz":
        return "English"
    return next((name for name, pattern in _SCRIPTS.items() if pattern.match(character)), "other")


def words_of(text: str) -> list[str]:
    """The words of a text in any script, without regard to case; each character where words have no spaces.

    Letters, digits and the marks on them make a word; all else parts words.

    >>> words_of("Straße, 3 Äpfel"), words_of("हिन्दी में"), words_of("今日はGPU")
    (['strasse', '3', 'äpfel'], ['हिन्दी', 'में'], ['今', '日', 'は', 'gpu'])
    """
    words: list[str] = []
    before = "none"
    for character in unicodedata.normalize("NFKC", text).casefold():
        kind = _kind(character)
        if (kind == "mark" and before != "none") or (kind == before == "letter"):
            words[-1] += character
        elif kind in ("letter", "unspaced"):
            words.append(character)
        # A mark leaves the word that it stands in as it is.
        before = before if kind == "mark" else kind
    return words


@lru_cache(maxsize=1 << 16)
def _kind(character: str) -> str:
    category = unicodedata.category(character)[0]
    if category == "M":
        return "mark"
    if re.match(f"[{_UNSPACED}]", character) and category in "LN":
        return "unspaced"
    return "letter" if category in "LN" else "none"
