"""Published pickles come back whole, and a pickle that wants anything else is refused before it can do it."""

import collections
import copyreg
import io
import os
import pickle
import subprocess
import sys
import traceback
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from mcnlab.data import load_published_pickle
from mcnlab.errors import DataError
from tests.armed_pickles import Call, armed_pickles, old_torch_file, raw, text

PROTOCOLS = range(6)
OBEY = """
import pickle, sys
for path in sys.argv[1:]:
    try:
        with open(path, "rb") as file:
            pickle.load(file)
    except Exception:
        pass
"""


def rows_of_clips(seed=0):
    random = np.random.default_rng(seed)
    return [
        {
            "id": f"video{number:06d}_{number}",
            "caption": "crème brûlée\nwith 2 eggs",
            "captions": ["one", "two"],
            "2d": random.normal(size=2048).astype(np.float32),
            "2d_full": np.asfortranarray(random.normal(size=(5, 2048)).astype(np.float16)),
            "audio": torch.from_numpy(random.normal(size=(40, 300))).float(),
            "part": torch.arange(12).reshape(3, 4)[:, 1:3].t(),
            "start": np.float64(1.5),
            "end": 7,
            "none": None,
            "flag": True,
            "pair": (1, 2.5),
            "order": collections.OrderedDict(a=1),
            "big": np.arange(3, dtype=">i4"),
            "names": np.array(["ab", "c"]),
            "empty": np.zeros((0, 4), np.float32),
            "bytes": b"\x00\xff",
            "nothing": b"",
        }
        for number in range(3)
    ]


def written(path, content, protocol=4):
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol))
    return path


def assert_same(ours, theirs):
    if isinstance(theirs, torch.Tensor):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    elif isinstance(theirs, np.ndarray):
        assert type(ours) is np.ndarray
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    elif isinstance(theirs, dict):
        assert type(ours) is dict
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, list | tuple):
        assert type(ours) is type(theirs)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        assert type(ours) is type(theirs)
        assert ours == theirs


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_clips_come_back_whole_in_every_protocol(tmp_path, protocol):
    rows = rows_of_clips()
    assert_same(load_published_pickle(written(tmp_path / "rows.pkl", rows, protocol)), rows)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_spelling_of_numpy_1_is_known_too(tmp_path, protocol):
    rows = [{"2d": np.arange(4, dtype=np.float32), "start": np.float32(2)}]
    content = pickle.dumps(rows, protocol=protocol)
    if protocol < 4:
        content = content.replace(b"cnumpy._core.", b"cnumpy.core.")
    else:
        content = pickle.dumps(rows, protocol=3).replace(b"cnumpy._core.", b"cnumpy.core.")
    assert b"cnumpy.core.multiarray" in content
    assert_same(load_published_pickle(written(tmp_path / "old.pkl", content)), rows)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int64, torch.bool])
def test_tensors_keep_their_type(tmp_path, dtype):
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    assert_same(load_published_pickle(written(tmp_path / "one.pkl", {"audio": tensor}, 2)), {"audio": tensor})


def test_a_tensor_with_a_gradient_and_a_parameter_come_back_as_plain_tensors(tmp_path):
    held = [torch.ones(2, requires_grad=True), torch.nn.Parameter(torch.zeros(3))]
    ours = load_published_pickle(written(tmp_path / "held.pkl", held))
    assert [tensor.requires_grad for tensor in ours] == [False, False]
    assert_same(ours, [torch.ones(2), torch.zeros(3)])


