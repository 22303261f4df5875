"""Maps and neighbors of the explorer: laid out in another process, cancellable, and exact against plain arithmetic."""

import os
import time

import numpy as np
import pytest

from mcnlab.errors import CancelledError, ConfigError, DataError, RunError, ShapeError
from mcnlab.reporting import explorer_maps, explorer_neighbors
from mcnlab.reporting.explorer_maps import maps_apart
from mcnlab.reporting.explorer_neighbors import (
    changed_neighbors,
    neighbors_elsewhere,
    neighbors_to_compare,
    top_clips,
)
from mcnlab.reporting.layout import MapSettings
from mcnlab.reporting.projection import aligned_maps

QUICK = MapSettings(neighbors=5, epochs=20)


def cloud(clips=40, dim=6, seed=0):
    return np.random.default_rng(seed).normal(size=(clips, dim)).astype(np.float16)


def pair_maps(left, right, *, ids, **options):
    """Two maps of the same clips."""
    return maps_apart({"left": left, "right": right}, ids={"left": ids, "right": ids}, **options)


def test_a_pair_is_what_aligned_maps_gives_and_says_how_far_it_is(tmp_path):
    left, right = cloud(), cloud(dim=4, seed=1)
    left[3] = np.nan
    ids, said = [f"c{row}" for row in range(40)], []
    maps = pair_maps(
        left, right, ids=ids, settings=QUICK, cache=tmp_path, progress=lambda done, total: said.append((done, total))
    )
    here = aligned_maps({"left": left, "right": right}, ids={"left": ids, "right": ids}, settings=QUICK)
    for side in ("left", "right"):
        np.testing.assert_array_equal(maps.positions[side], here.positions[side])
    assert np.isnan(maps.positions["left"][3]).all()
    assert np.isfinite(maps.positions["right"][3]).all()
    assert dict(maps.trust) == dict(here.trust)
    assert dict(maps.overlap) == dict(here.overlap)
    done = [one for one, _ in said]
    assert done[0] == 0
    assert done[-1] == 100
    assert done == sorted(done)
    assert len(set(done)) > 10
    assert {total for _, total in said} == {100}


def test_what_was_laid_out_once_is_there_at_once(tmp_path, monkeypatch):
    ids = [str(row) for row in range(40)]
    first = pair_maps(cloud(), cloud(seed=1), ids=ids, settings=QUICK, cache=tmp_path)
    monkeypatch.setattr(explorer_maps.multiprocessing, "get_context", lambda kind: pytest.fail("another process"))
    again = pair_maps(cloud(), cloud(seed=1), ids=ids, settings=QUICK, cache=tmp_path)
    np.testing.assert_array_equal(first.positions["left"], again.positions["left"])


def test_cancelling_ends_the_process_at_once_and_leaves_nothing(tmp_path, monkeypatch):
    began, processes = [], []
    plain = explorer_maps._result

    def watched(here, told, cancelled):
        processes.extend(explorer_maps.multiprocessing.active_children())
        return plain(here, told, cancelled)

    monkeypatch.setattr(explorer_maps, "_result", watched)
    points = cloud(clips=4000, dim=16)
    with pytest.raises(CancelledError, match="cancelled"):
        pair_maps(
            points,
            points,
            ids=[str(row) for row in range(4000)],
            settings=MapSettings(epochs=100_000),
            cache=tmp_path,
            progress=lambda done, total: began.append(time.monotonic()),
            cancelled=lambda: len(began) > 1,
        )
    assert time.monotonic() - began[-1] < 3
    assert not list(tmp_path.iterdir())
    assert len(processes) == 1
    assert not processes[0].is_alive()


def test_a_killed_process_is_an_error_not_a_wait(monkeypatch):
    plain = explorer_maps._result

    def killed(here, told, cancelled):
        for process in explorer_maps.multiprocessing.active_children():
            os.kill(process.pid, 9)
        return plain(here, told, cancelled)

    monkeypatch.setattr(explorer_maps, "_result", killed)
    with pytest.raises(RunError, match="killed"):
        pair_maps(cloud(), cloud(), ids=[str(row) for row in range(40)], settings=QUICK)


def test_an_error_of_the_other_process_arrives_as_it_was():
    with pytest.raises(DataError, match="at least 8 clips, got 3"):
        pair_maps(cloud(3), cloud(3), ids=list("abc"), settings=QUICK)


def test_steps_of_training_are_laid_out_near_each_other():
    first = cloud(60)
    steps = {"3": first, "20": first + 0.02 * cloud(60, seed=2), "100": first + 0.04 * cloud(60, seed=3)}
    maps = maps_apart(steps, settings=MapSettings(neighbors=8, epochs=40))
    assert list(maps.positions) == ["3", "20", "100"]
    moved = np.linalg.norm(maps.positions["3"] - maps.positions["20"], axis=1)
    assert np.median(moved) < 0.2  # of a map that is 2 wide


def test_changed_neighbors_agree_with_counting_them_one_by_one():
    left, right = cloud(50), cloud(50, dim=3, seed=1)
    left[7], right[9] = np.nan, np.nan
    found = changed_neighbors(left, right, count=4)
    rows = [row for row in range(50) if row not in (7, 9)]

    def nearest(values, row):
        unit = values[rows].astype(np.float64)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        score = unit @ unit[rows.index(row)]
        score[rows.index(row)] = -np.inf
        return {rows[place] for place in np.argsort(-score)[:4]}

    wanted = {row: len(nearest(left, row) & nearest(right, row)) / 4 for row in rows}
    assert dict(zip(found["row"], found["kept"], strict=True)) == wanted
    assert found["kept"].is_monotonic_increasing
    assert 0 < found["kept"].mean() < 1


