"""The learning rate of every step of a stage."""

import math


def warmup_then_cosine(step: int, *, base: float, warmup_steps: int, total_steps: int) -> float:
    """Learning rate that rises in a line from 0, then falls to 0 along half a cosine.

    Args:
        step: from 0; the first step of a warm-up has rate 0, as published.
        base: highest rate.
        warmup_steps: length of the rise, at least 0.
        total_steps: length of all, more than the warm-up.

    Returns:
        The rate; 0 past the end.

    Source: the schedule of MCN's release (2021).

    Example:
        >>> warmup_then_cosine(5, base=1.0, warmup_steps=10, total_steps=100)
        0.5
    """
    if step < warmup_steps:
        return base * step / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * base * (1 + math.cos(math.pi * min(1.0, progress)))
