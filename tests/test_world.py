"""The narrated world: same seed, same bytes; rendered truthfully; readable by a person."""

import hashlib
import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from mcnlab.data.audio import log_mel
from mcnlab.data.store import open_store
from mcnlab.data.text import tokens
from mcnlab.data.world import (
    FACTORS,
    GROUPS,
    WorldSettings,
    build_world,
    carried_groups,
    recall_ceiling,
    render_again,
    render_clip,
    render_recording,
    shared_groups,
    shared_keys,
    world_fingerprint,
)
from mcnlab.data.world.factors import Range
from mcnlab.data.world.recordings import recording_events
from mcnlab.errors import ConfigError, DataError

TINY = WorldSettings(train_recordings=3, val_recordings=1, test_recordings=2, clips_per_recording=3)
CLIPS = 1506
"""Enough that a factor which is not there scores below 0.05 on average over its group."""


@pytest.fixture(scope="module")
def tiny_store(tmp_path_factory):
    return build_world(TINY, tmp_path_factory.mktemp("worlds") / "tiny")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Factors of many clips, and pooled features of each modality."""
    settings = WorldSettings(train_recordings=(CLIPS - 6) // 6, val_recordings=0, test_recordings=1)
    store = build_world(settings, tmp_path_factory.mktemp("worlds") / "probed")
    clips = store.clips()
    recordings = [store[row] for row in range(len(store))]
    pooled = {
        "video": np.stack([pooled_video(store, recordings[c.recording], c) for c in clips.itertuples()]),
        "audio": np.stack([pooled_audio(store, recordings[c.recording], c) for c in clips.itertuples()]),
        "text": np.stack([pooled_words(store.word_vectors, caption) for caption in clips["caption"]]),
    }
    return clips, pooled


def window(store, recording, name, clip):
    rows = recording.tracks[name]
    return np.asarray(rows[store.tracks[name].window(clip.start_s, clip.end_s, len(rows))], dtype=np.float32)


def pooled_video(store, recording, clip):
    return np.concatenate([window(store, recording, name, clip).max(axis=0) for name in ("video_2d", "video_3d")])


def pooled_words(words, caption):
    return words.vectors[words.ids(caption)].max(axis=0)


def pooled_audio(store, recording, clip):
    """Statistics of each band over time, how bands follow their neighbors, and the rhythm of the onsets."""
    mel = window(store, recording, "audio_mel", clip) / 80
    centered, rise = mel - mel.mean(axis=0), np.maximum(np.diff(mel, axis=0), 0)
    neighbors = [(centered[:-3, :-1] * centered[3:, 1:] - centered[3:, :-1] * centered[:-3, 1:]).mean(axis=0)]
    ticks = rise[:, -1] - rise[:, -1].mean()
    rhythm = np.correlate(ticks, ticks, "full")[len(ticks) - 1 :][:90]
    levels = [mel.mean(axis=0), mel.std(axis=0), *np.quantile(mel, (0.1, 0.75, 0.9, 1.0), axis=0)]
    share_loud = (mel > mel.max(axis=0) - 0.12).mean(axis=0)
    return np.concatenate([*levels, share_loud, rise.mean(axis=0), *neighbors, rhythm / (rhythm[0] + 1e-9)])


def held_out_scores(features, clips):
    """Score of a ridge probe per factor on recordings that it was not fitted to; 0 is chance, 1 perfect."""
    values = {name: clips[f"factor:{name}"].to_numpy() for name in FACTORS}
    targets = {
        name: v[:, None].astype(float) if isinstance(FACTORS[name], Range) else (v[:, None] == FACTORS[name]) * 1.0
        for name, v in values.items()
    }
    said = held_out_predictions(features, np.concatenate(list(targets.values()), axis=1), clips["recording"].to_numpy())
    columns = np.cumsum([target.shape[1] for target in targets.values()])[:-1]
    parts = zip(targets.items(), np.split(said, columns, axis=2), strict=True)
    return {name: max(score(target, one) for one in predicted) for (name, target), predicted in parts}


def held_out_predictions(features, targets, groups):
    """(penalties, clips, columns): ridge regressions, each clip predicted by a fit on other recordings."""
    penalties = np.array([30.0, 300.0, 3000.0])
    said = np.zeros((len(penalties), *targets.shape))
    for fold in range(4):
        test = groups % 4 == fold
        center, scale = features[~test].mean(axis=0), features[~test].std(axis=0) + 1e-6
        train, mean = (features[~test] - center) / scale, targets[~test].mean(axis=0)
        curvature, axes = np.linalg.eigh(train.T @ train)
        slopes = axes.T @ (train.T @ (targets[~test] - mean))
        for number, penalty in enumerate(penalties):
            weights = axes @ (slopes / (curvature + penalty)[:, None])
            said[number, test] = ((features[test] - center) / scale) @ weights + mean
    return said


def score(target, predicted):
    if target.shape[1] == 1:
        return max(0.0, 1 - ((target - predicted) ** 2).sum() / ((target - target.mean()) ** 2).sum())
    right = target.argmax(axis=1) == predicted.argmax(axis=1)
    chance = 1 / target.shape[1]
    return float((np.mean([right[column == 1].mean() for column in target.T]) - chance) / (1 - chance))


@pytest.mark.parametrize("modality", ["video", "audio", "text"])
def test_a_probe_reads_every_factor_that_a_modality_carries_and_no_other(world, modality):
    clips, pooled = world
    scores = held_out_scores(pooled[modality], clips)
    carried = carried_groups(modality)
    unread = {name: value for name, value in scores.items() if name.partition(".")[0] in carried and value < 0.6}
    assert unread == {}
    for group in set(GROUPS) - set(carried):
        leaked = np.mean([max(0.0, value) for name, value in scores.items() if name.partition(".")[0] == group])
        assert leaked <= 0.05, f"{modality} tells {group}"


def test_factors_of_different_groups_are_independent():
    drawn = pd.DataFrame(
        [event.factors for number in range(300) for event in recording_events(WorldSettings(), "train", number)]
    )
    codes = {
        name: pd.cut(drawn[name], 4, labels=False) if isinstance(values, Range) else drawn[name]
        for name, values in FACTORS.items()
    }
    pairs = [(a, b) for a in FACTORS for b in FACTORS if a < b]
    strongest = max(association(codes[a], codes[b]) for a, b in pairs)
    assert strongest < 0.1  # 1800 clips, 231 pairs: chance alone reaches about 0.065


def association(first, second):
    """Cramér's V with the bias of a finite table taken off, in [0, 1]."""
    table = pd.crosstab(first, second).to_numpy()
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    rows, columns = table.shape
    phi = ((table - expected) ** 2 / expected).sum() / table.sum() - (rows - 1) * (columns - 1) / table.sum()
    return float(np.sqrt(max(0.0, phi) / (min(rows, columns) - 1)))


