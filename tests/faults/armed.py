"""Faults of files made to do harm: none is obeyed, none takes more time or memory than its size explains."""

import hashlib
import io
import json
import pickle
import random
import struct
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.armed_pickles import armed_pickles
from tests.faults.children import in_child
from tests.faults.mutated import look
from tests.faults.readers import KINDS, Kind, sound_copy
from tests.faults.registry import Trial, fault
from tests.repeated_text import columns_of_texts, repeat_text

BOMB = 2**27
"""Bytes that a small file promises or unpacks to; beyond what a reader may take."""
UNREAD = "checksum"
"""A column that only the maker of a store writes."""
Maker = Callable[[Path, bytes, random.Random], None]
"""Puts an armed file in the place of a sound one; gets an armed pickle, and the dice."""


def _plain(path: Path, armed: bytes, dice: random.Random) -> None:
    path.write_bytes(armed)


def _zip_with_pickle(path: Path, armed: bytes, dice: random.Random) -> None:
    """A torch file or an npz whose member is the pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("archive/data.pkl", "a.npy", "frames.npy"):
            archive.writestr(name, armed)
        archive.writestr("archive/version", b"3\n")


def _object_array(path: Path, armed: bytes, dice: random.Random) -> None:
    """An npy header of Python objects before the pickle; in an npz where that is read."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    content = buffer.getvalue() + armed
    if path.suffix == ".npy":
        path.write_bytes(content)
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", content)
        archive.writestr("frames.npy", content)


def _zip_bomb(path: Path, armed: bytes, dice: random.Random) -> None:
    """Zeros that unpack to far more than the file has, and an honest npy header before them."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (8, 4096, 4096, 3)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("a.npy", "w") as member:
            member.write(buffer.getvalue() + bytes(BOMB))
        for number in range(dice.choice([1, 100])):
            archive.writestr(f"{number}.npy", b"")


def _huge_shape(path: Path, armed: bytes, dice: random.Random) -> None:
    """An array header that promises more than all memory."""
    shape = dice.choice([(2**62,), (2**40, 2**20), (-1, 5), (2**63, 0)])
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    path.write_bytes(buffer.getvalue() + bytes(64))


def _huge_header(path: Path, armed: bytes, dice: random.Random) -> None:
    """A safetensors header that says it is enormous, or one of many names or of huge tensors."""
    tensor = {"dtype": "F16", "shape": [2**60, 4], "data_offsets": [0, 2**63 - 8]}
    header = json.dumps({"video": tensor, "vectors": tensor, "video_2d": tensor}).encode()
    length = dice.choice([2**63 - 1, 2**40, 2**31, len(header), 0])
    path.write_bytes(struct.pack("<Q", length) + header)


def _deep_json(path: Path, armed: bytes, dice: random.Random) -> None:
    """Brackets in brackets, a number of many digits, or very many small values."""
    content = dice.choice(["[" * 10**6, '{"a":' * 10**6, "9" * 10**6, '{"a": 1' + "0" * 10**6 + "}"])
    path.write_text(content)


def _yaml_bomb(path: Path, armed: bytes, dice: random.Random) -> None:
    """Aliases of aliases: ten to the ninth values in a few lines; an object tag; brackets in brackets."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    marker = path.with_name("executed")
    tag = f"study: !!python/object/apply:os.system ['touch {marker}']"
    whole = "base:\n  model: {dim: *a9}\n" + "experiments: [{experiment: *a9}]\nstudy: x\ntitle: t\nquestion: q"
    path.write_text(dice.choice(["\n".join([*lines, whole]), tag, "a: " + "[" * 10**4, "a: &a\n  b: *a", "? " * 2000]))


def _repeated_text(path: Path, armed: bytes, dice: random.Random) -> None:
    """One column of texts, or of lists of them, is one long text, repeated: some kilobytes that unpack to gigabytes."""
    name = dice.choice([name for name in columns_of_texts(path) if name != UNREAD])
    repeat_text(path, name, length=BOMB // 2, store_schema=dice.random() < 0.5)


def _lying_wav(path: Path, armed: bytes, dice: random.Random) -> None:
    """A sound header with a rate of zero, or beyond what any sound has, or channels without end.

    A length that the file does not have is no lie: programs that write into a pipe leave it so; what is there is read.
    """
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(3200))
    content = bytearray(path.read_bytes())
    at, value = dice.choice([(24, 0), (24, 2**32 - 1), (16, 2**32 - 1)])
    content[at : at + 4] = struct.pack("<I", value)
    if dice.random() < 0.3:
        content[22:24] = struct.pack("<H", 65535)
    path.write_bytes(content)


