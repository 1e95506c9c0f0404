"""Which tokenizer BLEU and ROUGE count words with, and what ``task.metric_tokenizer: auto`` stands for.

BLEU's are sacrebleu's, by their names there (Post, A Call for Clarity in Reporting BLEU Scores, 2018). ROUGE has
``latin``, rouge-score's own words of a-z and digits, and ``unicode``, the words of any script. chrF has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from finesearch.errors import InputError
from finesearch.plan.sections.task_kinds import LATIN, UNICODE
from finesearch.tasks.encoding.scripts import UNSPACED, count_scripts

AUTO, DEFAULT_BLEU = "auto", "13a"
UNSPACED_SHARE = 0.2
"""Share of the letters in scripts without spaces from which on BLEU counts characters."""
FOREIGN_SHARE = 0.005
"""Share of the letters that are not a-z from which on ROUGE counts words of any script."""
KANA_SHARE = 0.05
"""Share of kana among Chinese characters and kana from which on a text is Japanese."""


def bleu_tokenizer(name: str | None) -> str:
    """sacrebleu's tokenizer for a plan's value; one that was never chosen, in runs of older versions, is 13a."""
    return DEFAULT_BLEU if name in (None, AUTO) else str(name)


def rouge_tokenizer(name: str | None) -> str:
    """ROUGE's tokenizer for a plan's value, which is BLEU's in dialogues: ``latin`` where that is 13a.

    >>> [rouge_tokenizer(name) for name in ("latin", "auto", "13a", "zh", "unicode")]
    ['latin', 'latin', 'latin', 'unicode', 'unicode']
    """
    return LATIN if name in (None, AUTO, DEFAULT_BLEU, LATIN) else UNICODE


def choose_bleu_tokenizer(references: Iterable[str]) -> tuple[str, str]:
    """sacrebleu's tokenizer by the scripts of the true answers, and the reason in words.

    >>> choose_bleu_tokenizer(["我们去公园。"])
    ('zh', '100% of the letters are Chinese')
    """
    scripts = count_scripts(references)
    unspaced = {name: scripts[name] for name in UNSPACED}
    if _share(scripts, *UNSPACED) < UNSPACED_SHARE:
        if scripts["Korean"] > scripts.total() / 2 and is_installed("ko-mecab"):
            return "ko-mecab", f"{_share(scripts, 'Korean'):.0%} of the letters are Korean"
        return DEFAULT_BLEU, f"{1 - _share(scripts, *UNSPACED):.0%} of the letters are of scripts with spaces"
    if unspaced["Japanese"] >= KANA_SHARE * (unspaced["Chinese"] + unspaced["Japanese"]) > 0:
        share = _share(scripts, "Chinese", "Japanese")
        if is_installed("ja-mecab"):
            return "ja-mecab", f"{share:.0%} of the letters are Japanese"
        return "char", f"{share:.0%} of the letters are Japanese, and MeCab is not installed (sacrebleu[ja])"
    script = max(unspaced, key=lambda name: unspaced[name])
    return "zh" if script == "Chinese" else "char", f"{_share(scripts, script):.0%} of the letters are {script}"


def choose_rouge_tokenizer(references: Iterable[str]) -> tuple[str, str]:
    """ROUGE's tokenizer by the letters of the true answers, and the reason in words.

    >>> choose_rouge_tokenizer(["a café"])
    ('unicode', '20.0% of the letters are not a-z')
    """
    scripts = count_scripts(references)
    foreign = 1 - _share(scripts, "English")
    return UNICODE if foreign >= FOREIGN_SHARE else LATIN, f"{foreign:.1%} of the letters are not a-z"


def is_installed(tokenizer: str) -> bool:
    """Whether sacrebleu can load a tokenizer."""
    return _problem(tokenizer) is None


def check_tokenizer(tokenizer: str) -> None:
    """
    Raises:
        InputError: sacrebleu cannot load the tokenizer.
    """
    problem = _problem(tokenizer)
    if problem is not None:
        raise InputError(
            f"task.metric_tokenizer: sacrebleu cannot load the tokenizer {tokenizer!r} ({problem}). Install what it "
            f"needs on every node, or set another one, such as 'char'."
        )


def refuse_constant_metric(metric: str, tokenizer: str | None, best: float, references: Sequence[str]) -> None:
    """Check that the true answers themselves score above 0.

    Raises:
        InputError: they do not, so that the metric ranks nothing.
    """
    if best <= 0:
        counted = "" if tokenizer is None else f" with task.metric_tokenizer {tokenizer!r}"
        raise InputError(
            f"task.metric: {metric}{counted} gives the true answers of validation themselves the score 0, so that it "
            f"cannot rank trials (first answer: {references[0][:60]!r}).\n  BLEU needs answers of four words or more, "
            f"ROUGE words of the tokenizer. Set another metric, or another task.metric_tokenizer."
        )


def _problem(tokenizer: str) -> str | None:
    from sacrebleu.metrics.bleu import BLEU

    try:
        BLEU(tokenize=tokenizer)
    except Exception as error:  # a tokenizer may lack a package, its files, or the network that it fetches them by
        return " ".join(str(error).split()) or type(error).__name__
    return None


def _share(scripts: Counter[str], *names: str) -> float:
    """Share of the letters in some scripts; 0 without letters."""
    total = scripts.total()
    return sum(scripts[name] for name in names) / total if total else 0.0
