"""Sharded imports: the same bytes whatever the processes, the crashes and the order of the tasks."""

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from mcnlab.data.importers.recordings import Reading
from mcnlab.data.importers.sharded import import_sharded
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.shards import write_tensors
from mcnlab.data.store import open_store
from mcnlab.data.text import WordVectors
from mcnlab.errors import BusyError, ConfigError, DataError, RankError, StorageError
from mcnlab.files import resumable_folder
from tests.howto100m_files import write_howto100m

TRACKS = (Track("video_2d", "video", 6, 1.0), Track("audio_mel", "audio", 40, 100.0))
KEY = {"list": "a"}


@dataclass
class Plan:
    """Some numbered recordings."""

    count: int = 10
    asked: list = field(default_factory=list)

    def __iter__(self):
        self.asked.append(self.count)
        return iter([{"id": f"r{number}", "number": number} for number in range(self.count)])

    def word_vectors(self):
        return WordVectors(("fry", "stir"), np.eye(2, dtype=np.float32), "two words")

    def notes(self):
        return ["made up"]


def read(value):
    """A recording of a number; every fourth has no sound, the seventh is impossible, the eighth is gone."""
    number = value["number"]
    random = np.random.default_rng(number)
    tracks = {"video_2d": random.normal(size=(8, 6)).astype(np.float16)}
    if number % 4:
        tracks["audio_mel"] = random.normal(size=(800, 40))
    factors = {"speed": float(number)} if number > 4 else {}
    clips = (Clip(0.0, 4.0 if number != 7 else 99.0, "fry it", None, factors), Clip(4.0, 8.0, ""))
    recording = Recording(value["id"], "val" if number == 5 else "train", 8.0, tracks, clips)
    if number == 8:
        return Reading(value["id"], None, ("no features",))
    return Reading(value["id"], recording, () if number % 4 else ("no sound",))


def bring_in(out, *, plan=None, reader=read, key=KEY, **how):
    return import_sharded(
        plan or Plan(), reader, out, key=key, name="numbers", tracks=TRACKS, **({"recordings_per_shard": 3} | how)
    )


def content(folder):
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def whole(tmp_path):
    bring_in(tmp_path / "whole")
    return content(tmp_path / "whole")


def test_a_sharded_import_holds_what_was_read_and_keeps_account(tmp_path):
    report = bring_in(tmp_path / "store")
    store = open_store(tmp_path / "store")
    assert store.verify() == []
    assert [store[row].id for row in range(len(store))] == [f"r{n}" for n in range(10) if n not in (7, 8)]
    for row in range(len(store)):
        wanted = read({"id": "", "number": int(store[row].id[1:])}).recording
        assert store[row].clips == wanted.clips
        assert store[row].tracks.keys() == wanted.tracks.keys()
        for name, rows in store[row].tracks.items():
            np.testing.assert_array_equal(rows, wanted.tracks[name].astype(np.float16))
    assert store.splits == {"train": 14, "val": 2}
    assert report.kept == 16
    assert report.dropped == {"a clip from 0.0 to 99.0 s in 8.0 s": ["r7"], "no features": ["r8"]}
    assert report.lost == {"no sound": ["r0", "r4"]}  # r8 is gone as a whole
    assert store.import_report == {**report.as_dict()}
    assert not list(tmp_path.glob(".*"))


def test_shards_have_the_bytes_that_the_safetensors_library_writes(tmp_path):
    random = np.random.default_rng(0)
    parts = {
        name: [random.normal(size=(rows, dim)).astype(np.float16) for rows in (3, 0, 5)]
        for name, dim in (("b", 4), ("a", 7))
    }
    known = write_tensors(tmp_path / "x.safetensors", parts)
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    assert (tmp_path / "x.safetensors").read_bytes() == save(joined)
    assert known["bytes"] == (tmp_path / "x.safetensors").stat().st_size


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_processes_does_not_change_a_byte(tmp_path, whole, workers):
    seen = []
    bring_in(tmp_path / "store", workers=workers, progress=lambda done, total: seen.append((done, total)))
    assert content(tmp_path / "store") == whole
    assert seen[-1] == (10, 10)


def test_any_executor_can_run_the_tasks(tmp_path, whole):
    with ThreadPoolExecutor(3) as executor:
        bring_in(tmp_path / "store", executor=executor)
    assert content(tmp_path / "store") == whole


class FallingReader:
    """Ends its process' work at one recording, and notes what it has read."""

    def __init__(self, at):
        self.at, self.seen = at, []

    def __call__(self, value):
        if value["number"] == self.at:
            raise KeyboardInterrupt
        self.seen.append(value["number"])
        return read(value)