def test_tensors_of_older_releases_and_of_a_gpu_come_back_on_the_cpu(tmp_path):
    """Before torch 0.4 a tensor had four parts; a file that was written beside a GPU names it."""
    flat = torch.arange(6, dtype=torch.float32)
    storage = old_torch_file(flat._typed_storage())
    elsewhere = storage.replace(b"ctorch\nFloatStorage", b"ctorch.cuda\nFloatStorage")
    elsewhere = elsewhere.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
    assert len(elsewhere) == len(storage) + len(".cuda") + len("cuda:0") - len("cpu")
    for nested in (storage, elsewhere):
        content = raw("torch._utils", "_rebuild_tensor") + b"(" + raw("torch.storage", "_load_from_bytes")
        content += (
            b"B" + len(nested).to_bytes(4, "little") + nested + b"\x85R" + b"K\x01K\x02K\x02\x86K\x02K\x01\x86tR."
        )
        tensor = load_published_pickle(written(tmp_path / "old.pkl", content))
        assert_same(tensor, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        assert tensor.device.type == "cpu"


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.pkl")
    with pytest.raises(DataError, match="no such file"):
        load_published_pickle(tmp_path / "pipe.pkl")


def test_shared_and_transposed_parts_come_back_equal(tmp_path):
    shared = np.arange(6.0).reshape(2, 3)
    rows = [{"a": shared, "b": shared}, {"a": shared.T[::2]}]
    assert_same(load_published_pickle(written(tmp_path / "shared.pkl", rows)), rows)


def test_a_file_of_python_2_is_read(tmp_path):
    """Written by hand as Python 2 and numpy 1.16 would: byte strings for keys, texts and the array's content."""
    array = np.array([1.5, -2.0, 3.25], dtype="<f4")

    def string(value):
        return b"U" + bytes([len(value)]) + value

    reconstruct = raw("numpy.core.multiarray", "_reconstruct") + raw("numpy", "ndarray") + b"K\x00\x85" + string(b"b")
    dtype = raw("numpy", "dtype") + string(b"f4") + b"K\x00K\x01\x87R(K\x03" + string(b"<") + b"NNNJ\xff\xff\xff\xff"
    dtype += b"J\xff\xff\xff\xffK\x00tb"
    filled = reconstruct + b"\x87R(K\x01K\x03\x85" + dtype + b"\x89" + string(array.tobytes()) + b"tb"
    caption = string("sauté".encode())
    content = b"\x80\x02](}(" + string(b"2d") + filled + string(b"caption") + caption + b"ue."
    ours = load_published_pickle(written(tmp_path / "python2.pkl", content))
    assert_same(ours, [{"2d": array, "caption": "sauté".encode().decode("latin1")}])


def test_keys_of_type_bytes_become_text(tmp_path):
    assert load_published_pickle(written(tmp_path / "bytes.pkl", [{b"id": "a"}])) == [{"id": "a"}]


def test_a_large_file_is_held_in_memory_once(tmp_path):
    rows = [{"audio": torch.zeros(40, 5000), "2d": np.zeros((40, 5000), np.float32)} for _ in range(20)]
    for protocol in (2, 4):
        path = written(tmp_path / "large.pkl", rows, protocol)
        arrays = 20 * 40 * 5000 * 4
        tracemalloc.start()
        load_published_pickle(path)
        peak = tracemalloc.get_traced_memory()[1]  # torch's own memory is not traced: only the arrays should be
        tracemalloc.stop()
        assert peak < 1.5 * arrays


@pytest.fixture(scope="module")
def armed(tmp_path_factory):
    """Folder, and the armed files by name, before anyone has obeyed them."""
    folder = tmp_path_factory.mktemp("armed")
    cases = armed_pickles(folder, lambda name: str(folder / f"marker {name}"))
    return folder, {name: written(folder / f"{name}.pkl", content) for name, content in cases.items()}


def markers(folder):
    return {path.name.removeprefix("marker ") for path in folder.glob("marker *")}


def test_armed_files_are_refused_and_none_is_obeyed(armed):
    folder, files = armed
    assert len(files) >= 15
    for name, path in files.items():
        with pytest.raises(DataError, match="refused, since it is more than plain data") as refusal:
            load_published_pickle(path)
        assert str(path) in str(refusal.value), name
        assert markers(folder) == set(), name


def test_the_armed_files_would_have_worked(armed):
    folder, files = armed
    subprocess.run([sys.executable, "-W", "ignore", "-c", OBEY, *map(str, files.values())], check=True, timeout=60)
    assert markers(folder) == set(files)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("system", "posix.system"),
        ("dotted", "torch.serialization.os.system"),
        ("numpy.load", "numpy.load"),
        ("nested storage", "posix.system"),
        ("object array", "an array of Python objects"),
        ("inst", "os.system"),
        ("state", "functools.partial"),
    ],
)
def test_a_refusal_names_what_the_file_wanted(armed, name, wanted):
    _, files = armed
    with pytest.raises(DataError) as refusal:
        load_published_pickle(files[name])
    assert wanted in str(refusal.value)
    said_in_full = "".join(traceback.format_exception(refusal.value))
    assert "trusted source" not in said_in_full  # torch's own text says how to switch safety off


