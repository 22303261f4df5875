"""Means and their intervals: in words, as a table, and as whiskers."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from mcnlab.metrics.statistics import Interval
from mcnlab.reporting.style import INK
from mcnlab.reporting.summary import Column, StudySummary


def interval_text(interval: Interval) -> str:
    """A mean with its interval in words.

    Example:
        >>> interval_text(Interval(0.5, 0.45, 0.56, 3))
        '0.500 [0.450, 0.560], 3 seeds'
    """
    ends = "" if interval.low is None or interval.high is None else f" [{interval.low:.3f}, {interval.high:.3f}]"
    return f"{interval.value:.3f}{ends}, {interval.n} seed{'s' * (interval.n != 1)}"


def half_width_text(interval: Interval, *, sign: str = "") -> str:
    """A mean with half its interval.

    Args:
        interval: the mean; without an interval it stands alone.
        sign: `+` writes a plus before what is above 0, as differences need it.

    Example:
        >>> half_width_text(Interval(-0.5, -0.55, -0.45, 3), sign="+")
        '−0.500 ± 0.050'
    """
    spread = "" if interval.low is None or interval.high is None else f" ± {(interval.high - interval.low) / 2:.3f}"
    return f"{interval.value:{sign}.3f}{spread}".replace("-", "−")


def interval_table(summary: StudySummary, columns: Sequence[Column]) -> pd.DataFrame:
    """The drawn means with their intervals, as text."""
    cells = {column.title: {k: interval_text(v) for k, v in summary.intervals(column).items()} for column in columns}
    return pd.DataFrame(cells).reindex(summary.experiments).rename_axis(index="experiment")


def told_interval(intervals: Mapping[str, Interval], name: str) -> str:
    """A mean with its interval, or nothing."""
    return interval_text(intervals[name]) if name in intervals else ""


def cut(interval: Interval, *, least: float = -math.inf, most: float = 1.0) -> Interval:
    """An interval that ends where a value can be no lower or higher.

    Example:
        >>> cut(Interval(0.75, -0.25, 1.25, 3), least=0.0)
        Interval(value=0.75, low=0.0, high=1.0, n=3)
    """
    low = None if interval.low is None else max(interval.low, least)
    return interval._replace(low=low, high=None if interval.high is None else min(interval.high, most))


def whiskers(
    intervals: Sequence[Interval],
    *,
    least: float = -math.inf,
    most: float = math.inf,
    color: str = INK,
    thickness: float = 1.2,
    width: int = 3,
) -> dict[str, object]:
    """Plotly's error bars.

    Args:
        intervals: of the points or bars, in order; one without an interval gets no whisker.
        least, most: what a value can be, where whiskers end.
        color: of the lines.
        thickness: of the lines in pixels.
        width: half the width of their caps in pixels.

    Returns:
        What plotly takes as `error_x` or `error_y`.

    Example:
        >>> whiskers([Interval(0.75, 0.5, 1.25, 3)], most=1.0)["array"]
        [0.25]
    """
    ends = [cut(one, least=least, most=most) for one in intervals]
    return {
        "type": "data",
        "symmetric": False,
        "array": [0.0 if one.high is None else one.high - one.value for one in ends],
        "arrayminus": [0.0 if one.low is None else one.value - one.low for one in ends],
        "color": color,
        "thickness": thickness,
        "width": width,
    }