def test_changed_neighbors_are_the_same_in_blocks_and_can_be_cancelled(monkeypatch):
    left, right, said = cloud(50), cloud(50, seed=1), []
    whole = changed_neighbors(left, right)
    monkeypatch.setattr(explorer_neighbors, "BLOCK", 16)
    parts = changed_neighbors(left, right, progress=lambda *now: said.append(now))
    assert parts.equals(whole)
    assert said == [(16, 50), (32, 50), (48, 50), (50, 50)]
    with pytest.raises(CancelledError, match="cancelled"):
        changed_neighbors(left, right, progress=lambda *now: said.append(now), cancelled=lambda: len(said) > 4)
    assert said[4:] == [(16, 50)]


def test_of_many_points_a_part_is_laid_out_and_the_rest_placed_among_it(monkeypatch):
    monkeypatch.setattr(explorer_maps, "TOGETHER", 120)
    monkeypatch.setattr(explorer_maps, "FEWEST_TOGETHER", 20)
    points = {name: cloud(100, seed=seed) for seed, name in enumerate("ab")}
    maps = maps_apart(points, settings=QUICK)
    sampled = aligned_maps(points, settings=MapSettings(neighbors=5, epochs=20, most=60))
    np.testing.assert_array_equal(maps.positions["a"], sampled.positions["a"])
    assert np.isfinite(maps.positions["b"]).all()


def test_changed_neighbors_refuse_what_cannot_be_counted():
    with pytest.raises(ShapeError, match="5 clips on one side, 4 on the other"):
        changed_neighbors(cloud(5), cloud(4))
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        changed_neighbors(cloud(5), cloud(5), count=0)
    with pytest.raises(DataError, match="there are 5"):
        changed_neighbors(cloud(5), cloud(5), count=5)


@pytest.mark.parametrize(("clips", "count"), [(3, 1), (8, 3), (20, 9), (21, 10), (50, 10)])
def test_few_clips_are_compared_by_fewer_neighbors(clips, count):
    assert neighbors_to_compare(cloud(clips), cloud(clips, seed=1)) == count


def test_neighbors_of_two_clips_are_not_compared():
    left = cloud(3)
    left[0] = np.nan
    with pytest.raises(DataError, match="from three clips on that both sides have, there are 2"):
        neighbors_to_compare(left, cloud(3))
    with pytest.raises(ShapeError, match="3 clips on one side, 4 on the other"):
        neighbors_to_compare(left, cloud(4))


def test_neighbors_elsewhere_are_the_largest_dot_products_and_say_which_is_right():
    arrays = {"video": cloud(30), "text": cloud(30, seed=1)}
    arrays["text"][4] = np.nan
    found = neighbors_elsewhere(arrays, 2, "video", "text", count=30)
    scores = arrays["video"][2].astype(np.float32) @ arrays["text"].astype(np.float32).T
    assert list(found["row"]) == sorted(set(range(30)) - {4}, key=lambda row: -scores[row])
    np.testing.assert_allclose(found["score"], scores[found["row"]], rtol=1e-6)
    assert list(found["row"][found["right"]]) == [2]
    own = neighbors_elsewhere(arrays, 2, "video", "video", count=30)
    assert 2 not in set(own["row"])
    assert len(own) == 29


def test_spaces_decide_what_can_be_compared():
    arrays = {
        "video@va": cloud(12),
        "video@vt": cloud(12, seed=1),
        "audio": cloud(12, seed=2),
        "text": cloud(12, seed=3),
    }
    arrays = {**arrays, "audio@va": arrays["audio"], "text@vt": arrays["text"], "joint": cloud(12, dim=12)}
    found = neighbors_elsewhere(arrays, 0, "video", "text", count=12)
    scores = arrays["video@vt"][0].astype(np.float32) @ arrays["text@vt"].astype(np.float32).T
    np.testing.assert_allclose(found["score"], np.sort(scores)[::-1], rtol=1e-6)
    for query, gallery in (("video@va", "text"), ("video", "joint"), ("video@va", "video@vt"), ("video", "smell")):
        with pytest.raises(DataError, match=r"there are|joint alone"):
            neighbors_elsewhere(arrays, 0, query, gallery)
    arrays["video@va"][1] = np.nan
    with pytest.raises(DataError, match="has no video@va"):
        neighbors_elsewhere(arrays, 1, "video@va", "video@va")


def test_a_query_finds_what_the_clip_it_comes_from_finds():
    arrays = {"video": cloud(30), "text": cloud(30, seed=1)}
    from_clip = neighbors_elsewhere(arrays, 5, "text", "video", count=6)
    from_query = top_clips({"text": arrays["text"][5]}, arrays, "video", count=6)
    assert list(from_query["row"]) == list(from_clip["row"])
    np.testing.assert_array_equal(from_query["score"], from_clip["score"])
    assert top_clips({"text": arrays["text"][5]}, arrays, "text", count=1)["row"].tolist() == [5]
    with pytest.raises(DataError, match="no text that the run knows"):
        top_clips({"text": np.full(6, np.nan)}, arrays, "video")
    with pytest.raises(DataError, match="one modality, got audio, text"):
        top_clips({"text": np.zeros(6), "audio": np.zeros(6)}, arrays, "video")
