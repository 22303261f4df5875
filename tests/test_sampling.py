"""Drawing of clips: as the authors' loaders draw them, the same whatever the workers and interruptions."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from mcnlab.data.cutting import largest_rows, spans_inside
from mcnlab.data.drawn_clips import DrawnClips, PublishedDraws, WindowDraws
from mcnlab.data.loading import (
    PUBLISHED_PAD_DB,
    ClipSource,
    ClipWindow,
    TrainingClips,
    mel_frame,
    pooled_video,
    published_rows_between,
)
from mcnlab.data.records import Clip, Recording, Track
from mcnlab.data.sampling import (
    captions_inside,
    joined_words,
    merged_captions,
    window_starts,
)
from mcnlab.data.store import StoreWriter, open_store
from mcnlab.data.text import WordVectors, tokens
from mcnlab.errors import ConfigError, DataError, RunError, ShapeError
from mcnlab.experiment import run_experiment
from mcnlab.experiment.data_settings import DataSettings
from tests.mini_study import BASE
from tests.small_store import make_store

GOLDEN = np.load(Path(__file__).parent / "golden" / "sampling.npz", allow_pickle=False)
VOCABULARY = WordVectors(tuple(GOLDEN["vocab"].tolist()), GOLDEN["vocab_vec"], "golden")
MIN_TIMES = [5, 8, 10, 1000]


def golden_words():
    """Known words of the golden captions, and where each caption begins."""
    ids = [VOCABULARY.ids(str(text), 1000) for text in GOLDEN["text"]]
    return np.concatenate(ids), np.concatenate([[0], np.cumsum([len(one) for one in ids])])


@pytest.mark.parametrize("min_time_s", MIN_TIMES)
def test_every_caption_grows_to_the_published_window(min_time_s):
    merged = merged_captions(GOLDEN["start"], GOLDEN["end"], min_time_s=float(min_time_s))
    np.testing.assert_array_equal(merged.start_s, GOLDEN[f"mt{min_time_s}_start"])
    np.testing.assert_array_equal(merged.end_s, GOLDEN[f"mt{min_time_s}_end"])


@pytest.mark.parametrize("min_time_s", MIN_TIMES)
def test_the_words_of_a_clip_are_the_published_ones_in_their_order(min_time_s):
    merged = merged_captions(GOLDEN["start"], GOLDEN["end"], min_time_s=float(min_time_s))
    ids, counts = joined_words(merged.order, *golden_words(), max_words=20)
    table = np.vstack([GOLDEN["vocab_vec"], np.zeros((1, 4), np.float32)])
    np.testing.assert_array_equal(table[ids], GOLDEN[f"mt{min_time_s}_text"])
    np.testing.assert_array_equal((ids >= 0).sum(axis=1), counts)


@pytest.mark.parametrize("min_time_s", MIN_TIMES)
def test_a_clip_has_the_published_frames_unless_it_starts_with_the_video(min_time_s):
    starts, ends = GOLDEN[f"mt{min_time_s}_start"], GOLDEN[f"mt{min_time_s}_end"]
    frames = [min(mel_frame(end) - mel_frame(start), 1000) for start, end in zip(starts, ends, strict=True)]
    later = starts > 0
    np.testing.assert_array_equal(np.array(frames)[later], GOLDEN[f"mt{min_time_s}_nframes"][later])
    assert (GOLDEN[f"mt{min_time_s}_nframes"][~later] == 0).all()  # the published loader gives these no sound
    assert all(count > 0 for count in frames)


def test_frames_of_times_are_librosas_clamped_at_zero():
    found = [mel_frame(float(time)) for time in GOLDEN["t2f_times"]]
    np.testing.assert_array_equal(found, np.maximum(GOLDEN["t2f_frames"], 0))


def test_sentences_are_cut_into_the_published_tokens():
    assert ["|".join(tokens(str(text))) for text in GOLDEN["tok_in"]] == GOLDEN["tok_out"].tolist()


def test_video_is_pooled_as_published():
    tracks = {"video_2d": GOLDEN["vid_2d"], "video_3d": GOLDEN["vid_3d"]}
    rates = {"video_2d": 1.0, "video_3d": 1.5}
    for start, end, wanted in zip(GOLDEN["vid_s"], GOLDEN["vid_e"], GOLDEN["vid_out"], strict=True):
        pooled, rows = pooled_video(tracks, rates, float(start), float(end), 11, rows=published_rows_between)
        np.testing.assert_allclose(pooled, wanted, atol=1e-6)  # float32
        assert (rows == 0) == (not wanted.any())


def test_drawn_seeds_give_the_published_windows():
    seeds = np.random.RandomState(int(GOLDEN["pairs_seed"])).choice(len(GOLDEN["start"]), 4)
    merged = merged_captions(GOLDEN["start"], GOLDEN["end"], min_time_s=10.0)
    np.testing.assert_array_equal(merged.start_s[seeds], GOLDEN["pairs_start"])
    np.testing.assert_array_equal(merged.end_s[seeds], GOLDEN["pairs_end"])


def test_windows_on_whole_seconds_have_the_published_frames():
    starts = np.random.RandomState(int(GOLDEN["rand_seed"])).randint(0, 51, 4)
    np.testing.assert_array_equal(starts, GOLDEN["rand_start"])
    frames = [mel_frame(float(start + 10)) - mel_frame(float(start)) for start in starts]
    np.testing.assert_array_equal(frames, GOLDEN["rand_nframes"])


def one_by_one(starts, ends, seed, min_time_s):
    """The rule once more, in scalars."""
    first = last = seed
    joined = [seed]
    while ends[last] - starts[first] < min_time_s:
        before = ends[last] - starts[first - 1] if first > 0 else None
        after = ends[last + 1] - starts[first] if last < len(starts) - 1 else None
        if before is None and after is None:
            break
        if after is None or (before is not None and before <= after):
            first -= 1
            joined.append(first)
        else:
            last += 1
            joined.append(last)
    return starts[first], ends[last], joined


@pytest.mark.parametrize("seed", range(20))
def test_all_captions_at_once_agree_with_one_at_a_time(seed):
    random = np.random.default_rng(seed)
    starts = np.sort(random.integers(0, 60, random.integers(1, 20)) / 2.0)  # halves: starts repeat, totals tie
    ends = starts + random.integers(1, 8, len(starts)) / 2.0
    words = random.integers(0, 9, random.integers(0, 40))
    offsets = np.concatenate([[0], np.sort(random.integers(0, len(words) + 1, len(starts) - 1)), [len(words)]])
    merged = merged_captions(starts, ends, min_time_s=6.0)
    ids, counts = joined_words(merged.order, words, offsets, max_words=7)
    for place in range(len(starts)):
        start, end, joined = one_by_one(starts, ends, place, 6.0)
        assert (merged.start_s[place], merged.end_s[place]) == (start, end)
        wanted = [word for one in joined for word in words[offsets[one] : offsets[one + 1]]][:7]
        assert ids[place].tolist() == wanted + [-1] * (7 - len(wanted))
        assert counts[place] == len(wanted)


def test_unequal_numbers_of_starts_and_ends_are_refused():
    with pytest.raises(ShapeError, match="2 starts but 1 ends"):
        merged_captions(np.zeros(2), np.zeros(1), min_time_s=1.0)


@pytest.mark.parametrize(("length_s", "count"), [(3.0, 1), (10.0, 1), (39.9, 3), (40.0, 4)])
@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_windows_stay_inside_and_do_not_overlap(length_s, count, shift):
    starts = window_starts(length_s, 10.0, shift=shift)
    assert len(starts) == count
    np.testing.assert_allclose(np.diff(starts), 10.0)
    assert starts[0] >= 0
    assert starts[-1] + 10.0 <= max(length_s, 10.0) + 1e-9


def test_a_window_of_no_length_is_refused():
    with pytest.raises(ConfigError, match=r"window_s must be positive, got 0\.0"):
        window_starts(10.0, 0.0, shift=0.0)


def test_every_caption_is_in_the_window_of_its_middle():
    starts, ends = np.array([0.0, 1.0, 9.0, 30.0]), np.array([2.0, 3.0, 12.0, 31.0])
    found = captions_inside(starts, ends, np.array([0.0, 10.0]), window_s=10.0)
    assert found.tolist() == [[0, 1], [2, -1]]


TRACKS = [
    Track("video_2d", "video", 4, 1.0),
    Track("video_3d", "video", 3, 1.5),
    Track("audio_mel", "audio", 40, 100.0),
]


def long_recording(number, *, split="train", seconds=60, text=None):
    """A recording with the golden captions, whose rows say which row they are."""
    text = GOLDEN["text"] if text is None else text
    return Recording(
        id=f"r{number}",
        split=split,
        duration_s=float(max(seconds, 40)),
        tracks={
            t.name: np.full((int(seconds * t.rate_hz), t.dim), number)
            + np.arange(int(seconds * t.rate_hz))[:, None] % 100 / 100
            for t in TRACKS
        },
        clips=tuple(
            Clip(float(s), float(e), str(c)) for s, e, c in zip(GOLDEN["start"], GOLDEN["end"], text, strict=True)
        ),
    )


@pytest.fixture
def store(tmp_path):
    with StoreWriter(tmp_path / "long", name="long", tracks=TRACKS, words=VOCABULARY) as writer:
        for number in range(6):
            writer.add(
                long_recording(number, split="val" if number == 5 else "train", seconds=60 if number != 3 else 15)
            )
    return open_store(tmp_path / "long")


def drawn(store, rule, **how):
    return DrawnClips(store, "train", window=ClipWindow(1000, 20, PUBLISHED_PAD_DB), rule=rule, **how)


RULES = [PublishedDraws(4, 10.0), WindowDraws(10.0)]


@pytest.mark.parametrize("rule", RULES)
def test_drawn_clips_are_what_a_training_loop_needs(store, rule):
    source = drawn(store, rule)
    assert isinstance(source, TrainingClips)
    assert len(source) == (20 if rule == RULES[0] else 4 * 6 + 1)
    batches = source.epoch((0, "1:VAT", 0), batch=6)
    assert all(len(batch) == 6 for batch in batches)
    places = np.concatenate(batches)
    assert len(set(places.tolist())) == len(places)
    batch = source.batch(batches[0])
    assert {name: tuple(x.shape) for name, x in batch.inputs.items()} == {
        "video": (6, 7),
        "audio": (6, 40, 1000),
        "text": (6, 20, 4),
    }
    assert "r" in source.clip_name(int(places[0]))


def test_published_draws_are_golden_windows_with_their_words_sound_and_rows(store):
    source = drawn(store, PublishedDraws(32, 10.0))
    source.epoch((1, "x", 2), batch=8)
    batch = source.batch(np.arange(32))  # the first recording
    seen = set()
    for row in range(32):
        words = batch.inputs["text"][row].numpy()
        fits = [k for k in range(14) if np.array_equal(words, GOLDEN["mt10_text"][k])]
        assert fits
        seen.update(fits)
        start, end = GOLDEN["mt10_start"][fits[0]], GOLDEN["mt10_end"][fits[0]]
        assert source.clip_name(row) == f"r0 from {start:.2f} to {end:.2f} s"
        assert int(batch.lengths["video"][row]) == int(end) + 1 - int(start)
        first = mel_frame(float(start)) % 100 / 100
        assert batch.inputs["audio"][row, 0, 0].item() == pytest.approx(first, abs=1e-3)  # float16
    assert len(seen) > 7  # of 14 captions, all equally likely


@pytest.mark.parametrize("rule", RULES)
def test_every_epoch_draws_anew_and_the_key_alone_decides(store, rule):
    source, other = drawn(store, rule), drawn(store, rule)
    first = source.epoch((0, "1:VAT", 0), batch=5)
    names = [source.clip_name(place) for place in range(len(source))]
    source.epoch((0, "1:VAT", 1), batch=5)
    assert [source.clip_name(place) for place in range(len(source))] != names
    other.epoch((0, "1:VAT", 1), batch=5)
    again = other.epoch((0, "1:VAT", 0), batch=5)
    assert [other.clip_name(place) for place in reversed(range(len(source)))] == names[::-1]
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))


def test_clips_of_a_recording_stay_together_as_published(store):
    batches = drawn(store, PublishedDraws(4, 10.0)).epoch((0,), batch=8)
    assert all((batch // 4 == np.repeat(batch[::4] // 4, 4)).all() for batch in batches)


def test_a_clip_after_the_end_of_the_video_lacks_it(store):
    source = drawn(store, PublishedDraws(64, 5.0))
    source.epoch((0,), batch=8)
    batch = source.batch(np.arange(3 * 64, 4 * 64))  # a recording of 15 s with captions up to 35 s
    names = [source.clip_name(place) for place in range(3 * 64, 4 * 64)]
    late = np.array([float(name.split()[2]) >= 15 for name in names])
    assert late.any()
    np.testing.assert_array_equal(batch.present["video"].numpy(), ~late)
    np.testing.assert_array_equal(batch.present["audio"].numpy(), ~late)


def test_the_control_deals_sound_and_text_to_other_clips(store):
    rule = PublishedDraws(4, 10.0)
    plain, dealt = drawn(store, rule), drawn(store, rule, shuffle_seed=3)
    batches = [source.batch(np.arange(len(source))) for source in (plain, dealt)]
    np.testing.assert_array_equal(*(batch.inputs["video"].numpy() for batch in batches))
    whole = [np.floor(batch.inputs["audio"][:, 0, 0].numpy()) for batch in batches]
    assert not np.array_equal(*whole)
    assert sorted(whole[0]) == sorted(whole[1])


def test_a_split_without_clips_is_refused(store):
    with pytest.raises(DataError, match="no clips in split 'test'"):
        DrawnClips(store, "test", window=ClipWindow(), rule=PublishedDraws())


@pytest.mark.parametrize("seed", range(5))
def test_the_peak_of_halves_is_their_maximum(seed):
    random = np.random.default_rng(seed)
    rows = random.normal(scale=10.0 ** random.integers(-7, 4, (9, 50)), size=(9, 50)).astype(np.float16)
    rows[:, 0], rows[:, 1] = -np.abs(rows[:, 0]), 0.0
    for kept in (rows, rows.astype(np.float64)):
        np.testing.assert_array_equal(largest_rows([kept], 50)[0], rows.astype(np.float32).max(axis=0))


def test_rows_inside_end_with_the_track():
    first, last = spans_inside(np.array([8.5, 10.0]), np.array([20.0, 20.0]), 1.0, np.array([10, 10]))
    assert (first[0], last[0]) == (8, 10)
    assert last[1] <= first[1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampling": "random"}, "sampling"),
        ({"window_s": 3.0}, "window_s belongs to sampling: windows, but sampling is captions"),
        ({"sampling": "windows", "min_time_s": 3.0}, "min_time_s belongs to sampling: published"),
        ({"sampling": "published", "clips_per_video": 0}, "clips_per_video"),
        ({"sampling": "published", "min_time_s": float("inf")}, "min_time_s"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        DataSettings.parse({"store": "x", **values}, source="test")


class StopError(RunError):
    """What ends a run in the middle of an epoch."""


@pytest.mark.parametrize(
    "sampling",
    [
        {"sampling": "published", "clips_per_video": 3, "min_time_s": 1.0},
        {"sampling": "windows", "window_s": 0.85},
    ],
)
def test_a_run_that_was_left_in_the_middle_of_an_epoch_ends_bit_for_bit_the_same(tmp_path, sampling):
    make_store(tmp_path / "store")
    settings = {
        **BASE,
        "experiment": "drawn",
        "stages": "VAT",
        "data": {"store": "store", **sampling},
        "training": {**BASE["training"], "checkpoint_every": 1},
        "evaluation": {"tasks": ["geometry"]},
    }
    (tmp_path / "drawn.yaml").write_text(yaml.safe_dump(settings))

    def stop(record):
        if record.step == 4:  # epochs have three steps
            raise StopError

    whole = run_experiment(tmp_path / "drawn.yaml", tmp_path / "whole")
    with pytest.raises(StopError):
        run_experiment(tmp_path / "drawn.yaml", tmp_path / "parts", on_step=stop)
    parts = run_experiment(tmp_path / "drawn.yaml", tmp_path / "parts")
    records = [map(json.loads, (run.path / "metrics.jsonl").read_text().splitlines()) for run in (whole, parts)]
    losses = [[record["loss"] for record in one] for one in records]
    assert losses[0] == losses[1]
    assert len(losses[0]) > 6


def test_training_on_captions_is_as_before(tmp_path):
    """The default source gives the order that it always gave."""
    store = make_store(tmp_path / "store")
    source = ClipSource(store, "train", window=ClipWindow(32))
    assert isinstance(source, TrainingClips)
    batches = source.epoch((0, "1:VA", 0), batch=16)
    assert sorted(np.concatenate(batches).tolist()) == list(range(64))
