"""The settings of what is measured after training."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    PositiveInt,
)

from mcnlab.config import Settings

Task = Literal[
    "retrieval",
    "clusters",
    "retention",
    "geometry",
    "actions",
    "bound",
    "transfer",
    "finetune",
    "stills",
    "unseen",
    "classify",
    "detection",
    "explanation",
    "localization",
]
"""What can be measured."""


class EvaluationSettings(Settings):
    """What is measured after training, on clips that were not trained on."""

    split: str | None = None
    """Held-out split; `test` when the store has it, else `val`."""
    tasks: tuple[Task, ...] = (
        "retrieval",
        "clusters",
        "retention",
        "geometry",
    )
    """What to measure. Only when they are named: `actions` searches whole recordings for their steps, `bound` tells the
    information that the embeddings of a pair share at least, `transfer` classifies by linear probes, after few examples
    or many, `finetune` by training whole towers, `stills` classifies single frames with the deflated video backbone,
    `unseen` finds clips of classes that were not trained on, and asks whether classes lie as language says, `classify`
    asks the model's own classifiers for the classes of clips, `detection` finds things by sound and by the detector of
    the term `detect`, `explanation` asks where and when the attention of the term `explain` points, and what clips are
    worth without its parts, `localization` where the heat maps of the term `localize` point."""
    clusters: PositiveInt | None = None
    """Clusters of the evaluation's k-means; the number of classes when not given."""
    also: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")], Path] = Field(default_factory=dict)
    """Other stores, by name, on whose held-out split retrieval is measured too, without training on them."""
    by_video: bool = False
    """Also ask by text for any clip of the right video, and for the video as a whole."""
    queries_total: dict[str, PositiveInt] = Field(default_factory=dict)
    """Also divide hits by this many queries, so that clips which are not there count as mistakes; by the name in
    `also`, or `own`. Published for MSR-VTT: 1000."""
    network: Path | None = None
    """Folder of a text network that says, for the task `unseen`, how classes lie (it reads `a photo of a {}`); what the
    term `guide` reads, or else the store's words, when not given. Experiments that are compared need the same."""
