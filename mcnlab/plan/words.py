"""Numbers as a person reads them: two digits and a unit."""

import math

Number = int | float
SIZES = ("B", "kB", "MB", "GB", "TB", "PB")
COUNTS = ("", " thousand", " million", " billion", " trillion")
RATES = ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP")

TIMES = (
    ("years", 63_115_200, 31_557_600),
    ("days", 259_200, 86_400),
    ("h", 5_400, 3_600),
    ("min", 120, 60),
    ("s", 1, 1),
)
"""Unit of a duration, seconds from which it is used, seconds that it lasts."""


def rounded(value: Number, digits: int = 2) -> str:
    """A number with so many digits that count.

    Example:
        >>> rounded(1234.0), rounded(0.01234), rounded(0.0)
        ('1,200', '0.012', '0')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    place = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, place):,.{max(0, place)}f}"


def size_in_words(count: Number) -> str:
    """Bytes, in steps of a thousand.

    Example:
        >>> size_in_words(8.1e12)
        '8.1 TB'
    """
    return _stepped(count, SIZES, " ")


def work_in_words(flops: Number) -> str:
    """Floating-point operations.

    Example:
        >>> work_in_words(2.5e10)
        '25 GFLOP'
    """
    return _stepped(flops, RATES, " ")


def count_in_words(count: Number) -> str:
    """How many.

    Example:
        >>> count_in_words(1_220_000), count_in_words(12)
        ('1.2 million', '12')
    """
    return f"{count:,.0f}" if count < 1e5 else _stepped(count, COUNTS, "")


def time_in_words(seconds: Number) -> str:
    """A duration in the unit that suits it.

    Example:
        >>> time_in_words(0.012), time_in_words(200_000), time_in_words(9e6)
        ('12 ms', '56 h', '100 days')
    """
    if seconds == 0:
        return "0 s"
    for unit, least, length in TIMES:
        if seconds >= least:
            return f"{rounded(seconds / length)} {unit}"
    return f"{rounded(seconds * 1e3)} ms" if seconds >= 1e-3 else f"{rounded(seconds * 1e6)} µs"


def _stepped(value: Number, units: tuple[str, ...], gap: str) -> str:
    """A number in the largest unit that leaves it at least 1."""
    power = 0 if value < 1 else min(len(units) - 1, int(math.log10(value) / 3 + 1e-9))
    return f"{rounded(value / 1000**power)}{gap}{units[power]}"
