"""Precision, recall and F1 of entities, as ``conlleval`` scores them: an entity counts with its exact span and label.

``score_entities`` uses nervaluate (its "strict" scheme). A bootstrap needs a thousand evaluations, for which nervaluate
is two hundred times too slow: ``METRICS`` are our own implementation, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from finesearch.tasks.encoding.bio_tags import Span

Spans = Sequence[Sequence[Span]]


def score_entities(predictions: Spans, references: Spans) -> dict[str, float]:
    """``precision``, ``recall`` and ``f1`` over all examples together; 0 without predicted, or true, entities.

    >>> score_entities([[[0, 2, "PER"], [3, 4, "LOC"]]], [[[0, 2, "PER"], [3, 5, "LOC"], [6, 7, "LOC"]]])
    {'precision': 0.5, 'recall': 0.3333333333333333, 'f1': 0.4}
    """
    labels = sorted({str(label) for spans in (*predictions, *references) for _, _, label in spans})
    if not labels:
        return dict.fromkeys(METRICS, 0.0)
    from nervaluate import Evaluator

    true, given = _loaded(references), _loaded(predictions)
    strict = Evaluator(true, given, tags=labels, loader="dict").evaluate()["overall"]["strict"]
    return {"precision": float(strict.precision), "recall": float(strict.recall), "f1": float(strict.f1)}


def precision(predictions: Spans, references: Spans) -> float:
    """Share of the predicted entities that are true."""
    found, given, _ = _counts(predictions, references)
    return found / given if given else 0.0


def recall(predictions: Spans, references: Spans) -> float:
    """Share of the true entities that were predicted."""
    found, _, true = _counts(predictions, references)
    return found / true if true else 0.0


def f1(predictions: Spans, references: Spans) -> float:
    """Harmonic mean of precision and recall."""
    found, given, true = _counts(predictions, references)
    return 2 * found / (given + true) if found else 0.0


METRICS: dict[str, Callable[[Spans, Spans], float]] = {"precision": precision, "recall": recall, "f1": f1}


def _counts(predictions: Spans, references: Spans) -> tuple[int, int, int]:
    """Numbers of correct, predicted and true entities."""
    found = sum(sum(span in true for span in given) for given, true in zip(predictions, references, strict=True))
    return found, sum(map(len, predictions)), sum(map(len, references))


def _loaded(examples: Spans) -> list[list[dict[str, int | str]]]:
    """The format that nervaluate reads; its end is inclusive."""
    return [[{"label": str(name), "start": s, "end": int(e) - 1} for s, e, name in spans] for spans in examples]