def test_the_same_seed_gives_the_same_bytes_in_another_process(tiny_store, tmp_path):
    script = (
        "import sys; from mcnlab.data.world import WorldSettings, build_world\n"
        "print(build_world(WorldSettings.model_validate_json(sys.argv[1]), sys.argv[2]).fingerprint)"
    )
    command = [sys.executable, "-c", script, TINY.model_dump_json(), str(tmp_path / "again")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == tiny_store.fingerprint
    again = open_store(tmp_path / "again")
    np.testing.assert_array_equal(again.thumbnail(0), tiny_store.thumbnail(0))


def test_another_seed_gives_other_bytes():
    digests = {digest(render_clip(WorldSettings(seed=seed), "train", 0, 0)) for seed in range(3)}
    assert len(digests) == 3


def test_the_number_of_recordings_does_not_change_a_recording():
    few, many = WorldSettings(train_recordings=2), WorldSettings(train_recordings=50)
    assert digest(render_clip(few, "test", 1, 2)) == digest(render_clip(many, "test", 1, 2))


def digest(clip):
    return hashlib.sha256(clip.frames.tobytes() + clip.waveform.tobytes() + clip.caption.encode()).hexdigest()


def test_a_stored_clip_can_be_rendered_again(tiny_store):
    clips = tiny_store.clips()
    clip = render_again(tiny_store, 7)
    row = clips.iloc[7]
    assert clip.frames.shape == (16, 40, 40, 3)
    assert clip.waveform.shape == (20480,)
    assert clip.caption == row["caption"]
    assert clip.factors["va.rate"] == row["factor:va.rate"]
    assert (clip.frames == tiny_store.thumbnail(7)).all(axis=(1, 2, 3)).any()
    recording = render_recording(TINY, "train", int(row["recording"]))
    mel = log_mel(np.concatenate([part.waveform for part in recording])).astype(np.float16)
    np.testing.assert_array_equal(tiny_store[int(row["recording"])].tracks["audio_mel"], mel)


def test_a_store_of_something_else_cannot_be_rendered_again(tiny_store):
    with pytest.raises(DataError, match="clip 99 of 18"):
        render_again(tiny_store, 99)
    tiny_store.info["world"]["version"] += 1
    try:
        with pytest.raises(DataError, match="expected a world of version"):
            render_again(tiny_store, 0)
    finally:
        tiny_store.info["world"]["version"] -= 1


def test_sentences_are_short_and_name_what_is_seen_and_heard():
    for number in range(20):
        for event in recording_events(WorldSettings(), "train", number):
            words = tokens(event.caption)
            assert 8 <= len(words) <= 20
            said = [str(v) for name, v in event.factors.items() if "t" in name.partition(".")[0] and v != "none"]
            assert set(said) <= set(words)
            assert str(event.factors["va.floor"]) not in words


def test_a_lag_moves_the_windows_and_cuts_the_last(tmp_path):
    settings = TINY.model_copy(update={"narration_lag_s": 0.4})
    store = build_world(settings, tmp_path / "lagging")
    clips = store.clips("train").head(3)
    assert clips["start_s"].tolist() == pytest.approx([0.4, 1.68, 2.96])
    assert clips["end_s"].tolist() == pytest.approx([1.68, 2.96, 3.84])
    assert len(render_again(store, 2).frames) == 11
    assert len(render_again(store, 2).waveform) == round(0.88 * 16000)


def test_mismatched_narration_is_marked_and_tells_of_something_else():
    settings = WorldSettings(mismatch=0.5, seed=3)
    events = [event for number in range(50) for event in recording_events(settings, "train", number)]
    share = np.mean([not event.narration_matches for event in events])
    assert share == pytest.approx(0.5, abs=0.1)  # 300 clips
    true = [event.factors["vat.object"] in tokens(event.caption) for event in events if event.narration_matches]
    false = [event.factors["vat.object"] in tokens(event.caption) for event in events if not event.narration_matches]
    assert all(true)
    assert np.mean(false) < 0.25  # one object in ten is hit by chance


def test_missing_modalities_are_shares_of_clips_and_never_all_three(tmp_path):
    settings = WorldSettings(missing_video=0.6, missing_audio=0.5, missing_text=0.4)
    missing = [event.missing for number in range(60) for event in recording_events(settings, "train", number)]
    counts = Counter(name for names in missing for name in names)
    assert counts["video"] / len(missing) == pytest.approx(0.6, abs=0.1)
    assert max(len(names) for names in missing) == 2
    store = build_world(settings.model_copy(update=TINY.model_dump(include={"train_recordings", "val_recordings"})
        | {"test_recordings": 1, "missing_text": 0.3}), tmp_path / "missing")  # fmt: skip
    clips = store.clips()
    assert 0 < clips["has_video"].sum() < len(clips)
    assert clips["has_text"].tolist() == [caption != "" for caption in clips["caption"]]


def test_an_oracle_of_text_to_video_finds_most_clips():
    drawn = [event.factors for number in range(100) for event in recording_events(WorldSettings(), "test", number)]
    clips = pd.DataFrame(drawn).add_prefix("factor:")
    assert shared_groups(["text"], ["video", "audio"]) == ("vat", "vt", "at")
    ceilings = [recall_ceiling(shared_keys(clips, ["text"], [other]))["ceiling_at_1"] for other in ("video", "audio")]
    assert ceilings[0] > 0.9
    assert ceilings[1] > 0.7
    assert recall_ceiling(["a", "a", "b"], ks=(1, 2)) == {"ceiling_at_1": pytest.approx(2 / 3), "ceiling_at_2": 1.0}


def test_wrong_settings_are_refused_with_their_value():
    with pytest.raises(ConfigError, match="did you mean 'mismatch'"):
        WorldSettings.parse({"mismach": 0.1}, source="--set")
    with pytest.raises(ConfigError, match=r"mismatch.*1\.5"):
        WorldSettings.parse({"mismatch": 1.5}, source="--set")
    with pytest.raises(ConfigError, match="'speech'"):
        carried_groups("speech")


def test_worlds_of_equal_settings_share_a_name():
    assert world_fingerprint(WorldSettings()) == world_fingerprint(WorldSettings(seed=0))
    assert world_fingerprint(WorldSettings()) != world_fingerprint(WorldSettings(noise_video=0.04))
