"""Candidate answer spans of a context. Exports include a copy of this file, so it needs only Python."""

from __future__ import annotations

import re

from finesearch.tasks.encoding.bio_tags import word_spans

MAX_ANSWER_WORDS = 6
"""Maximum words of an answer: nine in ten of SQuAD's are not longer (Rajpurkar et al., 2016)."""
# Full stops of Chinese, Japanese, Hindi and Arabic need no space after them, and take closing quotes along.
_WIDE, _CLOSING = r"\u3002\uff01\uff1f\uff61\u0964\u061f", r"\u2019\u201d\u300d\u300f\uff09"
_SENTENCE = re.compile(rf"[^.!?{_WIDE}]*(?:[.!?](?=\S)[^.!?{_WIDE}]*)*(?:[{_WIDE}]+[{_CLOSING}]*|[.!?]*)\s*")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """[start, end) of each sentence, by punctuation.

    >>> text = "It rose 3.5 m. Then it fell! Why"
    >>> [text[start:end] for start, end in sentence_spans(text)]
    ['It rose 3.5 m.', 'Then it fell!', 'Why']
    >>> [text[start:end] for text in ["「好。」他走了。真的？"] for start, end in sentence_spans(text)]
    ['「好。」', '他走了。', '真的？']
    """
    found = []
    for match in _SENTENCE.finditer(text):
        part = match.group()
        if part.strip():
            start = match.start() + len(part) - len(part.lstrip())
            found.append((start, match.start() + len(part.rstrip())))
    return found


def candidate_spans(sentence: str, question: str) -> list[tuple[int, int]]:
    """[start, end) of candidate answers: up to ``MAX_ANSWER_WORDS`` consecutive words, none of them in the question.

    >>> sentence = "Ada wrote it in London."
    >>> [sentence[start:end] for start, end in candidate_spans(sentence, "Where did Ada write it?")]
    ['wrote', 'in', 'in London', 'London']
    """
    words, known = word_spans(sentence), {question[start:end].lower() for start, end in word_spans(question)}
    found = []
    for first, (start, _) in enumerate(words):
        for last in range(first, min(first + MAX_ANSWER_WORDS, len(words))):
            word = sentence[slice(*words[last])]
            if word.lower() in known or not any(character.isalnum() for character in word):
                break
            found.append((start, words[last][1]))
    return found
