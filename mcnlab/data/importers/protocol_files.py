"""The official files of classification data sets: who is in which split, and of which class."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mcnlab.data.protocol import Member, Protocol
from mcnlab.errors import ConfigError, DataError, reading_error

MEDIA_ENDINGS = (
    *(".avi", ".mp4", ".webm", ".mkv", ".mov", ".m4v", ".wav", ".flac", ".ogg", ".mp3", ".m4a"),
    *(".jpg", ".jpeg", ".png"),
)
"""What a clip's media file may end in, in letters of any case."""
SPLITS_OF_THREE = ("1", "2", "3")
_VIDEO = re.compile(r"([^/]+)/([^/]+)\.avi")
_HMDB = re.compile(r"(.+)_test_split([123])\.txt")


@dataclass
class ListedClip:
    """A clip as official files name it."""

    id: str
    labels: tuple[str, ...]
    roles: list[str]
    """One per split."""
    names: tuple[str, ...] = ()
    """What its files may be called besides its id, without ending; folders are allowed."""


@dataclass(frozen=True)
class Listing:
    """All that official files say of a data set."""

    kind: str
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    clips: Mapping[str, ListedClip]
    multi_label: bool = False

    def protocol(self) -> Protocol:
        """The same as a store keeps it."""
        members = {clip.id: Member(clip.labels, tuple(clip.roles)) for clip in self.clips.values()}
        return Protocol(self.kind, self.splits, self.classes, members, self.multi_label)


def read_ucf101(folder: Path) -> Listing:
    """UCF101: `classInd.txt`, `trainlist01.txt` to `03`, `testlist01.txt` to `03`.

    Args:
        folder: where they lie; a folder of that name inside is found too.

    Returns:
        Three splits of 101 classes; fewer where lists are missing on both sides.

    Raises:
        DataError: a file is missing, a line is of another form, or a class contradicts another file.
    """
    home = _home_of(folder, "classInd.txt")
    numbers = {name: int(number) for number, name in _two(home / "classInd.txt")}
    splits = [split for split in SPLITS_OF_THREE if (home / f"trainlist0{split}.txt").is_file()]
    if not splits:
        raise DataError(f"{home}: no trainlist01.txt")
    clips: dict[str, ListedClip] = {}
    for place, split in enumerate(splits):
        for role in ("train", "test"):
            file = home / f"{role}list0{split}.txt"
            for line, text in _lines(file):
                path, *number = text.split()
                match = _VIDEO.fullmatch(path)
                if match is None or len(number) != (role == "train"):
                    wanted = "CLASS/VIDEO.avi" + " NUMBER" * (role == "train")
                    raise DataError(f"{file}: line {line}: expected {wanted}, got {text!r:.80}")
                label, stem = match.groups()
                if label not in numbers or number not in ([], [str(numbers[label])]):
                    raise DataError(f"{file}: line {line}: {text!r:.80}: classInd.txt has another class or number")
                _put(clips, ListedClip(stem, (label,), [""] * len(splits), (f"{label}/{stem}",)), place, role, file)
    return Listing("ucf101", tuple(splits), tuple(sorted(numbers, key=lambda name: numbers[name])), clips)


def read_hmdb51(folder: Path) -> Listing:
    """HMDB51: `CLASS_test_split1.txt` to `3` with lines `VIDEO.avi 0|1|2`: not used, training, test.

    Args:
        folder: where they lie; a folder inside that holds them is found too.

    Returns:
        Three splits.

    Raises:
        DataError: there are no such files, or a line is of another form.
    """
    files = sorted(folder.rglob("*_test_split[123].txt"))
    if not files:
        raise DataError(f"{folder}: no CLASS_test_split1.txt")
    splits = sorted({file.stem[-1] for file in files})
    clips: dict[str, ListedClip] = {}
    classes: dict[str, None] = {}
    for file in files:
        label, split = _HMDB.fullmatch(file.name).groups()  # type: ignore[union-attr]
        classes[label] = None
        for line, text in _lines(file):
            name, _, number = text.rpartition(" ")
            if not name.endswith(".avi") or number not in ("0", "1", "2"):
                raise DataError(f"{file}: line {line}: expected VIDEO.avi 0, 1 or 2, got {text!r:.80}")
            stem = name.strip().removesuffix(".avi")
            role = ("", "train", "test")[int(number)]
            clip = ListedClip(stem, (label,), [""] * len(splits), (f"{label}/{stem}",))
            _put(clips, clip, splits.index(split), role, file)
    return Listing("hmdb51", tuple(splits), tuple(classes), clips)