@pytest.mark.parametrize("at", range(10))
def test_an_import_goes_on_after_an_interruption_at_any_recording(tmp_path, whole, at):
    with pytest.raises(KeyboardInterrupt):
        bring_in(tmp_path / "store", reader=FallingReader(at))
    assert not (tmp_path / "store").exists()
    shards = tmp_path / ".store.unfinished" / "store" / "shards"
    (shards / ".00000.safetensors.partial-1").write_text("left by a killed process")
    plan, reader = Plan(), FallingReader(None)
    bring_in(tmp_path / "store", plan=plan, reader=reader)
    assert content(tmp_path / "store") == whole
    assert plan.asked == []  # the tasks of the first attempt are taken
    assert min(reader.seen) == at // 3 * 3  # finished shards are not read again
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("gone", ["manifest.parquet", "store.json", "import_report.json"])
def test_an_interruption_while_the_store_is_put_together_costs_nothing(tmp_path, whole, gone, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("mcnlab.data.importers.sharded.put_in_place", lambda *paths: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bring_in(tmp_path / "store")
    (tmp_path / ".store.unfinished" / "store" / gone).unlink()
    bring_in(tmp_path / "store", reader=FallingReader(0))  # nothing is read again
    assert content(tmp_path / "store") == whole


def test_a_finished_import_is_not_done_again(tmp_path, whole):
    report = bring_in(tmp_path / "whole", reader=FallingReader(0))
    assert report.kept == 16
    assert report.notes == ["made up", "nothing to do"]
    assert content(tmp_path / "whole") == whole
    with pytest.raises(StorageError, match="exists already"):
        bring_in(tmp_path / "whole", key={"list": "b"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": {"list": "b"}}, "an unfinished import lies there whose list differ"),
        ({"key": {"list": "a", "share": 1}}, "whose share differ"),
        ({"recordings_per_shard": 4}, "whose recordings_per_shard differ"),
    ],
)
def test_an_unfinished_import_of_something_else_is_not_mixed_in(tmp_path, changes, message):
    with pytest.raises(KeyboardInterrupt):
        bring_in(tmp_path / "store", reader=FallingReader(5))
    before = content(tmp_path / ".store.unfinished")
    with pytest.raises(ConfigError, match=message):
        bring_in(tmp_path / "store", **changes)
    assert content(tmp_path / ".store.unfinished") == before


@pytest.mark.parametrize("numbers", [{"workers": 0}, {"recordings_per_shard": 0}])
def test_impossible_numbers_are_refused(tmp_path, numbers):
    with pytest.raises(ConfigError, match="must be positive"):
        bring_in(tmp_path / "store", **numbers)


def test_what_a_kill_after_the_last_rename_leaves_goes_with_the_next_call(tmp_path, whole):
    (tmp_path / ".whole.unfinished" / "parts").mkdir(parents=True)
    (tmp_path / ".whole.unfinished" / "parts" / "00000.json").write_text("{}")
    assert bring_in(tmp_path / "whole").notes[-1] == "nothing to do"
    assert not (tmp_path / ".whole.unfinished").exists()
    assert content(tmp_path / "whole") == whole


class BrokenPlan(Plan):
    """Has no words."""

    def word_vectors(self):
        raise DataError("words.bin: knows none of the words")


def test_a_plan_that_cannot_be_made_leaves_nothing_behind(tmp_path):
    with pytest.raises(DataError, match="knows none"):
        bring_in(tmp_path / "store", plan=BrokenPlan())
    assert list(tmp_path.iterdir()) == []


def gone(value):
    return Reading(value["id"], None, ("no features",))


def test_an_import_of_nothing_is_an_error_and_leaves_nothing_behind(tmp_path):
    with pytest.raises(DataError, match="numbers: nothing in it can be used; 10 dropped: no features"):
        bring_in(tmp_path / "store", reader=gone)
    assert list(tmp_path.iterdir()) == []


def test_two_imports_into_one_store_exclude_each_other(tmp_path):
    with resumable_folder(tmp_path / "store"), pytest.raises(BusyError, match="held by process"):
        bring_in(tmp_path / "store")


def kill_itself(value):
    """What the system does to a process that takes too much memory."""
    if value["number"] == 4:
        signal.raise_signal(signal.SIGKILL)
    return read(value)


@pytest.mark.distributed
def test_a_killed_process_is_one_clear_error(tmp_path, whole):
    with pytest.raises(RankError, match="the same command goes on"):
        bring_in(tmp_path / "store", reader=kill_itself, workers=2)
    bring_in(tmp_path / "store")
    assert content(tmp_path / "store") == whole


@pytest.mark.distributed
def test_kill_9_in_the_middle_and_the_same_command_again_give_the_same_store(tmp_path):
    write_howto100m(tmp_path, 240)
    words = f"{sys.executable} -m mcnlab import howto100m {tmp_path}/list.csv --features {tmp_path}/features"
    words += f" --captions {tmp_path}/caption.json --text {tmp_path}/words.bin --per-shard 2"
    command = words.split()
    subprocess.run([*command, "--out", f"{tmp_path}/whole"], check=True, capture_output=True)
    parts = tmp_path / ".store.unfinished" / "parts"
    for finished, sent in ((1, signal.SIGKILL), (5, signal.SIGINT), (9, signal.SIGKILL)):
        process = subprocess.Popen(
            [*command, "--workers", "2", "--out", f"{tmp_path}/store"],
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
        )
        wait_for(parts, finished, process)
        process.send_signal(sent)
        process.communicate()
        assert process.returncode == (130 if sent == signal.SIGINT else -sent)
        time.sleep(0.3)
        left = len(list(parts.glob("*.json")))
        assert left < 120
        time.sleep(0.5)
        assert len(list(parts.glob("*.json"))) == left  # the processes ended with their owner
        assert not (tmp_path / "store").exists()
    subprocess.run([*command, "--workers", "2", "--out", f"{tmp_path}/store"], check=True, capture_output=True)
    assert content(tmp_path / "store") == content(tmp_path / "whole")
    again = subprocess.run([*command, "--out", f"{tmp_path}/store"], check=True, capture_output=True, text=True)
    assert "nothing to do" in again.stderr
    assert json.loads((tmp_path / "store" / "store.json").read_text())["recordings"] == 240


def wait_for(parts: Path, finished: int, process) -> None:
    """Until so many shards are finished."""
    until = time.monotonic() + 60
    while len(list(parts.glob("*.json"))) < finished:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < until
        time.sleep(0.002)
