"""The search space: which recipes a search may try, and how one is drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from finesearch.errors import PlanError
from finesearch.plan.sections.training_section import TrainingPlan
from finesearch.plan.space.branches import DEFAULT_BRANCHES, SELECTORS
from finesearch.plan.space.domains import Choice, Domain, Fixed, Range, Trial, boundary_values
from finesearch.plan.space.parameters import PARAMETERS, Scalar
from finesearch.plan.space.parse_domain import written
from finesearch.plan.space.recipe import Recipe

Branches = Mapping[str, Mapping[str, Domain]]
"""Branch name to the domains that the plan gives in it."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a space, flat.

    ``name`` is its name in the study (``adaptation.freeze_bottom.layers``), ``key`` its name in the registry
    (``layers``). It is active when, for every (choice, branches) in ``conditions``, the drawn branch is among them.
    """

    name: str
    key: str
    domain: Domain
    conditions: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def is_active(self, chosen: Mapping[str, Scalar]) -> bool:
        return all(chosen.get(selector) in branches for selector, branches in self.conditions)

    @property
    def is_fixed(self) -> bool:
        return isinstance(self.domain, Fixed)


@dataclass(frozen=True)
class Space:
    """The search space of a plan, in the order of the registry, regardless of the order in the file.

    ``selectors`` holds the branches of ``adaptation`` and ``optimizer`` (a choice that the plan leaves out has its
    default branch), ``values`` the parameters outside of branches. ``len`` counts the drawn parameters.
    """

    selectors: Mapping[str, Branches]
    values: Mapping[str, Domain]
    is_auto: bool = False
    """Whether the plan leaves the space to ``auto_choices.py``; until then it holds the default branches alone."""

    @cached_property
    def entries(self) -> tuple[Parameter, ...]:
        """All given parameters, fixed ones included, those that never have an effect left out, in drawing order."""
        choices, own = [], []
        for selector, branches in self.selectors.items():
            names = tuple(branches)
            choices.append(Parameter(selector, selector, Choice(names) if len(names) > 1 else Fixed(names[0])))
            for branch, domains in branches.items():
                for key, inner in domains.items():
                    conditions = self._conditions(key, {selector: (branch,)})
                    if conditions is not None:
                        own.append(Parameter(f"{selector}.{branch}.{key}", key, inner, conditions))
        root = []
        for key, domain in self.values.items():
            conditions = self._conditions(key, {})
            if conditions is not None:
                root.append(Parameter(key, key, domain, conditions))
        return (*choices, *own, *root)

    def _conditions(
        self, key: str, within: Mapping[str, tuple[str, ...]]
    ) -> tuple[tuple[str, tuple[str, ...]], ...] | None:
        """When ``key`` has an effect, given the branches that it is ``within``; None when it never has one."""
        conditions = []
        for selector, branches in self.selectors.items():
            allowed = within.get(selector, tuple(branches))
            if key in PARAMETERS:
                # A branch's own value takes precedence over the root's.
                replaced = () if selector in within else [name for name, own in branches.items() if key in own]
                idle = [name for name in branches if key in SELECTORS[selector][name].without_effect]
                allowed = tuple(branch for branch in allowed if branch not in (*replaced, *idle))
            if not allowed:
                return None
            if len(allowed) < len(branches):
                conditions.append((selector, allowed))
        return tuple(conditions)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The drawn parameters."""
        return tuple(entry for entry in self.entries if not entry.is_fixed)

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Flat names of parameters that are given and never have an effect."""
        given = [
            f"{selector}.{branch}.{key}"
            for selector, branches in self.selectors.items()
            for branch, own in branches.items()
            for key in own
        ]
        active = {entry.name for entry in self.entries}
        return tuple(name for name in [*given, *self.values] if name not in active)

    @property
    def is_conditional(self) -> bool:
        """Whether some parameter is drawn in some configurations only."""
        return any(parameter.conditions for parameter in self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    def __bool__(self) -> bool:
        # A space without anything to draw is still a space.
        return True

    def suggest(self, trial: Trial) -> dict[str, Scalar]:
        """Draw one configuration: only active parameters, by their flat names, always in the same order."""
        chosen = self._fixed_branches()
        drawn: dict[str, Scalar] = {}
        for parameter in self.parameters:
            if parameter.is_active(chosen):
                assert not isinstance(parameter.domain, Fixed)
                drawn[parameter.name] = parameter.domain.suggest(trial, parameter.name)
                if parameter.name in SELECTORS:
                    chosen[parameter.name] = drawn[parameter.name]
        return drawn

    def _fixed_branches(self) -> dict[str, Scalar]:
        return {name: next(iter(branches)) for name, branches in self.selectors.items() if len(branches) == 1}

    def recipe(self, assignment: Mapping[str, Scalar], training: TrainingPlan, pooling: str | None = None) -> Recipe:
        """The complete recipe of a configuration as ``suggest`` returns it.

        Epochs and batch size default to the training section's, ``pooling`` to the task's; all else to the recipe's
        defaults.
        """
        chosen = self._fixed_branches() | {name: assignment[name] for name in self.selectors if name in assignment}
        settings: dict[str, Any] = {"epochs": training.num_epochs, "batch_size": training.batch_size}
        if pooling is not None:
            settings["pooling"] = pooling
        for entry in self.entries:
            if not entry.is_active(chosen):
                continue
            value = entry.domain.value if isinstance(entry.domain, Fixed) else assignment[entry.name]
            if entry.key in PARAMETERS or entry.key in SELECTORS:
                settings[entry.key] = value
            else:
                selector = entry.name.split(".")[0]
                settings.setdefault(f"{selector}_parameters", {})[entry.key] = value
        return Recipe(**settings)

    def grid(self) -> dict[str, list[Scalar]]:
        """Every value of every drawn parameter, for a search over all combinations.

        Raises:
            PlanError: a range has no step, so that its values cannot be listed.
        """
        values: dict[str, list[Scalar]] = {}
        for parameter in self.parameters:
            if isinstance(parameter.domain, Range) and parameter.domain.is_continuous:
                raise PlanError(
                    f"space.{parameter.name}: expected a list or a range with a step, got a range without one.\n"
                    "  Give it a step, or search with another sampler than grid."
                )
            values[parameter.name] = list(parameter.domain.grid)
        return values

    def largest(self, key: str, default: int) -> int:
        """The largest value that a whole-number root parameter can take; ``default`` where the space has none."""
        return max(int(value) for value in self.possible(key, default))

    def possible(self, key: str, default: Any) -> tuple[Any, ...]:
        """Values that a root parameter can take, of a range both ends; ``default`` where the space may have none."""
        found = [value for entry in self.entries if entry.key == key for value in boundary_values(entry.domain)]
        return tuple(dict.fromkeys(found if self.decides(key) and found else [*found, default]))

    def decides(self, key: str) -> bool:
        """Whether every configuration takes ``key`` from the space."""
        return key in self.values or any(
            all(key in own for own in branches.values()) for branches in self.selectors.values()
        )

    def gives(self, key: str) -> bool:
        """Whether the space has ``key`` at its top or in some branch."""
        return key in self.values or any(
            key in own for branches in self.selectors.values() for own in branches.values()
        )

    def with_value(self, key: str, domain: Domain) -> "Space":
        """This space with another value at its top, in the registry's order."""
        values = {**self.values, key: domain}
        return replace(self, values={name: values[name] for name in PARAMETERS if name in values})

    def to_plain(self) -> dict[str, Any] | Literal["auto"]:
        """The form of the space in a plan file; parsing it gives an equal space."""
        if self.is_auto:
            return "auto"
        plain: dict[str, Any] = {}
        for selector, branches in self.selectors.items():
            if branches == {DEFAULT_BRANCHES[selector]: {}}:
                continue
            inner = {
                branch: {key: written(SELECTORS[selector][branch].known[key], domain) for key, domain in own.items()}
                for branch, own in branches.items()
            }
            plain[selector] = {"one_of": inner}
        return plain | {key: domain.to_plain() for key, domain in self.values.items()}
