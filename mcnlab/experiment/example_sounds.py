"""The sounds of a few clips, kept beside a run's results, so that a report is heard without the store."""

import io
import wave
from pathlib import Path

import pandas as pd

from mcnlab.data.clip_media import clip_media
from mcnlab.data.store import Store
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.tables import write_table
from mcnlab.reporting.gallery import SOUNDS_FILE, clips_to_hear
from mcnlab.runs import RunFolder

LONGEST_S = 3.0
"""A sound is cut after so long: a page holds some thirty of them."""


def keep_example_sounds(folder: Path, settings: ExperimentSettings, store: Store, clips: pd.DataFrame) -> None:
    """Write the sounds of the clips that the report's gallery shows into the run folder.

    Args:
        folder: of an evaluated run, with its embeddings and clips.
        settings: of the run.
        store: where the clips lie.
        clips: the evaluated ones, in the order of the embeddings.
    """
    rows = []
    for place in clips_to_hear(RunFolder(folder), settings.trained_modalities):
        clip = clips.iloc[place]
        wav = clip_media(store, str(clip["id"])).wav if clip["has_audio"] else None
        if wav is not None:
            begin = beginning(wav, longest_s=LONGEST_S)
            rows.append({"id": clip["id"], "wav": begin, "cut": len(begin) < len(wav)})
    write_table(folder / SOUNDS_FILE, pd.DataFrame(rows, columns=["id", "wav", "cut"]))


def beginning(wav: bytes, *, longest_s: float) -> bytes:
    """The first seconds of a WAV file.

    Args:
        wav: the file.
        longest_s: what comes later is left out.

    Returns:
        A file of the same kind.
    """
    buffer = io.BytesIO()
    with wave.open(io.BytesIO(wav)) as whole, wave.open(buffer, "wb") as part:
        part.setparams(whole.getparams())
        part.writeframes(whole.readframes(round(longest_s * whole.getframerate())))
    return buffer.getvalue()
