"""One sound file or folder of each kind that mcnlab reads, and how it reads it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
from PIL import Image

from tests.faults.commands import run
from tests.faults.training import experiment, words
from tests.mini_study import write_study
from tests.test_unpickling import rows_of_clips

PIXELS = 16
LONG_S = 60.0


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    made: Callable[[Path], Path]
    """Makes a sound one in a folder, and gives the file, or the folder that is read as a whole."""
    read: Callable[[Path], object]
    """Reads it as mcnlab does; arrays in what it gives must be finite."""
    inside: tuple[str, ...] = ()
    """Patterns of the files of a folder that may be damaged, the last match each; none for a single file."""
    named_by_caller: bool = False
    """Whether the reader leaves the file's name to who called it, which knows the row of the table too."""


def _store(folder: Path) -> Path:
    experiment(folder)
    return folder / "store"


def _run(folder: Path) -> Path:
    if not (folder / "run").exists():
        run(words(folder, folder / "run"), folder / "log")
    return folder / "run"


def _read_store(path: Path) -> object:
    from mcnlab.data.store import describe, open_store

    store = open_store(path)
    describe(store)
    store.word_vectors, store.clips(), store.thumbnail(0), store.media(0)
    return _all_named(store.verify()) or [store[row].tracks for row in range(len(store))]


def _read_run(path: Path) -> object:
    from mcnlab.experiment.verify import verify_run
    from mcnlab.runs import RunFolder, list_runs

    found = RunFolder(path)
    problems = [problem for check in verify_run(path, recompute=False) for problem in check.problems]
    list_runs(path.parent)
    found.headlines(), found.embeddings(), found.clips(), found.ranks(), found.outcome
    return _all_named(problems)


def _all_named(problems: list[str]) -> None:
    """Raise as `mcnlab verify` does where something is wrong."""
    from mcnlab.errors import DataError

    if problems:
        raise DataError(" ".join(problems))


def _read_checkpoint(path: Path) -> object:
    from mcnlab.experiment import load_run

    return [parameter.detach().numpy() for parameter in load_run(path).model().parameters()]


def _read_study(path: Path) -> object:
    from mcnlab.study_plan import StudyFolders, plan_runs, read_study

    return plan_runs(read_study(path), StudyFolders(path.parent, "x"), path) and None


