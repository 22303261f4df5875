"""MiningYouTube: from subtitles, labels or matrices and published features to a store of videos with ordered steps."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcnlab.data.importers.crosstask import PUBLISHED_FRAMES, published_visual
from mcnlab.data.importers.crosstask_files import read_names, read_steps_json, read_text
from mcnlab.data.importers.mining_youtube_files import Segments, annotated_ids, read_classes, read_segments
from mcnlab.data.importers.recordings import Reading, import_recordings
from mcnlab.data.importers.report import ImportReport
from mcnlab.data.importers.step_features import FeatureFolder, open_features, safe_names
from mcnlab.data.importers.steps import StepVideo, clean_text, read_step_video, store_tracks, words_of
from mcnlab.errors import ConfigError, DataError


def import_mining_youtube(
    annotations: Path,
    out: Path,
    *,
    features: Path,
    videos: Path | None = None,
    classes: Path | None = None,
    steps: Path | None = None,
    audio: Path | None = None,
    held_out: Path | None = None,
    rate_hz: float = 1.0,
    words: Path | None = None,
    name: str = "MiningYouTube",
    word_dim: int = 64,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Make a store of MiningYouTube: a recording per video, a clip per action in its order, background left out.

    Args:
        annotations: folder of `ID.srt`, of labels per row (`ID.gt`, `ID.txt`), or of `ID.npy` (rows, steps).
        out: folder of the new store; it must not exist.
        features: folder of `ID.npy`, or of `ID_2d.npy` with `ID_3d.npy`.
        videos: ids, one per line; None takes all that have annotations.
        classes: `mapping.txt`; only to tell which labels are not in it, and to know their words.
        steps: JSON `{video: [text, …]}`, the columns of the matrices.
        audio: folder of `ID.npz` with `arr_0`, log-mel of 40 bands.
        held_out: ids; these videos make the split `test`, all others `train`. None: all are `test`.
        rate_hz: rows per second of features, labels and matrices.
        words: file of word vectors; None trains them on the texts of classes and steps.
        name: what reports call the store.
        word_dim: width of trained word vectors.
        seed: of the training of word vectors.
        progress: called with videos done and all.

    Returns:
        What became of every video.

    Raises:
        ConfigError: `rate_hz` is not positive.
        DataError: a file or folder is missing or wrong as a whole, or nothing can be used.
        StorageError: the store cannot be written, or exists.

    Source:
        Kuehne et al. 2019, arXiv 1906.01012. Texts are the classes with spaces for underscores; a label that is not
        among the classes is kept as its annotator wrote it.
    """
    if not rate_hz > 0:
        raise ConfigError(f"rate must be positive, got {rate_hz}")
    listed = annotated_ids(annotations)
    if videos is not None:
        listed = [line.strip() for line in read_text(videos).splitlines() if line.strip()]
    known = () if classes is None else tuple(clean_text(one) for one in read_classes(classes))
    columns = {} if steps is None else read_steps_json(steps)
    folder = open_features(features, [[id_] for id_ in listed], rate_hz=rate_hz)
    read = {id_: _segments(annotations, id_, rate_hz, columns.get(id_)) for id_ in dict.fromkeys(listed)}
    texts = [text for one in read.values() if not isinstance(one, str) for text in one[0]]
    reader = _Reader(read, None if held_out is None else read_names(held_out), folder, audio)
    strange = Counter(text for text in texts if known and text not in known)
    notes = (
        [f"{sum(strange.values())} steps of {len(strange)} classes are not in {classes.name}"]
        if classes and strange
        else []
    )
    hop_s = max(1.0, 1.0 / rate_hz)
    return import_recordings(
        listed,
        reader,
        out,
        name=name,
        tracks=store_tracks(folder, audio),
        words=words_of([*known, *texts, "background"], words, dim=word_dim, seed=seed),
        info={
            "kind": "mining_youtube",
            "action_frames": {**PUBLISHED_FRAMES, "hop_s": hop_s, "video_s": [0.0, hop_s]},
            "visual": published_visual(folder),
        },
        notes=notes,
        progress=progress,
    )


@dataclass(frozen=True)
class _Reader:
    """Reads one listed video."""

    segments: Mapping[str, Segments | str]
    """By id: what is annotated, or why that cannot be used."""
    held_out: frozenset[str] | None
    features: FeatureFolder
    audio: Path | None
    seen: set[str] = field(default_factory=set)
    """Ids that were read already."""

    def __call__(self, id_: str) -> Reading:
        """A recording, or why there is none."""
        if id_ in self.seen:
            return Reading(id_, None, ("it stands in the list a second time",))
        self.seen.add(id_)
        found = self.segments[id_]
        if isinstance(found, str):
            return Reading(id_, None, (found,))
        texts, steps, rows, problems = found
        split = "test" if self.held_out is None or id_ in self.held_out else "train"
        media = {"kind": "mining_youtube", "task": id_}
        video = StepVideo(id_, (id_,), split, texts, steps, media, rows=rows, problems=problems)
        return read_step_video(video, self.features, self.audio)


def _segments(folder: Path, id_: str, rate_hz: float, steps: Sequence[str] | None) -> Segments | str:
    """What is annotated of a video, or why that cannot be used."""
    names = safe_names([id_])
    if not names:
        return "an id that cannot be a file name"
    try:
        return read_segments(folder, names, rate_hz=rate_hz, steps=steps)
    except DataError as error:
        return str(error)
