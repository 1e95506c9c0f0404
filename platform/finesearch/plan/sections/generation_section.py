"""How text is generated where it is scored: ``task.generation``, and ``report.generation`` to choose from."""

from functools import partial
from itertools import product
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from finesearch.plan.problems import Problem, problem_error
from finesearch.plan.sections.section import Section, as_tuple


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

    @property
    def effective(self) -> "GenerationPlan":
        """The same settings, with those without effect at their defaults: one beam has no length penalty."""
        return self if self.beams > 1 else self.model_copy(update={"length_penalty": 1.0})


_ONE_OR_MANY = BeforeValidator(partial(as_tuple, lone=object))
_Beams = Annotated[tuple[Annotated[int, Field(ge=1)], ...], _ONE_OR_MANY]
_Counts = Annotated[tuple[Annotated[int, Field(ge=0)], ...], _ONE_OR_MANY]
_Penalties = Annotated[tuple[float, ...], _ONE_OR_MANY]
_Temperatures = Annotated[tuple[Annotated[float, Field(gt=0.0)] | None, ...], _ONE_OR_MANY]


class GenerationChoices(Section):
    """Settings of ``task.generation`` that are chosen on validation once a checkpoint is trained.

    What is not given stays as ``task.generation`` has it; the plan's own settings are always among the candidates.
    """

    beams: Annotated[_Beams, Field(description="Numbers of beams to choose from.")] = ()
    max_new_tokens: Annotated[_Beams, Field(description="Longest texts to choose from, in tokens.")] = ()
    length_penalty: Annotated[_Penalties, Field(description="Length penalties to choose from.")] = ()
    no_repeat_ngram_size: Annotated[_Counts, Field(description="Sizes of unrepeated n-grams to choose from.")] = ()
    temperature: Annotated[_Temperatures, Field(description="Temperatures to choose from; null draws nothing.")] = ()
    # The last field carries the check over all of them.
    settings: Annotated[
        int,
        Field(
            ge=1,
            validate_default=True,
            description="Combinations tried for each checkpoint at most; of more, TPE chooses which.",
        ),
    ] = 8

    @field_validator("settings")
    @classmethod
    def _something_to_choose(cls, settings: int, info: Any) -> int:
        names = [name for name in cls.model_fields if name != "settings"]
        if all(name in info.data and not info.data[name] for name in names):
            text = "report.generation: expected settings to choose from, got none"
            raise problem_error(Problem((), text, f"Give at least one of {', '.join(names)}, or leave it out."))
        return settings

    @property
    def choices(self) -> dict[str, tuple[float | int | None, ...]]:
        """The values of every setting that is given."""
        given = {name: getattr(self, name) for name in type(self).model_fields if name != "settings"}
        return {name: tuple(dict.fromkeys(values)) for name, values in given.items() if values}

    def candidates(self, own: GenerationPlan) -> list[GenerationPlan]:
        """Every combination other than ``own``, in the order of the plan, without duplicates in effect.

        >>> own = GenerationPlan(beams=1)
        >>> choices = GenerationChoices(beams=[1, 4], length_penalty=[1.0, 2.0])
        >>> [(each.beams, each.length_penalty) for each in choices.candidates(own)]
        [(4, 1.0), (4, 2.0)]
        """
        found: list[GenerationPlan] = []
        for values in product(*self.choices.values()):
            settings = own.model_copy(update=dict(zip(self.choices, values, strict=True))).effective
            if settings not in (own.effective, *found):
                found.append(settings)
        return found
