"""What holds for every order of clips: each once, whoever reads it, and nothing but the key decides."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcnlab import distributed
from mcnlab.data.drawn_clips import DrawnClips, PublishedDraws, WindowDraws
from mcnlab.data.loading import ClipSource, ClipWindow, epoch_order
from mcnlab.numerics import key_generator, key_seed
from mcnlab.training.prefetch import BatchStream
from tests.small_store import make_store

FEW = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=40)
keys = st.tuples(st.integers(0, 99), st.sampled_from(["1:VA", "2:VAT"]), st.integers(0, 9))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("stores") / "small", recordings=10, test=2, missing_text=0.3)
    window = ClipWindow(audio_frames=16)
    return [
        ClipSource(store, "train", window=window),
        DrawnClips(store, "train", window=window, rule=PublishedDraws(clips_per_video=3, min_time_s=1.0)),
        DrawnClips(store, "train", window=window, rule=WindowDraws(window_s=0.64)),
    ]


@given(clips=st.integers(1, 60), batch=st.integers(1, 70), key=keys)
@FEW
def test_an_epoch_shows_no_clip_twice_and_leaves_out_less_than_a_batch(clips, batch, key):
    order = epoch_order(clips, key=key, batch=batch)
    seen = np.concatenate(order)
    assert len(np.unique(seen)) == len(seen)
    assert 0 <= clips - len(seen) < min(batch, clips)
    assert {len(part) for part in order} == {min(batch, clips)}
    again = epoch_order(clips, key=key, batch=batch)
    assert all(np.array_equal(one, other) for one, other in zip(order, again, strict=True))


@given(clips=st.integers(1, 60), batch=st.integers(1, 20), world=st.integers(1, 9), key=keys)
@FEW
def test_over_all_ranks_every_clip_of_a_step_comes_once_and_in_order(clips, batch, world, key):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "world_size", lambda: world)
        for places in epoch_order(clips, key=key, batch=batch):
            shares = []
            for rank in range(world):
                patch.setattr(distributed, "rank", lambda rank=rank: rank)
                shares.append(places[distributed.own_rows(len(places))])
            assert np.array_equal(np.concatenate(shares), places)
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(number=st.integers(0, 2), batch=st.integers(1, 12), key=keys, between=keys, ahead=st.integers(0, 3))
@settings(FEW, max_examples=25)
def test_what_a_step_sees_hangs_on_the_key_alone(sources, number, batch, key, between, ahead):
    source, (seed, stage, epoch) = sources[number], key
    order = source.epoch(key, batch=batch)
    assert len(np.unique(np.concatenate(order))) == sum(map(len, order)) <= len(source)
    wanted = source.batch(order[-1])
    source.epoch(between, batch=3)  # another epoch in between
    stream = BatchStream(source, batch=batch, seed=seed, ahead=ahead, device=torch.device("cpu"))
    step = epoch * stream.steps_per_epoch + len(order) - 1
    found = stream.take(stage, step, total=step + 3)
    stream.close()
    assert found[0] == epoch
    assert np.array_equal(found[1], order[-1])
    for modality, rows in wanted.inputs.items():
        assert torch.equal(found[2].inputs[modality], rows)
        assert torch.equal(found[2].lengths[modality], wanted.lengths[modality])


@given(first=st.lists(st.text() | st.integers(), max_size=4), second=st.lists(st.text() | st.integers(), max_size=4))
@FEW
def test_other_keys_give_other_draws_and_the_same_key_the_same(first, second):
    assert 0 <= key_seed(*first) < 2**63
    assert key_seed(*first) == key_seed(*first)
    assert key_generator(*first).integers(2**62) == key_generator(*first).integers(2**62)
    said = ["\x1f".join(map(str, key)) for key in (first, second)]
    assert (key_seed(*first) == key_seed(*second)) == (said[0] == said[1])
