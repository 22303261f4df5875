"""What deflation costs: single pictures in the network for pictures, beside the video network itself."""

from mcnlab.reporting.places import number
from mcnlab.reporting.summary import Column, StudySummary

TASK = "stills"
LEAST_SAID = 0.05
"""Points; less is written as nothing."""
DEFLATED, NAIVE, STATIC, MOVING = "deflated", "naive", "static", "clips"


def stills_answer(summary: StudySummary) -> tuple[str, str, tuple[str, ...]] | None:
    """Whether single pictures are told apart as well once a video network has lost its time axis.

    Args:
        summary: the study.

    Returns:
        Heading, the answer in a sentence, and a point for each experiment; None where no stills were classified.
    """
    behind = summary.intervals(Column("", TASK, (DEFLATED,), "behind_static"))
    if not behind:
        return None
    moving = summary.intervals(Column("", TASK, (DEFLATED,), "behind_clips"))
    points, further = (100 * max(one.value for one in found.values()) for found in (behind, moving))
    said = f"at most {points:.1f} points behind" if points >= LEAST_SAID else "nowhere behind"
    lead = (
        f"On single pictures the networks that lost their time axis are {said} the video networks that are shown the "
        "same picture as a clip in which nothing moves."
    )
    if further >= LEAST_SAID:
        lead += f" They are up to {further:.1f} points behind the video networks that see the clip move."
    return "What deflation costs", lead, tuple(_point(summary, name) for name in summary.experiments if name in behind)


def _point(summary: StudySummary, experiment: str) -> str:
    """One experiment: accuracy of all forms of its network, and how far the features are apart."""
    words = {
        DEFLATED: "deflated",
        NAIVE: "without fitted norms",
        STATIC: "video network on the picture",
        MOVING: "video network on the moving clip",
    }
    found = {w: number(summary, TASK, subject, "accuracy", experiment) for subject, w in words.items()}
    told = ", ".join(f"{w} {value}" for w, value in found.items() if value)
    errors = (number(summary, TASK, subject, "relative_l1", experiment) for subject in (DEFLATED, NAIVE))
    apart = " against ".join(error for error in errors if error)
    chance = summary.level(TASK, STATIC, "chance")
    known = "" if chance is None else f" (chance {chance:.2f})"
    return f"{experiment}: named right{known}: {told}. Relative error of the features: {apart} without the fit."
