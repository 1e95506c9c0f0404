"""The ``task.generation`` section: how text is generated where a model's text is scored."""

from typing import Annotated

from pydantic import Field

from finesearch.plan.section import Section


class GenerationPlan(Section):
    """How text is generated; greedy, unless there are ``beams`` or a ``temperature``."""

    beams: Annotated[int, Field(ge=1, description="Beams of the beam search; 1 is none.")] = 1
    max_new_tokens: Annotated[int, Field(ge=1, description="Tokens that are generated at most.")] = 128
    length_penalty: Annotated[
        float,
        Field(description="Exponent of the length by which a beam's score is divided: above 0 favours long text."),
    ] = 1.0
    no_repeat_ngram_size: Annotated[int, Field(ge=0, description="N-grams that never stand twice; 0: all may.")] = 0
    temperature: Annotated[float | None, Field(gt=0.0, description="Draws tokens at this temperature.")] = None
    batch_size: Annotated[int, Field(ge=1, description="Rows generated for at a time, by each worker.")] = 16
