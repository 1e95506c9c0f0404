"""Whether a trial fits on devices that are not here, and what would make it fit; pure arithmetic, as the forecast."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from finesearch.errors import InputError
from finesearch.plan import ADAPTATIONS, Recipe
from finesearch.plan.space.branches import BASE_WEIGHTS
from finesearch.training.cost_model.memory_forecast import MemoryForecast, Model, Setting, can_checkpoint, forecast

MOST_DEVICES = 64
RESERVED_BYTES = 1e9
"""Memory of a device that no trial gets: the driver's context, and gaps between blocks."""


@dataclass(frozen=True)
class Devices:
    """Devices of one kind; ``each_bytes`` of memory each, a gigabyte being a billion."""

    count: int
    name: str
    each_bytes: float

    @property
    def usable_bytes(self) -> float:
        return self.each_bytes - RESERVED_BYTES

    def __str__(self) -> str:
        return f"{self.count}x{self.name + '-' if self.name else ''}{self.each_bytes / 1e9:g}GB"


def parse_devices(text: str) -> Devices:
    """``8xH100-80GB``, or ``1x24GB``.

    >>> parse_devices("8xH100-80GB")
    Devices(count=8, name='H100', each_bytes=80000000000.0)

    Raises:
        InputError: something else.
    """
    found = re.fullmatch(r"(\d{1,6})x(?:([A-Za-z][\w.-]{0,39})-)?(\d{1,6}(?:\.\d{1,3})?)GB", text.strip())
    if found is None:
        raise InputError(
            f"--devices: expected COUNTxNAME-MEMORYGB or COUNTxMEMORYGB, such as 8xH100-80GB or 1x24GB, got {text!r}."
        )
    devices = Devices(int(found[1]), found[2] or "", float(found[3]) * 1e9)
    if devices.count < 1 or devices.usable_bytes <= 0:
        raise InputError(
            f"--devices: expected at least one device with more than {RESERVED_BYTES / 1e9:g} GB, got {text!r}."
        )
    return devices


@dataclass(frozen=True)
class Fit:
    """A trial on devices: as it is, and, where that does not fit, the smallest changes with which it does.

    changes: in words; () where it fits as it is, None where none of those that are known is enough.
    """

    memory: MemoryForecast
    changes: tuple[str, ...] | None
    changed: MemoryForecast | None = None

    @property
    def fits(self) -> bool:
        return self.changes == ()


def fit(recipe: Recipe, model: Model, setting: Setting, devices: Devices) -> Fit:
    """How one trial, whose workers have a device each, lies on the devices."""
    memory = forecast(recipe, model, setting)
    if setting.workers <= devices.count and memory.device <= devices.usable_bytes:
        return Fit(memory, ())
    for words, other in _changes(recipe, setting, devices):
        changed = forecast(recipe, model, other)
        if changed.device <= devices.usable_bytes:
            return Fit(memory, words, changed)
    return Fit(memory, None)


def _changes(recipe: Recipe, setting: Setting, devices: Devices) -> Iterator[tuple[tuple[str, ...], Setting]]:
    """Other settings, smallest change first: what costs time alone, then workers, weights in 4 bits, more devices."""
    workers: tuple[str, ...] = ()
    if setting.workers > devices.count:
        workers = (f"workers_per_trial: {devices.count}",)
        setting = replace(setting, workers=devices.count)
        yield workers, setting
    slower = list(_slower(recipe, setting))
    yield from ((workers + words, other) for words, other in slower)
    if devices.count > 1:
        yield from _divided(recipe, setting, devices.count, workers)
    if (
        BASE_WEIGHTS in ADAPTATIONS[recipe.adaptation].parameters
        and setting.frozen not in ("nf4", "int8")
        and setting.zero_stage < 3
    ):
        four = replace(setting, frozen="nf4")
        base = (*workers, "base_weights: nf4")
        yield base, four
        yield from ((base + words, replace(other, frozen="nf4")) for words, other in slower)
    count = max(2, devices.count)
    while count < MOST_DEVICES:
        count *= 2
        yield from _divided(recipe, setting, count, (f"{count} devices",))


def _slower(recipe: Recipe, setting: Setting) -> Iterator[tuple[tuple[str, ...], Setting]]:
    """Blocks computed again, and fewer rows a pass."""
    again: tuple[str, ...] = ()
    if can_checkpoint(recipe) and not setting.checkpoints:
        again = ("activation_checkpointing: on",)
        yield again, replace(setting, checkpoints=True)
    for checkpoints, words in ((setting.checkpoints, ()), (True, again)):
        if checkpoints and not setting.checkpoints and not again:
            continue
        rows = setting.run.rows
        while rows > 1:
            rows = (rows + 1) // 2
            run = replace(setting.run, rows=rows)
            passes = f"max_tokens_per_pass: {rows * run.tokens}"
            yield (*words, passes), replace(setting, run=run, accumulates=True, checkpoints=checkpoints)


def _divided(
    recipe: Recipe, setting: Setting, count: int, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Setting]]:
    """Each ZeRO stage above the setting's with ``count`` workers, the batch divided among them."""
    rows = -(-setting.run.rows * setting.workers // count)
    for stage in (1, 2, 3):
        if stage < setting.zero_stage or (stage == setting.zero_stage and count <= setting.workers):
            continue
        frozen = "fp32" if stage == 3 else setting.frozen
        run = replace(setting.run, rows=rows)
        divided = replace(setting, zero_stage=stage, workers=count, run=run, frozen=frozen)
        named = (*words, f"workers_per_trial: {count}, zero_stage: {stage}")
        yield named, divided
        yield from ((named + more, other) for more, other in _slower(recipe, divided))
