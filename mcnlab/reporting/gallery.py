"""Examples of retrieval to look at, read and hear: the best, the median and the worst query of each direction."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mcnlab.errors import DataError
from mcnlab.modalities import MODALITIES
from mcnlab.parquet import read_parquet
from mcnlab.reporting.addresses import picture_address, sound_address
from mcnlab.reporting.asked import Asked, asked, compared_embeddings
from mcnlab.reporting.examples import meeting_space
from mcnlab.reporting.overview import best_run
from mcnlab.reporting.style import shortened
from mcnlab.reporting.summary import KEY_DIRECTIONS, StudySummary, short_direction
from mcnlab.runs import RunFolder

SOUNDS_FILE = "sounds.parquet"
"""Beside the results of a run: id, wav, and whether it was cut, of the clips that its gallery shows."""
MOST_ASKED = 2_000
"""Queries among which the best, the median and the worst are looked for."""
SHOWN = 4
"""Clips that came first, of each query."""
MOST_BYTES = 3_000_000
"""Of sound on one page; base64 makes a third more of it."""
IN_WORDS = {"video": "video", "audio": "sound", "text": "caption"}


@dataclass(frozen=True)
class ShownClip:
    """A clip in the gallery."""

    caption: str
    picture: str
    """Data address; empty without one."""
    sound: str
    """Data address; empty without one."""
    cut: bool
    """Whether only the beginning of the sound is there."""
    right: bool
    score: float
    """Cosine with the query; 1 for the query itself."""


@dataclass(frozen=True)
class Example:
    """A query and what came first."""

    kind: str
    """One of `asked.EXTREMES`."""
    rank: int
    query: ShownClip
    found: tuple[ShownClip, ...]


@dataclass(frozen=True)
class Gallery:
    """The examples of one direction, from its best run."""

    direction: str
    asked_for: str
    """What was looked for, in a word."""
    asked_with: str
    """What the query showed, in a word."""
    queries: int
    """How many were asked."""
    clips: int
    run: str
    examples: tuple[Example, ...]
    silent: bool
    """Whether no sound was kept."""


def directions_of(modalities: Sequence[str]) -> list[str]:
    """Every way to ask one of the three for another.

    Args:
        modalities: that were trained.

    Returns:
        `text->video` and so on.
    """
    return [f"{a}->{b}" for a, b in itertools.permutations([m for m in MODALITIES if m in modalities], 2)]


def galleries(summary: StudySummary, *, most_bytes: int = MOST_BYTES) -> list[Gallery]:
    """Examples of every direction between two modalities that the study asked.

    Args:
        summary: the study.
        most_bytes: of sound, in all; later clips are silent.

    Returns:
        Those that tables show come first; without those that no run trained or kept.
    """
    has = summary.subjects("retrieval")
    measured = [
        one for one in dict.fromkeys((*KEY_DIRECTIONS, *has)) if one in has and one in directions_of(MODALITIES)
    ]
    left, found = most_bytes, []
    for direction in measured:
        try:
            run = best_run(summary, direction)
            told, clips, sounds = _told(run, direction), run.clips(), kept_sounds(run)
        except DataError:  # nobody trained it, or the run has kept no embeddings
            continue
        chosen = told.extremes()
        if not chosen:
            continue
        wanted = {str(clips["id"].iloc[place]) for place in heard_places(told, direction, chosen)}
        found_heard = direction.endswith("->audio")
        heard = {name: sounds[name] for name in sorted(wanted & set(sounds))}
        loud = sum(len(wav) for wav, _ in heard.values())
        heard, left = (heard, left - loud) if loud <= left else ({}, left)
        shown = _Shown(clips, heard, found_heard)
        examples = tuple(_example(told, kind, row, shown) for kind, row in chosen.items())
        asked_with, asked_for = (IN_WORDS[one] for one in direction.split("->"))
        found.append(
            Gallery(
                direction=short_direction(direction),
                asked_for=asked_for,
                asked_with=asked_with,
                queries=len(told.places),
                clips=len(clips),
                run=f"{run.experiment}, seed {run.seed}",
                examples=examples,
                silent=not heard,
            )
        )
    return found


def kept_sounds(run: RunFolder) -> dict[str, tuple[bytes, bool]]:
    """The sounds that an evaluated run has kept.

    Args:
        run: any.

    Returns:
        Clip id to a WAV file, and whether it is only the beginning; empty where there are none.
    """
    path = Path(run.path) / SOUNDS_FILE
    if not path.exists():
        return {}
    table = read_parquet(path)
    return {str(name): (wav, bool(cut)) for name, wav, cut in zip(table["id"], table["wav"], table["cut"], strict=True)}


def clips_to_hear(run: RunFolder, modalities: Sequence[str]) -> list[int]:
    """Which clips of a run its gallery would like to sound.

    Args:
        run: evaluated.
        modalities: that it trained.

    Returns:
        Rows of its clips, each once, in order.
    """
    places: set[int] = set()
    for direction in directions_of(modalities):
        try:
            told = _told(run, direction)
        except DataError:  # the graph lets them meet nowhere
            continue
        places |= heard_places(told, direction, told.extremes())
    return sorted(places)


def heard_places(told: Asked, direction: str, chosen: Mapping[str, int]) -> set[int]:
    """The queries of some examples, and what came first where sounds were asked for."""
    rows = list(chosen.values())
    found = [told.found(row, shown=SHOWN) for row in rows] if direction.endswith("->audio") else []
    return {int(told.places[row]) for row in rows} | {int(place) for places in found for place in places}


def _told(run: RunFolder, direction: str) -> Asked:
    """All queries of a direction."""
    return asked(
        *compared_embeddings(run.embeddings(), direction, space=meeting_space(run, direction)), most=MOST_ASKED
    )


@dataclass(frozen=True)
class _Shown:
    """What is known of the clips of a run."""

    clips: pd.DataFrame
    heard: Mapping[str, tuple[bytes, bool]]
    found_heard: bool
    """Whether what came first has players, because sounds were asked for."""

    def clip(self, place: int, *, right: bool, score: float, silent: bool = False) -> ShownClip:
        """One of them, ready for the page."""
        row = self.clips.iloc[place]
        picture = row.get("thumbnail")
        wav, cut = (None, False) if silent else self.heard.get(str(row["id"]), (None, False))
        return ShownClip(
            shortened(str(row["caption"] or row["id"]), longest=140),
            picture_address(picture),
            sound_address(wav),
            cut,
            right,
            score,
        )


def _example(told: Asked, kind: str, row: int, shown: _Shown) -> Example:
    """A query with what came first."""
    place, scores = int(told.places[row]), told.scores(row)
    found = tuple(
        shown.clip(
            int(other),
            right=int(other) == place,
            score=float(scores[other]),
            silent=not shown.found_heard,
        )
        for other in told.found(row, shown=SHOWN)
    )
    return Example(kind, int(told.ranks[row]), shown.clip(place, right=True, score=1.0), found)
