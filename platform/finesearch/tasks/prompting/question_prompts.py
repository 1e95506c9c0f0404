"""Question answering by asking an encoder: which words of the context mean what the question does?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from finesearch.tasks.encoding.bio_tags import word_spans
from finesearch.tasks.extraction.question_answering import QuestionAnswering
from finesearch.tasks.extraction.squad_rows import parse_answers
from finesearch.tasks.prompting.prompt_task import PromptTask, Question, Rows

MAX_ANSWER_WORDS = 6
"""Words of an answer at most: nine in ten of SQuAD's are no longer (Rajpurkar et al., 2016)."""
_SENTENCE = re.compile(r"[^.!?]*(?:[.!?](?=\S)[^.!?]*)*[.!?]*\s*")


class ExtractivePromptTask(PromptTask):
    """One question a row, whose answer is a part of its context. By similarity, which takes no examples."""

    methods: ClassVar[tuple[str, ...]] = ("similarity",)
    shows_examples: ClassVar[bool] = False
    task: QuestionAnswering

    def template(self, method: str, shows_examples: bool = False) -> str:
        return ""

    def questions(self, rows: Rows) -> list[list[Question]]:
        columns = self.task.plan.columns
        contexts, asked = rows[columns["context"]], rows[columns["question"]]
        answers = rows.get(columns["answers"])
        found = []
        for row, (context, question) in enumerate(zip(contexts, asked, strict=True)):
            true = None if answers is None else next(iter(parse_answers(answers[row])[0]), "")
            found.append([Question(fields={"question": question, "context": context}, written=true)])
        return found

    def predictions(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """What ``Task.score`` takes: an answer is always given."""
        return [{"text": text, "null_margin": 0.0, "n_best": []} for text in texts]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """[start, end) of each sentence, by its marks.

    >>> text = "It rose 3.5 m. Then it fell! Why"
    >>> [text[start:end] for start, end in sentence_spans(text)]
    ['It rose 3.5 m.', 'Then it fell!', 'Why']
    """
    found = []
    for match in _SENTENCE.finditer(text):
        part = match.group()
        if part.strip():
            start = match.start() + len(part) - len(part.lstrip())
            found.append((start, match.start() + len(part.rstrip())))
    return found


def candidate_spans(sentence: str, question: str) -> list[tuple[int, int]]:
    """[start, end) of what may answer: up to ``MAX_ANSWER_WORDS`` words in a row that the question does not have
    itself.

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