def _picture_bomb(path: Path, armed: bytes, dice: random.Random) -> None:
    """A PNG header of many gigapixels."""
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", *dice.choice([(2**31 - 1, 2**31 - 1), (60000, 60000), (2**20, 2**12), (0, 5)]))
    crc = __import__("zlib").crc32(bytes(content[12:29]))
    content[29:33] = struct.pack(">I", crc)
    path.write_bytes(content)


def _old_torch(path: Path, armed: bytes, dice: random.Random) -> None:
    """The layout of torch files before 1.6, with the pickle inside."""
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    path.write_bytes(magic + armed)


PLACES: tuple[tuple[str, str, Maker], ...] = (
    ("pickle", "", _plain),
    ("released weights", "", _plain),
    ("released weights", "", _zip_with_pickle),
    ("released weights", "", _old_torch),
    ("npz", "", _zip_with_pickle),
    ("npz", "", _object_array),
    ("npy", "", _object_array),
    ("checkpoint", "checkpoints/step_*/model.safetensors", _zip_with_pickle),
    ("npz", "", _zip_bomb),
    ("npy", "", _huge_shape),
    ("store", "shards/*", _huge_header),
    ("run", "embeddings.safetensors", _huge_header),
    ("run", "results.json", _deep_json),
    ("store", "store.json", _deep_json),
    ("captions", "", _deep_json),
    ("study", "", _yaml_bomb),
    ("run", "settings.yaml", _yaml_bomb),
    ("store", "manifest.parquet", _repeated_text),
    ("run", "clips.parquet", _repeated_text),
    ("wav", "", _lying_wav),
    ("png", "", _picture_bomb),
    ("pickle", "", _plain),
    ("pickle", "", _zip_with_pickle),
    ("store", "words.json", _plain),
    ("run", "ranks.parquet", _plain),
)
"""What is read, which file of it is armed, and how."""


def armed(trial: Trial) -> tuple[bytes, Path]:
    """One of the armed pickles, and the file that it makes when it is obeyed."""
    folder = trial.folder / "armed"
    folder.mkdir()
    cases = armed_pickles(folder, lambda name: str(folder / f"obeyed {name}"))
    name = list(cases)[trial.number % len(cases)]
    return cases[name], folder / f"obeyed {name}"


def _record(file: Path, path: Path) -> None:
    """Write size and checksum of an armed file where those of the sound one stood, as who armed it would."""
    for record, name in (
        (path / "store.json", file.relative_to(path).as_posix()),
        (file.with_name("state.json"), file.stem),
    ):
        if record.is_file() and record != file:
            info, content = json.loads(record.read_bytes()), file.read_bytes()
            if name in info.get("files", {}):
                info["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                record.write_text(json.dumps(info))


@fault(
    "armed-files",
    "armed pickles, containers, checkpoints, arrays, JSON, YAML, Parquet, sounds and pictures; bombs",
    "none obeyed; each named within 5 s and 1 GB; sound ones of the same kinds are read",
    trials=100,
    few=25,
)
def armed_file(trial: Trial) -> str:
    """Put an armed file in the place of a sound one, which is read before."""
    name, pattern, make = PLACES[trial.number % len(PLACES)]
    kind: Kind = KINDS[name]
    path = file = sound_copy(kind, trial.shared, trial.folder)
    assert in_child(lambda: look(kind, path, path)) == "read", "a sound one is not read"
    content, marker = armed(trial)
    if pattern:
        file = sorted(path.glob(pattern))[-1]
    make(file, content, trial.random)
    _record(file, path)
    try:
        said = in_child(lambda: look(kind, path, file))
    except AssertionError as error:
        raise AssertionError(f"{file.relative_to(trial.folder)}, {make.__name__}: {error}") from error
    obeyed = [one.name for one in (marker, file.with_name("executed")) if one.exists()]
    assert not obeyed, f"{file.name}, {make.__name__}: was obeyed: {obeyed[0]}"
    assert said == "named", f"{file.relative_to(trial.folder)}, {make.__name__}: was read as if it were sound"
    return f"{make.__name__.strip('_').replace('_', ' ')} named"