def read_kinetics(path: Path) -> Listing:
    """Kinetics: CSV with label, youtube_id, time_start, time_end, split.

    Args:
        path: a CSV, or a folder of them: `train.csv`, `validate.csv`, `test.csv` and the like.

    Returns:
        One split; clips without a label (the test list of some releases) are left out.

    Raises:
        DataError: a column is missing, or a row is of another form.
    """
    clips: dict[str, ListedClip] = {}
    for file in _files(path, "*.csv"):
        for line, row in _rows(file, ("youtube_id", "time_start", "time_end", "label")):
            role = _role(row.get("split") or file.stem)
            start, end = (_seconds(file, line, row[name]) for name in ("time_start", "time_end"))
            if role is None:
                raise DataError(
                    f"{file}: row {line}: split: expected train, validate or test, got {row.get('split')!r}"
                )
            id_, label = f"{row['youtube_id']}_{start:06.0f}_{end:06.0f}", row["label"]
            if label:
                names = (f"{label}/{id_}", row["youtube_id"], f"{label}/{row['youtube_id']}")
                _put(clips, ListedClip(id_, (label,), [""], names), 0, role, file)
    return Listing("kinetics", ("1",), _classes(clips), clips)


def read_esc50(path: Path) -> Listing:
    """ESC-50: `esc50.csv` with filename, fold, category; split k tests fold k and trains on the others.

    Args:
        path: the CSV, or a folder that holds it.

    Returns:
        As many splits as folds, five in the published file.

    Raises:
        DataError: a column is missing, or there are fewer than two folds.
    """
    (file,) = _files(path, "**/esc50.csv")[:1]
    rows = list(_rows(file, ("filename", "fold", "category")))
    folds = sorted({row["fold"] for _, row in rows})
    if len(folds) < 2:
        raise DataError(f"{file}: fold: expected at least two folds, got {len(folds)}")
    clips: dict[str, ListedClip] = {}
    for _, row in rows:
        stem = row["filename"].removesuffix(".wav")
        roles = ["test" if row["fold"] == fold else "train" for fold in folds]
        clips[stem] = ListedClip(stem, (row["category"],), roles)
    return Listing("esc50", tuple(folds), _classes(clips), clips)


def read_audioset(folder: Path) -> Listing:
    """AudioSet: `class_labels_indices.csv` and `*_segments.csv` (comments, then `YTID, start, end, "mid,mid"`).

    Args:
        folder: where they lie. A file with `eval` in its name is the test set, others are for training.

    Returns:
        One split of many labels per clip, by their display names.

    Raises:
        DataError: a file is missing, a line is of another form, or a label is unknown.
    """
    (index,) = _files(folder, "class_labels_indices.csv")
    names = {row["mid"]: row["display_name"] for _, row in _rows(index, ("mid", "display_name"))}
    clips: dict[str, ListedClip] = {}
    for file in _files(folder, "*_segments.csv"):
        role = "test" if "eval" in file.stem else "train"
        for line, text in _lines(file):
            if text.startswith("#"):
                continue
            cells = next(csv.reader([text], skipinitialspace=True))
            if len(cells) != 4:
                raise DataError(f'{file}: line {line}: expected YTID, start, end, "labels", got {text!r:.80}')
            mids = cells[3].split(",")
            if strange := [mid for mid in mids if mid not in names]:
                raise DataError(f"{file}: line {line}: {index.name} has no label {strange[0]!r}")
            start, end = (_seconds(file, line, cell) for cell in cells[1:3])
            forms = (f"{start:.0f}", f"{start:.3f}", f"{start:.0f}_{end:.0f}", f"{start * 1000:.0f}_{end * 1000:.0f}")
            stems = (*(f"{cells[0]}_{form}" for form in forms), f"Y{cells[0]}")
            _put(clips, ListedClip(cells[0], tuple(names[mid] for mid in mids), [""], stems), 0, role, file)
    return Listing("audioset", ("1",), tuple(dict.fromkeys(names.values())), clips, multi_label=True)


def read_voc2007(folder: Path) -> Listing:
    """VOC 2007 classification: `CLASS_trainval.txt` (or `CLASS_train.txt` and `CLASS_val.txt`) and `CLASS_test.txt`.

    Lines are `IMAGE -1|0|1`. Difficult images (0) count as without the class; the official tool leaves them out.

    Args:
        folder: `ImageSets/Main`.

    Returns:
        One split of many labels per image.

    Raises:
        DataError: there are no such files, or a line is of another form.
    """
    clips: dict[str, ListedClip] = {}
    classes: dict[str, None] = {}
    for file in _files(folder, "*_*.txt"):
        label, _, part = file.stem.rpartition("_")
        role = {"trainval": "train", "train": "train", "val": "val", "test": "test"}.get(part)
        if role is None or (part != "trainval" and role != "test" and (folder / f"{label}_trainval.txt").is_file()):
            continue
        classes[label] = None
        for line, text in _lines(file):
            id_, *flag = text.split()
            if flag not in (["-1"], ["0"], ["1"]):
                raise DataError(f"{file}: line {line}: expected IMAGE -1, 0 or 1, got {text!r:.80}")
            known = clips.setdefault(id_, ListedClip(id_, (), [role]))
            known.labels += (label,) * (flag == ["1"])
    return Listing("voc2007", ("1",), tuple(classes), clips, multi_label=True)


