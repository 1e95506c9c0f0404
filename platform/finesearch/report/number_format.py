"""Formats numbers for readers: few digits, with units, the same in every file of a report."""

import math
from datetime import UTC, datetime

from finesearch.report.run_record import Interval, Scalar

MISSING_VALUE = "–"


def score(value: float | None, decimals: int = 4) -> str:
    """A metric: four decimals below ten, four significant digits above.

    >>> score(0.91234), score(123.456), score(None)
    ('0.9123', '123.5', '–')
    """
    if value is None:
        return MISSING_VALUE
    return f"{value:.{decimals}f}" if abs(value) < 10 else f"{value:.4g}"


def interval_decimals(interval: Interval | None) -> int:
    """Decimals worth showing: one more than the first digit of the interval's width, from 2 to 4.

    >>> interval_decimals((0.899, 0.925)), interval_decimals((0.5, 0.5)), interval_decimals((0.2, 0.8))
    (3, 4, 2)
    """
    if interval is None or interval[1] <= interval[0]:
        return 4
    return min(4, max(2, 1 + math.ceil(-math.log10(interval[1] - interval[0]))))


def scored(value: float | None, interval: Interval | None, words: str = "") -> str:
    """A metric with its interval.

    >>> scored(0.9123, (0.8991, 0.9252), "95 % interval "), scored(0.9123, None)
    ('0.912 (95 % interval 0.899 to 0.925)', '0.9123')
    """
    decimals = interval_decimals(interval)
    if value is None or interval is None:
        return score(value)
    low, high = (score(bound, decimals) for bound in interval)
    return f"{score(value, decimals)} ({words}{low} to {high})"


def format_duration(seconds: float | None) -> str:
    """Seconds in the two largest units that matter.

    >>> [format_duration(seconds) for seconds in (0.042, 7.31, 192, 7500, 277200, None)]
    ['0.04 s', '7.3 s', '3 min 12 s', '2 h 05 min', '3 d 5 h', '–']
    """
    if seconds is None:
        return MISSING_VALUE
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def count(number: int | None) -> str:
    """A count of parameters, to three digits.

    >>> count(22_713_216), count(4_620), count(0), count(1_500_000_000), count(999_999), count(None)
    ('22.7 M', '4.62 k', '0', '1.5 G', '1 M', '–')
    """
    if number is None:
        return MISSING_VALUE
    if number < 1000:
        return str(number)
    power = min(3, int(math.log10(float(f"{number:.3g}"))) // 3)
    return f"{number / 1000**power:.3g} {' kMG'[power]}"


def pluralize(number: int, noun: str) -> str:
    """A number with its noun in the right form.

    >>> pluralize(1, "trial"), pluralize(3, "trial")
    ('1 trial', '3 trials')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def parameter(value: Scalar) -> str:
    """The value of one hyperparameter, floats to four significant digits (in full in ``report.json``).

    >>> parameter(3.21987e-5), parameter(0.1), parameter(True), parameter("full"), parameter(None)
    ('3.22e-5', '0.1', 'true', 'full', 'none')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e+")
    return str(value)


def listed(words: list[str]) -> str:
    """Words as a list in a sentence.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def format_utc(unix_s: float | None) -> str:
    """A Unix time as date and time in UTC.

    >>> format_utc(0.0)
    '1970-01-01 00:00:00 UTC'
    """
    return MISSING_VALUE if unix_s is None else f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def shorten_line(text: str, length: int = 60) -> str:
    """Text on one line, cut to ``length`` characters.

    >>> shorten_line("a  b\\nc"), shorten_line("abcdef", length=4)
    ('a b c', 'abc…')
    """
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"