def _table(folder: Path) -> Path:
    path = folder / "clips.csv"
    lines = ["id,video,audio,start,end,fps,caption,label,split,factor:size"]
    lines += [f'c{n},v.npy,a.wav,0,1.5,8,"a ""{n}"", b",k{n % 3},train,{n / 7}' for n in range(30)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _read_table(path: Path) -> object:
    from mcnlab.data.importers.media_manifest import read_media_manifest

    rows = read_media_manifest(path).rows
    return [np.array([row.start_s, row.end_s or 0.0, row.fps or 0.0]) for row in rows]


def _sound(name: str) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        soundfile.write(folder / name, np.sin(np.arange(16000) * 0.2).astype(np.float32), 16000)
        return folder / name

    return made


def _read_sound(path: Path) -> object:
    from mcnlab.data.media_files import read_sound

    return [read_sound(path.parent, path.name, start_s=0.0, end_s=None, longest_s=LONG_S)]


def _video(folder: Path) -> Path:
    path = folder / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        voice = container.add_stream("aac", rate=16000)
        for number in range(10):
            pixels = np.full((32, 32, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(voice.encode(frame))
        container.mux(voice.encode(None))
    return path


def _read_video(path: Path) -> object:
    from mcnlab.data.media_files import read_picture, read_sound

    name = path.name
    picture = read_picture(path.parent, name, start_s=0, end_s=2, fps=None, frames_per_s=10, size_px=PIXELS)
    return [picture.frames, read_sound(path.parent, name, start_s=0, end_s=2)]


def _picture(name: str) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        pixels = np.random.default_rng(0).integers(255, size=(40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
        return folder / name

    return made


def _read_picture(path: Path) -> object:
    from mcnlab.data.media_files import read_picture

    source = f"{path.name}#frames" if path.suffix == ".npz" else path.name
    picture = read_picture(path.parent, source, start_s=0, end_s=1, fps=8, frames_per_s=8, size_px=PIXELS)
    return [picture.frames]


def _array(folder: Path) -> Path:
    np.save(folder / "a.npy", np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20))
    return folder / "a.npy"


def _read_array(path: Path) -> object:
    from mcnlab.data.arrays import read_npy, read_npz_member, to_float16
    from mcnlab.errors import DataError

    values = read_npz_member(path, "a") if path.suffix == ".npz" else read_npy(path)
    try:
        return [to_float16(values)]
    except DataError as error:  # as importers do
        raise DataError(f"{path}: {error}") from error


def _arrays(name: str, save: Callable[..., None]) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        values = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
        save(folder / name, a=values, frames=np.zeros((8, 20, 20, 3), np.uint8))
        return folder / name

    return made


def _pickle(folder: Path) -> Path:
    import pickle

    rows = [{name: value for name, value in row.items() if name != "2d"} for row in rows_of_clips()]
    (folder / "rows.pkl").write_bytes(pickle.dumps(rows, protocol=4))
    return folder / "rows.pkl"


def _read_pickle(path: Path) -> object:
    from mcnlab.data import load_published_pickle

    load_published_pickle(path)  # what its importers do with numbers is theirs to check
    return None


def _captions(folder: Path) -> Path:
    one = {"start": [0, 1.5, 3.0], "end": [1, 2.5, 4.0], "text": ["one", "two \u00e9", "three"]}
    (folder / "captions.json").write_text(json.dumps({f"v{number}": one for number in range(20)}))
    return folder / "captions.json"


def _read_captions(path: Path) -> object:
    from mcnlab.data.importers.howto100m_captions import checked_captions, open_captions

    known = open_captions(path).known
    found = [checked_captions(known[name]) for name in known]
    return [np.array([one.start_s, one.end_s], dtype=float) for one in found]


def _vectors(name: str) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        vectors = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
        with (folder / name).open("wb") as file:
            file.write(b"20 6\n")
            for number, vector in enumerate(vectors):
                text = " ".join(map(str, vector)).encode() + b"\n"
                file.write(f"word{number} ".encode() + (vector.tobytes() if name.endswith(".bin") else text))
        return folder / name

    return made


def _read_vectors(path: Path) -> object:
    from mcnlab.data.text import load_word_vectors

    return [load_word_vectors(path, [f"word{number}" for number in range(20)]).vectors]


def _weights(folder: Path) -> Path:
    torch.save({"state_dict": {"DAVEnet.conv1.weight": torch.zeros(4, 1, 40, 1)}}, folder / "released.pth")
    return folder / "released.pth"


def _read_weights(path: Path) -> object:
    from mcnlab.models.published import _read

    _read(path)
    return None


KINDS: dict[str, Kind] = {
    "store": Kind(
        _store,
        _read_store,
        ("store.json", "manifest.parquet", "words.json", "words.safetensors", "shards/*"),
    ),
    "run": Kind(
        _run,
        _read_run,
        (
            "settings.yaml",
            "metrics.jsonl",
            "results.json",
            "status.json",
            "provenance.json",
            "files.json",
            "embeddings.safetensors",
            "clips.parquet",
            "ranks.parquet",
        ),
    ),
    "checkpoint": Kind(
        _run, _read_checkpoint, ("checkpoints/step_*/state.json", "checkpoints/step_*/model.safetensors")
    ),
    "study": Kind(write_study, _read_study),
    "table": Kind(_table, _read_table),
    "wav": Kind(_sound("a.wav"), _read_sound, named_by_caller=True),
    "flac": Kind(_sound("a.flac"), _read_sound, named_by_caller=True),
    "mp4": Kind(_video, _read_video, named_by_caller=True),
    "jpg": Kind(_picture("p.jpg"), _read_picture, named_by_caller=True),
    "png": Kind(_picture("p.png"), _read_picture, named_by_caller=True),
    "npy": Kind(_array, _read_array),
    "npz": Kind(_arrays("a.npz", np.savez), _read_array),
    "packed npz": Kind(_arrays("b.npz", np.savez_compressed), _read_picture, named_by_caller=True),
    "pickle": Kind(_pickle, _read_pickle),
    "captions": Kind(_captions, _read_captions),
    "word vectors": Kind(_vectors("w.bin"), _read_vectors),
    "word vectors as text": Kind(_vectors("w.txt"), _read_vectors),
    "released weights": Kind(_weights, _read_weights),
}


def sound_copy(kind: Kind, shared: Path, folder: Path) -> Path:
    """A copy of a sound file or folder, which may be damaged."""
    made = kind.made(shared)
    target = folder / made.name
    if made.is_dir():
        return Path(shutil.copytree(made, target))
    if kind is KINDS["study"]:
        (folder / "store").symlink_to(shared / "store")
    return Path(shutil.copy2(made, target))