def read_folders(folder: Path) -> Listing:
    """ImageNet's layout: `train/CLASS/FILE` and `val/CLASS/FILE` (or `test`); files of any kind.

    Args:
        folder: that holds them.

    Returns:
        One split; a clip is named `SPLIT-CLASS-FILE`, so that equal file names are no matter.

    Raises:
        DataError: there are no such folders.
    """
    clips: dict[str, ListedClip] = {}
    for file in sorted(path for path in folder.glob("*/*/*") if path.is_file() and not path.name.startswith(".")):
        part, label, name = file.relative_to(folder).parts
        role, stem = _role(part), name.removesuffix(file.suffix)
        if role is not None:
            id_ = f"{part}-{label}-{stem}"
            _put(clips, ListedClip(id_, (label,), [""], (f"{part}/{label}/{stem}",)), 0, role, file)
    if not clips:
        raise DataError(f"{folder}: no train/CLASS/FILE")
    return Listing("folders", ("1",), _classes(clips), clips)


READERS: Mapping[str, Callable[[Path], Listing]] = {
    "ucf101": read_ucf101,
    "hmdb51": read_hmdb51,
    "kinetics600": read_kinetics,
    "esc50": read_esc50,
    "audioset": read_audioset,
    "voc2007": read_voc2007,
    "folders": read_folders,
}
"""How each kind of data set is read."""


def read_listing(kind: str, path: Path) -> Listing:
    """The official files of a data set.

    Args:
        kind: one of `READERS`.
        path: their folder, or the file where there is one.

    Returns:
        What they say, under the kind's name.

    Raises:
        ConfigError: there is no such kind.
        DataError: a file is missing or of another form.
    """
    if kind not in READERS:
        raise ConfigError(f"kind: expected one of {', '.join(READERS)}, got {kind!r}")
    if not path.exists():
        raise DataError(f"{path}: no such file or folder of splits")
    found = READERS[kind](path)
    return Listing(kind, found.splits, found.classes, found.clips, found.multi_label)


def _put(clips: dict[str, ListedClip], clip: ListedClip, place: int, role: str, file: Path) -> None:
    """Give a clip its role in a split; a second one, or another class, is an error."""
    known = clips.setdefault(clip.id, clip)
    if known.labels != clip.labels:
        raise DataError(f"{file}: {clip.id!r} is {clip.labels[0]!r} here, but {known.labels[0]!r} before")
    if known.roles[place] not in ("", role):
        raise DataError(f"{file}: {clip.id!r} is in {role} and in {known.roles[place]} of the same split")
    known.roles[place] = role


def _classes(clips: Mapping[str, ListedClip]) -> tuple[str, ...]:
    """All classes of some clips, sorted."""
    return tuple(sorted({label for clip in clips.values() for label in clip.labels}))


def _role(name: str) -> str | None:
    """The role that a split's published name stands for."""
    for role, words in (("train", ("train",)), ("val", ("val",)), ("test", ("test", "eval"))):
        if any(word in name.lower() for word in words) and not (role == "val" and "eval" in name.lower()):
            return role
    return None


def _home_of(folder: Path, name: str) -> Path:
    """The folder that holds a file: this one, or one inside."""
    found = sorted(folder.rglob(name)) if folder.is_dir() else []
    if not found:
        raise DataError(f"{folder}: no {name}")
    return found[0].parent


def _files(path: Path, pattern: str) -> list[Path]:
    """The file itself, or those of a folder."""
    found = [path] if path.is_file() else sorted(path.glob(pattern))
    if not found:
        raise DataError(f"{path}: no {pattern.rpartition('/')[2]}")
    return found


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, numbered from 1."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise reading_error(error)(
            f"{file}: not a readable text file ({getattr(error, 'strerror', None) or error})"
        ) from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def _two(file: Path) -> Iterator[tuple[str, str]]:
    """Lines of a number and a name."""
    for line, text in _lines(file):
        number, _, name = text.partition(" ")
        if not number.isdigit() or not name:
            raise DataError(f"{file}: line {line}: expected NUMBER CLASS, got {text!r:.80}")
        yield number, name


def _rows(file: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV by column, numbered from 2."""
    rows = csv.DictReader([text for _, text in _lines(file)])
    for name in columns:
        if name not in (rows.fieldnames or ()):
            raise DataError(f"{file}: the column {name!r} is missing")
    for number, row in enumerate(rows, start=2):
        if any(row[name] is None for name in columns):
            raise DataError(f"{file}: row {number}: fewer cells than columns")
        yield number, {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}


def _seconds(file: Path, line: int, text: str) -> float:
    """A time in seconds."""
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{file}: line {line}: expected seconds, got {text!r:.80}") from None
