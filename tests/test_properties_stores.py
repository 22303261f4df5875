"""What holds for every store: what goes in comes out, and the same content has the same sums."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mcnlab.data.arrays import to_float16
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.store import open_store
from mcnlab.data.store_writer import StoreWriter
from mcnlab.data.text import WordVectors
from mcnlab.errors import DataError

FEW = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=25)
TRACKS = (Track("video_2d", "video", 3, 5.0), Track("audio_mel", "audio", 4, 100.0), Track("depth", "depth", 2, 1.0))
WORDS = WordVectors(("fry", "stir"), np.eye(2, dtype=np.float32), "two words")
texts = st.text(max_size=20)
halves = st.floats(-60000, 60000, width=16)


@st.composite
def features(draw, track):
    rows = draw(st.integers(1, 4))
    return draw(
        arrays.arrays(draw(st.sampled_from([np.float16, np.float32, np.float64])), (rows, track.dim), elements=halves)
    )


@st.composite
def recordings(draw, name):
    tracks = {track.name: draw(features(track)) for track in TRACKS if draw(st.booleans())}
    count = draw(st.integers(1, 3))
    clips = [
        (
            float(k),
            k + draw(st.floats(0.1, 1.0)),
            draw(texts),
            draw(st.none() | texts),
            draw(st.dictionaries(st.sampled_from(["va.rate", "v.size"]), st.floats(-1e9, 1e9), max_size=2))
            | draw(st.dictionaries(st.sampled_from(["vat.thing"]), texts, max_size=1)),
            tuple(draw(st.sets(st.sampled_from(["video", "audio"])))),
        )
        for k in range(count)
    ]
    media = draw(st.dictionaries(texts, texts | st.integers(-9, 9) | st.booleans() | st.none(), max_size=2))
    return name, draw(st.text(min_size=1, max_size=9)), float(count), tracks, clips, media


stores = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=3, unique=True).flatmap(
    lambda names: st.tuples(*(recordings(name) for name in names))
)


def made(name, split, duration_s, tracks, clips, media):
    """A recording of plain values; made outside of strategies, since the shape checks of the tests draw at random."""
    return Recording(name, split, duration_s, tracks, tuple(Clip(*values) for values in clips), media)


def written(folder, content, **options):
    with StoreWriter(folder, name="any", tracks=TRACKS, words=WORDS, **options) as writer:
        for recording in content:
            writer.add(recording)
    return open_store(folder)


@given(content=stores, shard_bytes=st.sampled_from([1, 40, 10_000]))
@settings(FEW, max_examples=10)
def test_what_goes_in_comes_out_and_the_sums_hang_on_it_alone(content, shard_bytes):
    content = [made(*values) for values in content]
    with tempfile.TemporaryDirectory() as place:
        store = written(Path(place) / "one", content, shard_bytes=shard_bytes)
        assert len(store) == len(content)
        for row, wanted in enumerate(content):
            check_same(store[row], wanted)
        assert store.verify() == []
        assert list(store.clips()["caption"]) == [clip.caption for one in content for clip in one.clips]
        again = written(Path(place) / "two", content, shard_bytes=shard_bytes)
        assert again.fingerprint == store.fingerprint
        assert again.info["files"] == store.info["files"]


def check_same(found, wanted):
    """A recording as it was, its features as halves."""
    assert (found.id, found.split, found.duration_s) == (wanted.id, wanted.split, wanted.duration_s)
    assert dict(found.media) == dict(wanted.media)
    assert found.tracks.keys() == wanted.tracks.keys()
    for name, rows in wanted.tracks.items():
        assert found.tracks[name].dtype == np.float16
        assert np.array_equal(found.tracks[name], rows.astype(np.float16))
    for one, other in zip(found.clips, wanted.clips, strict=True):
        assert (one.start_s, one.end_s, one.caption, one.label) == (
            other.start_s,
            other.end_s,
            other.caption,
            other.label,
        )
        assert dict(one.factors) == dict(other.factors)
        assert set(one.missing) == set(other.missing)


@given(content=stores, data=st.data())
@FEW
def test_any_other_content_has_another_fingerprint(content, data):
    content = [made(*values) for values in content]
    row = data.draw(st.integers(0, len(content) - 1))
    old = content[row]
    clip = old.clips[0]
    changed = Recording(
        old.id,
        old.split,
        old.duration_s,
        old.tracks,
        (Clip(clip.start_s, clip.end_s, clip.caption + "!", clip.label, clip.factors, clip.missing), *old.clips[1:]),
        old.media,
    )
    if old.tracks and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(old.tracks)))
        rows = old.tracks[name].copy()
        rows[0, 0] = 1.0 if rows[0, 0] != 1.0 else 2.0
        changed = Recording(old.id, old.split, old.duration_s, {**old.tracks, name: rows}, old.clips, old.media)
    with tempfile.TemporaryDirectory() as place:
        first = written(Path(place) / "one", content)
        second = written(Path(place) / "two", [changed if one is old else one for one in content])
        assert first.fingerprint != second.fingerprint


@given(values=arrays.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 4))))
@FEW
def test_halves_are_finite_or_refused(values):
    with np.errstate(over="ignore"):
        fits = np.isfinite(values.astype(np.float16)).all()
    if fits:
        assert np.array_equal(to_float16(values), values.astype(np.float16))
    else:
        with pytest.raises(DataError, match="not finite in float16"):
            to_float16(values)


@pytest.mark.parametrize("field", ["id", "split", "caption", "label", "factor", "media"])
def test_a_text_that_is_no_unicode_is_refused_by_name(tmp_path, field):
    lone = "a\ud800"  # what a JSON file may hold
    clip = Clip(
        0.0,
        1.0,
        lone if field == "caption" else "fry",
        lone if field == "label" else None,
        {"vat.thing": lone if field == "factor" else "pan"},
    )
    recording = Recording(
        lone if field == "id" else "rec",
        lone if field == "split" else "train",
        1.0,
        {},
        (clip,),
        {"file": lone} if field == "media" else {},
    )
    if field == "media":  # is stored as ASCII
        assert written(tmp_path / "store", [recording]).media(0) == {"file": lone}
        return
    with pytest.raises(DataError, match=r"text that is no Unicode"):
        written(tmp_path / "store", [recording])
    assert list(tmp_path.iterdir()) == []