NUMPY = "numpy._core.multiarray"
F4 = raw("numpy", "dtype") + text("f4") + b"\x89\x88\x87R"
ARRAY = raw(NUMPY, "_reconstruct") + raw("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
HUGE = b"\x8a\x05\x00\x00\x00\x00\x01"  # 2^32
STORAGE = old_torch_file(torch.zeros(4)._typed_storage())
TENSOR = raw("torch._utils", "_rebuild_tensor_v2") + b"(" + raw("torch.storage", "_load_from_bytes")
TENSOR += b"B" + len(STORAGE).to_bytes(4, "little") + STORAGE + b"\x85R"


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (ARRAY + b"(K\x01" + HUGE + b"\x85" + F4 + b"\x89C\x04abcdtb.", "promises 17179869184 bytes, there are 4"),
        (ARRAY + b"(K\x01J\xff\xff\xff\xff\x85" + F4 + b"\x89C\x04abcdtb.", "shape"),
        (ARRAY + b".", "bare PendingArray"),
        (ARRAY + b"}b.", "state of an unknown form"),
        (TENSOR + b"K\x00" + HUGE + b"\x85K\x00\x85\x89}t" + b"R.", "over 4 numbers"),
        (TENSOR + b"K\x03K\x02\x85K\x01\x85\x89}t" + b"R.", "over 4 numbers"),
        (TENSOR + b"J\xff\xff\xff\xffK\x02\x85K\x01\x85\x89}t" + b"R.", "offset"),
        (raw("numpy", "ndarray") + HUGE + b"\x85\x85R.", "made without its content"),
        (raw("numpy", "ndarray") + b"}b.", "changes an object that is no array"),
        (raw("numpy", "ndarray") + b"(}" + text("x") + b"K\x01st" + b"b.", "changes an object"),
        (raw("numpy", "dtype") + text("O8") + b"\x89\x88\x87R.", "Python objects"),
        (raw("numpy", "dtype") + text("f4,f4") + b"\x89\x88\x87R.", "type"),
        (raw("numpy", "dtype") + b".", "bare Reconstruction"),
        (raw("_codecs", "encode") + text("a") + text("rot13") + b"\x86R.", "rot13"),
        (raw("builtins", "bytes") + HUGE + b"\x85R.", "made from something else"),
        (raw("numpy.core", "multiarray._reconstruct") + b".", "'numpy.core.multiarray._reconstruct'"),
        (b"Pos.system\n.", "PERSID"),
        (text("1") + b"Q.", "BINPERSID"),
        (b"\x82\x01.", "EXT1"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x8f.", "EMPTY_SET"),
        (b"]q\x00h\x00a.", "contains itself"),
        (b"]" * 100 + b"a" * 99 + b".", "nests more than 32 levels"),
        (b"}" + b")" + b"\x85" * 200_000 + b"K\x01s.", "key of type tuple"),
        (b"(icollections\nOrderedDict\n.", "makes an object of a class"),
        (b"}" + b"\x8a\x08" + (2**61 - 1).to_bytes(8, "little") + b"K\x01s.", "too large a number"),
        (text("f") + b")R.", "calls something that is no function"),
        (b"]" + text("a") + text("b") + b"s.", "no dictionary"),
        (b"X\xff\xff\xff\x7fabc.", "promises 2147483647 bytes where"),
        (b"\x80\x05\x96" + (2**62).to_bytes(8, "little") + b".", "promises"),
        (b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b"N.", "promises"),
        (b"", "not a readable pickle"),
        (b"hello world", "not a readable pickle"),
        (b"h\x07.", "not a readable pickle"),
    ],
)
def test_what_is_not_plain_data_is_one_clear_error(tmp_path, content, wanted):
    with pytest.raises(DataError) as refusal:
        load_published_pickle(written(tmp_path / "bad.pkl", content))
    assert wanted in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
    assert len(str(refusal.value)) < 600


