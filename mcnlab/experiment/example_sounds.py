"""The sounds of a few clips, kept beside a run's results, so that a report is heard without the store."""

from pathlib import Path

import pandas as pd

from mcnlab.data.recording_sound import sound_of_clip
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
        clips: the evaluated ones, as the store has them, in the order of the embeddings.
    """
    numbers = clips.groupby("recording").cumcount().to_numpy()
    rows = []
    for place in clips_to_hear(RunFolder(folder), settings.trained_modalities):
        clip = clips.iloc[place]
        start_s, end_s = float(clip["start_s"]), float(clip["end_s"])
        number, row = int(numbers[place]), int(clip["recording"])
        wav = None
        if clip["has_audio"]:
            wav = sound_of_clip(store, row, number, start_s=start_s, end_s=end_s, longest_s=LONGEST_S)
        if wav is not None:
            rows.append({"id": clip["id"], "wav": wav, "cut": end_s - start_s > LONGEST_S})
    write_table(folder / SOUNDS_FILE, pd.DataFrame(rows, columns=["id", "wav", "cut"]))
