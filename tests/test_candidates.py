"""Candidate captions: those that MIL-NCE's release takes, never from another recording, dealt with their own."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mcnlab.data.candidates import candidate_captions
from mcnlab.data.loading import ClipSource, ClipWindow
from mcnlab.errors import ShapeError
from tests.small_store import make_store

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "sampling.npz", allow_pickle=False))
WINDOW = ClipWindow(audio_frames=64, words=4)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stores") / "holed", missing_text=0.3, recordings=10, test=2)


def test_the_candidates_are_the_published_ones():
    start, end = GOLDEN["start"], GOLDEN["end"]
    for count, firsts in zip(GOLDEN["milnce_num_candidates"], GOLDEN["milnce_cap_start"], strict=True):
        found = candidate_captions(np.zeros(len(start), int), start, end, candidates=int(count))
        assert (found[:, 0] == np.arange(len(start))).all(), "the own caption comes first"
        for row, first in zip(found, firsts, strict=True):
            assert first == -999 or sorted(row.tolist()) == list(range(first, first + count))


def test_many_recordings_at_once_give_what_each_gives_alone():
    random = np.random.default_rng(0)
    recordings = np.repeat(np.arange(5), [4, 9, 5, 4, 12])
    start = np.concatenate([np.sort(random.random(count) * 40) for count in np.bincount(recordings)])
    end = start + random.random(len(start)) * 6
    mixed = random.permutation(len(start))
    found = candidate_captions(recordings[mixed], start[mixed], end[mixed], candidates=4)
    for row, place in enumerate(mixed):
        own = np.flatnonzero(recordings == recordings[place])
        alone = candidate_captions(np.zeros(len(own), int), start[own], end[own], candidates=4)
        assert mixed[found[row]].tolist() == own[alone[place - own[0]]].tolist()


def test_a_recording_with_few_captions_gives_all_of_them():
    found = candidate_captions(np.array([0, 0, 1]), np.array([0.0, 2.0, 0.0]), np.array([1.0, 3.0, 1.0]), candidates=4)
    assert found.tolist() == [[0, 1, -1, -1], [1, 0, -1, -1], [2, -1, -1, -1]]


def test_candidates_without_ends_are_refused():
    with pytest.raises(ShapeError, match="2 candidates of 2 starts and 1 ends"):
        candidate_captions(np.zeros(2, int), np.zeros(2), np.zeros(1), candidates=2)


def test_a_batch_holds_the_words_of_the_nearest_captions(store):
    source = ClipSource(store, "train", window=WINDOW, candidates=3)
    clips = source.clips
    near = candidate_captions(*(clips[name].to_numpy() for name in ("recording", "start_s", "end_s")), candidates=3)
    everything = source.batch(np.arange(len(source)))
    assert everything.candidates.words.shape == (len(source), 2, 4, 8)
    words, has_text = everything.inputs["text"], everything.present["text"]
    for clip, places in enumerate(near[:, 1:]):
        assert (clips["recording"].iloc[places] == clips["recording"].iloc[clip]).all()
        assert torch.equal(everything.candidates.words[clip], words[places])
        assert torch.equal(everything.candidates.present[clip], has_text[places])
    assert not everything.candidates.present.all(), "some captions are missing"
    only = ~has_text & everything.candidates.present.any(dim=1)
    assert only.any()
    assert everything.captioned["text"][only].all()


def test_one_candidate_is_the_own_caption_alone(store):
    one, three = (ClipSource(store, "train", window=WINDOW, candidates=c).batch(np.arange(3)) for c in (1, 3))
    assert one.candidates is None
    assert one.captioned is one.present
    assert torch.equal(one.inputs["text"], three.inputs["text"])


def test_a_dealt_caption_brings_its_candidates_along(store):
    plain = ClipSource(store, "train", window=WINDOW, candidates=3)
    dealt = ClipSource(store, "train", window=WINDOW, candidates=3, shuffle_seed=0)
    before, after = (source.batch(np.arange(len(source))) for source in (plain, dealt))
    bags = [
        {
            (own.numpy().tobytes(), near.numpy().tobytes())
            for own, near in zip(batch.inputs["text"], batch.candidates.words, strict=True)
        }
        for batch in (before, after)
    ]
    assert bags[0] == bags[1]
    assert not torch.equal(before.inputs["text"], after.inputs["text"])