def test_one_small_piece_cannot_be_unpacked_again_and_again(tmp_path):
    piece = text("a" * 4000) + b"q\x00"
    again = raw("_codecs", "encode") + b"h\x00" + text("latin1") + b"\x86R"
    with pytest.raises(DataError, match="much more than it holds"):
        load_published_pickle(written(tmp_path / "bomb.pkl", b"(" + piece + again * 5000 + b"l."))


def test_registered_extensions_are_not_followed(tmp_path):
    copyreg.add_extension("collections", "OrderedDict", 0x70)
    try:
        assert pickle.loads(b"\x82\x70)R.") == {}  # which puts it into the cache that pickle does not ask about
        with pytest.raises(DataError, match="EXT1"):
            load_published_pickle(written(tmp_path / "extension.pkl", b"\x82\x70)R."))
    finally:
        copyreg.remove_extension("collections", "OrderedDict", 0x70)


def test_a_storage_that_promises_more_than_its_bytes_is_refused(tmp_path):
    small, large = (4).to_bytes(1, "little"), (200).to_bytes(1, "little")
    place = STORAGE.index(b"K" + small)  # the number of elements in its persistent id
    forged = STORAGE[: place + 1] + large + STORAGE[place + 2 :]
    rows = {"audio": Call(torch.storage._load_from_bytes, forged)}
    with pytest.raises(DataError, match="storage"):
        load_published_pickle(written(tmp_path / "forged.pkl", rows))


def test_a_zipped_torch_file_in_place_of_a_storage_is_refused(tmp_path):
    buffer = io.BytesIO()
    torch.save(torch.zeros(4), buffer)
    rows = {"audio": Call(torch.storage._load_from_bytes, buffer.getvalue())}
    with pytest.raises(DataError, match="not in torch's layout"):
        load_published_pickle(written(tmp_path / "zip.pkl", rows))


def test_damaged_files_end_in_our_error_or_in_plain_data(tmp_path):
    random = np.random.default_rng(0)
    rows = [{"id": "a", "2d": np.arange(4.0), "audio": torch.ones(2, 3)}]
    refused = 0
    for protocol in (0, 2, 4, 5):
        whole = pickle.dumps(rows, protocol=protocol)
        for _ in range(150):
            damaged = bytearray(whole[: random.integers(1, len(whole))] if random.random() < 0.2 else whole)
            for place in random.integers(len(damaged), size=random.integers(1, 4)):
                damaged[place] = random.integers(256)
            try:
                load_published_pickle(written(tmp_path / "damaged.pkl", bytes(damaged)))
            except DataError:
                refused += 1
    assert refused > 200


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.pkl: cannot be read"):
        load_published_pickle(tmp_path / "gone.pkl")
    with pytest.raises(DataError, match="cannot be read"):
        load_published_pickle(Path(tmp_path))


def test_reading_tells_how_many_megabytes_are_done(tmp_path):
    (tmp_path / "rows.pkl").write_bytes(pickle.dumps([np.zeros(10**5) for _ in range(6)], protocol=4))
    told = []
    rows = load_published_pickle(tmp_path / "rows.pkl", progress=lambda done, total: told.append((done, total)))
    assert len(rows) == 6
    assert told[0] == (0, 5)
    assert told[-1] == (5, 5)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert len(told) >= 4
