"""Batches that are made ahead: the same numbers, errors that come out, and no thread left behind."""

import threading

import numpy as np
import pytest
import torch

from mcnlab.data.drawn_clips import DrawnClips, WindowDraws
from mcnlab.data.loading import ClipWindow
from mcnlab.data.store import open_store
from mcnlab.errors import DataError, NonFiniteError, StoppedError
from mcnlab.experiment.build import build_loop, build_training_source, prefix_keys
from mcnlab.experiment.folder import run_key
from mcnlab.training.prefetch import BatchStream
from tests.small_store import make_store
from tests.test_training import assert_same, lines, settings, trainer, weights

WINDOWS = {"sampling": "windows", "window_s": 0.85}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "small")


def drawing_trainer(store, folder, **changes):
    """A trainer whose clips are drawn anew every epoch."""
    made = trainer(store, folder, stages="VAT", **changes)
    wanted = settings(store, stages="VAT", data={"store": str(store.path), **WINDOWS}, **changes)
    made.source = build_training_source(wanted, open_store(store.path), seed=0)
    made.settings = build_loop(wanted, seed=0)
    made.__post_init__()
    return made


def drawn(store):
    return DrawnClips(store, "train", window=ClipWindow(64, 4), rule=WindowDraws(0.85))


def stream(source, ahead, batch=16):
    return BatchStream(source, batch=batch, seed=0, ahead=ahead, device=torch.device("cpu"))


def numbers(batch):
    return [x.numpy() for group in (batch.inputs, batch.lengths, batch.present) for x in group.values()]


def threads_that_load():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("clips")]


@pytest.mark.parametrize("ahead", [1, 2, 7])
def test_batches_made_ahead_are_those_made_when_they_are_wanted(store, ahead):
    now, before = stream(drawn(store), 0), stream(drawn(store), ahead)
    for step in range(8):  # several epochs
        wanted, found = now.take("1:VA", step, total=8), before.take("1:VA", step, total=8)
        assert wanted[0] == found[0] == step // now.steps_per_epoch
        np.testing.assert_array_equal(wanted[1], found[1])
        for one, other in zip(numbers(wanted[2]), numbers(found[2]), strict=True):
            np.testing.assert_array_equal(one, other)
    before.close()


@pytest.mark.parametrize("make", [trainer, drawing_trainer])
def test_a_run_has_the_same_numbers_however_much_is_made_ahead(store, tmp_path, make):
    runs = {ahead: make(store, tmp_path / str(ahead), training={"epochs": 2, "prefetch": ahead}) for ahead in (0, 3)}
    for run in runs.values():
        run.train()
    assert_same(weights(runs[0]), weights(runs[3]))
    assert lines(tmp_path / "0") == lines(tmp_path / "3")
    assert threads_that_load() == []


def test_nothing_is_made_ahead_where_the_steps_take_every_core(store, tmp_path, monkeypatch):
    for cores, ahead in ((1, 0), (2, 3)):  # tests run with one thread
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        made = trainer(store, tmp_path / str(cores), training={"epochs": 1, "prefetch": 3})
        assert made.batches.ahead == ahead


def test_a_run_resumed_with_another_prefetch_goes_on_bit_for_bit(store, tmp_path):
    whole = drawing_trainer(store, tmp_path / "whole", training={"epochs": 2})
    whole.train()
    first = drawing_trainer(store, tmp_path / "parts", training={"epochs": 2, "prefetch": 3})
    first.stop_signal = iter([None, None, None, 15]).__next__
    with pytest.raises(StoppedError):
        first.train()
    assert threads_that_load() == []
    second = drawing_trainer(store, tmp_path / "parts", training={"epochs": 2, "prefetch": 0})
    second.train()
    assert_same(weights(whole), weights(second))
    assert lines(tmp_path / "whole") == lines(tmp_path / "parts")


def test_runs_that_differ_in_prefetch_alone_are_the_same_run(store):
    some, none = (settings(store, training={"prefetch": ahead}) for ahead in (2, 0))
    assert run_key(some, 0) == run_key(none, 0)
    assert prefix_keys(some, fingerprint="f", seed=0) == prefix_keys(none, fingerprint="f", seed=0)


class Watched:
    """Clips that note which batches were asked for, and by whom."""

    def __init__(self, source):
        self.source = source
        self.asked = []
        self.another = threading.Semaphore(0)

    def __len__(self):
        return len(self.source)

    def epoch(self, key, *, batch):
        return self.source.epoch(key, batch=batch)

    def clip_name(self, place):
        return self.source.clip_name(place)

    def kept_batch(self, places, *, new=np.empty):
        return self.source.kept_batch(places, new=new)

    def batch(self, places):
        self.asked.append(threading.current_thread() is threading.main_thread())
        self.another.release()
        return self.source.batch(places)


def test_the_next_batches_are_made_while_a_step_computes_and_no_more_than_asked_for(store):
    source = Watched(drawn(store))
    batches = stream(source, 2)
    batches.take("1:VA", 0, total=9)
    for _ in range(3):  # without another call, the next two are made
        assert source.another.acquire(timeout=60)
    batches.close()
    assert source.asked == [False] * 3
    batches.take("1:VA", 8, total=9)
    batches.close()
    assert len(source.asked) == 4  # nothing beyond the last step


def test_an_error_while_reading_comes_out_of_the_step_that_wanted_the_clips(tmp_path):
    store = make_store(tmp_path / "store")
    run = drawing_trainer(store, tmp_path / "run")
    (store.path / "shards" / "00000.safetensors").unlink()
    with pytest.raises(DataError, match=r"00000\.safetensors: not a readable safetensors file"):
        run.train()
    assert threads_that_load() == []


class LeftError(Exception):
    """What ends a run in the middle."""


def test_whatever_ends_a_run_leaves_no_thread(store, tmp_path):
    def leave(record):
        assert threads_that_load() == ["clips_0"]
        raise LeftError

    run = drawing_trainer(store, tmp_path / "left")
    run.on_step = leave
    with pytest.raises(LeftError):
        run.train()
    assert threads_that_load() == []
    broken = drawing_trainer(store, tmp_path / "broken")
    with torch.no_grad():
        broken.model.heads["text_in_joint"].linear.bias.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match=r"clips r\d+ from \d\.\d\d to \d\.\d\d s"):
        broken.train()
    assert threads_that_load() == []


def test_a_clip_has_the_name_of_its_own_epoch_though_the_next_one_is_begun(store):
    batches, other = stream(Watched(drawn(store)), 3), drawn(store)
    last = batches.steps_per_epoch - 1
    places = batches.take("1:VA", last, total=99)[1]
    while len(batches.source.asked) < 4:  # until steps of the next epoch are made
        assert batches.source.another.acquire(timeout=60)
    found = [batches.clip_name(int(place)) for place in places]
    other.epoch((0, "1:VA", 0), batch=16)
    assert found == [other.clip_name(int(place)) for place in places]
    after = batches.take("1:VA", last + 1, total=99)[2]
    again = stream(drawn(store), 0).take("1:VA", last + 1, total=99)[2]
    batches.close()
    for one, same in zip(numbers(after), numbers(again), strict=True):
        np.testing.assert_array_equal(one, same)
