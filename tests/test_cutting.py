"""Many clips at once are what one clip at a time gives, in whichever memory they are asked for."""

import numpy as np
import pytest
import torch

from mcnlab.batch import Batch
from mcnlab.data.cutting import largest_rows, published_spans, spans_between, spans_inside
from mcnlab.data.drawn_clips import DrawnClips, PublishedDraws
from mcnlab.data.loading import ClipSource, ClipWindow, mel_frame
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.store import StoreWriter, open_store
from mcnlab.data.text import WordVectors

VIDEO = [Track("video_2d", "video", 6, 1.0), Track("video_3d", "video", 5, 1.5)]
TRACKS = [*VIDEO, Track("audio_mel", "audio", 40, 100.0)]
WORDS = WordVectors(("stir", "pan"), np.eye(2, 3, dtype=np.float32), "test")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Some recordings in several shards, of which some lack a track, with numbers of both signs."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("stores") / "cut"
    with StoreWriter(path, name="cut", tracks=TRACKS, words=WORDS, shard_bytes=20_000) as writer:
        for number in range(12):
            kept = [track for track in TRACKS if (number, track.name) not in {(3, "video_3d"), (5, "audio_mel")}]
            length_s = 20.0 + number
            tracks = {t.name: random.normal(size=(int(length_s * t.rate_hz), t.dim)) for t in kept}
            starts = random.uniform(0, length_s - 6, 20)
            clips = tuple(Clip(float(s), float(s + random.uniform(0.5, 6)), "stir the pan") for s in sorted(starts))
            writer.add(Recording(id=f"r{number}", split="train", duration_s=length_s, tracks=tracks, clips=clips))
    return open_store(path)


def one_clip(store, row, start_s, end_s, frames):
    """The rule in plain words: what a caption's clip sees and hears."""
    tracks = store.tracks_of(row)
    pooled = []
    for track in VIDEO:
        rows = tracks.get(track.name, np.zeros((0, track.dim)))
        seen = rows[int(start_s * track.rate_hz + 1e-6) : int(np.ceil(end_s * track.rate_hz - 1e-6))]
        pooled.append(seen.astype(np.float32).max(axis=0) if len(seen) else None)
    video = np.zeros(11, np.float32)
    if all(peak is not None for peak in pooled):
        video = np.concatenate([peak / np.linalg.norm(peak) for peak in pooled])
    mel = np.full((40, frames), -80, np.float32)
    heard = tracks.get("audio_mel", np.zeros((0, 40)))[mel_frame(start_s) : mel_frame(end_s)][:frames]
    mel[:, : len(heard)] = heard.T
    return video, mel, len(heard)


def test_many_clips_at_once_are_what_one_at_a_time_gives(store):
    assert len(list((store.path / "shards").iterdir())) > 1
    source = ClipSource(store, "train", window=ClipWindow(300, 4))
    places = np.random.default_rng(1).permutation(len(source))  # more than one thread takes at a time
    batch = source.batch(places)
    for row, place in enumerate(places):
        clip = source.clips.iloc[place]
        video, mel, heard = one_clip(store, int(clip["recording"]), clip["start_s"], clip["end_s"], 300)
        np.testing.assert_array_equal(batch.inputs["video"][row], video)
        np.testing.assert_array_equal(batch.inputs["audio"][row], mel)
        assert batch.lengths["audio"][row] == heard
        assert bool(batch.present["video"][row]) == bool(video.any())
        np.testing.assert_array_equal(batch.inputs["text"][row, :3], [[1, 0, 0], [0, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize("kind", ["kept", "drawn"])
def test_the_form_in_which_clips_are_kept_lies_in_the_memory_asked_for_and_holds_the_same_numbers(store, kind):
    window = ClipWindow(300, 4)
    drawn = kind == "drawn"
    source = (
        DrawnClips(store, "train", window=window, rule=PublishedDraws(8, 3.0))
        if drawn
        else ClipSource(store, "train", window=window)
    )
    given = []

    def new(shape, dtype):
        given.append(np.full(shape, 7, dtype))
        return given[-1]

    places = np.arange(90)
    kept, batch = source.kept_batch(places, new=new), source.batch(places)
    assert kept.inputs["audio"].dtype == torch.float16
    for name, x in kept.inputs.items():
        assert sum(np.shares_memory(x.numpy(), array) for array in given) == 1
        assert batch.inputs[name].dtype == torch.float32
        assert batch.inputs[name].is_contiguous()
        assert torch.equal(x.float(), batch.inputs[name])


def test_a_batch_on_another_device_is_float32_in_c_order_and_stays_itself_where_it_is_that_already():
    halves, plain = torch.rand(2, 5, 3).half().transpose(1, 2), torch.rand(2, 4)
    there = Batch({"audio": halves, "video": plain}, {}, {}, torch.arange(2)).to(torch.device("cpu"))
    assert there.inputs["audio"].is_contiguous()
    assert torch.equal(there.inputs["audio"], halves.float())
    assert there.inputs["video"] is plain


@pytest.mark.parametrize("rows", [[1], [3, 1, 4]])
def test_the_largest_of_halves_is_right_whatever_their_signs(rows):
    random = np.random.default_rng(2)
    clips = [random.choice([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0], size=(count, 50)).astype(np.float16) for count in rows]
    found = largest_rows(clips, 50)
    np.testing.assert_array_equal(found, [clip.astype(np.float32).max(axis=0) for clip in clips])


def test_which_rows_a_clip_sees_known_on_paper():
    starts, ends, rows = np.array([0.0, 8.5, 10.0, 2.0]), np.array([2.0, 20.0, 11.0, 2.1]), np.array([10, 10, 10, 0])
    spans = {rule: np.stack(rule(starts, ends, 1.0, rows)) for rule in (spans_between, spans_inside, published_spans)}
    assert spans[spans_between].T.tolist() == [[0, 2], [8, 10], [9, 10], [0, 0]]
    seen = {rule: np.maximum(0, last - first).tolist() for rule, (first, last) in spans.items()}
    assert seen == {spans_between: [2, 2, 1, 0], spans_inside: [2, 2, 0, 0], published_spans: [3, 2, 0, 0]}
