"""Following a log that somebody else writes."""

import json
import math
import threading

import pytest

from mcnlab.errors import DataError
from mcnlab.reporting import followed
from mcnlab.reporting.followed import FollowedLog, thinned
from mcnlab.training.metrics_log import cut_back


def line(step, *, loss=1.0, stage="0:VA", **more):
    return json.dumps({"step": step, "stage": stage, "loss": loss, "clips_per_s": 100.0, "elapsed_s": step / 2, **more})


def write(path, *lines, mode="a"):
    with path.open(mode) as file:
        file.write("".join(f"{one}\n" for one in lines))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def test_only_what_was_appended_is_read(path, monkeypatch):
    log, parsed = FollowedLog(path), []
    monkeypatch.setattr(followed.json, "loads", lambda text, loads=json.loads: parsed.append(text) or loads(text))
    assert log.read() == 0
    write(path, *map(line, range(1, 101)))
    assert (log.read(), log.read()) == (100, 0)
    write(path, line(101), line(102))
    assert (log.read(), log.step) == (2, 102)
    assert len(parsed) == 102


def test_half_a_line_is_left_for_the_next_time(path):
    log, second = FollowedLog(path), line(2)
    path.write_text(line(1) + "\n" + second[:20])
    assert (log.read(), log.step) == (1, 1)
    with path.open("a") as file:
        file.write(second[20:] + "\n")
    assert (log.read(), log.step) == (1, 2)


@pytest.mark.parametrize("again", [3, 60])
def test_a_log_that_was_cut_back_is_read_anew_also_when_it_has_grown_past_the_old_place(path, again):
    log = FollowedLog(path)
    write(path, *(line(step, loss=1.0) for step in range(1, 21)))
    log.read()
    cut_back(path, step=10)
    write(path, *(line(step, loss=2.0) for step in range(11, 11 + again)))
    assert log.read() == 10 + again
    assert list(log.values["loss"][1]) == [1.0] * 10 + [2.0] * again
    assert list(log.steps) == list(range(1, 11 + again))


def test_a_log_that_is_written_over_in_place_is_read_anew(path):
    log = FollowedLog(path)
    write(path, *(line(step, loss=1.0) for step in range(1, 11)))
    log.read()
    write(path, *(line(step, loss=3.0) for step in range(1, 31)), mode="w")
    assert log.read() == 30
    assert set(log.values["loss"][1]) == {3.0}
    path.unlink()
    assert (log.read(), log.step) == (0, 0)


def test_a_log_that_grows_while_it_is_read_loses_no_step(path):
    log, count = FollowedLog(path), 3000

    def grow():
        with path.open("ab", buffering=0) as file:
            for step in range(1, count + 1):
                content = line(step).encode() + b"\n"
                file.write(content[:9])
                file.write(content[9:])

    writer = threading.Thread(target=grow)
    writer.start()
    while writer.is_alive():
        log.read()
    log.read()
    assert list(log.steps) == list(range(1, count + 1))


def test_a_line_that_is_not_json_is_named_every_time(path):
    log = FollowedLog(path)
    write(path, line(1), "{torn", line(3))
    for _ in range(2):
        with pytest.raises(DataError, match=r"metrics\.jsonl: line 2 is not a step in JSON"):
            log.read()
    write(path, line(1), mode="w")
    assert (log.read(), log.step) == (1, 1)


def test_the_first_term_that_is_not_finite_is_named_with_its_step(path):
    log = FollowedLog(path)
    write(path, line(1, **{"term.a": 1.0, "grad_norm": math.inf}))
    log.read()
    assert log.broken is None  # a scaled gradient may overflow, and the step is then left out
    write(path, line(2, **{"term.a.va": math.nan}), line(3, loss=math.inf))
    log.read()
    name, value, step = log.broken
    assert (name, step) == ("a.va", 2)
    assert math.isnan(value)
    assert log.curve("loss") == ([1.0, 2.0], [1.0, 1.0])


def test_pace_and_time_left_are_those_of_the_last_steps(path):
    log = FollowedLog(path)
    assert (log.clips_per_s(), log.seconds_left(100)) == (None, None)
    write(path, *map(line, range(1, 101)))
    log.read()
    assert log.clips_per_s() == pytest.approx(100.0)
    assert log.seconds_left(120) == pytest.approx(10.0)  # two steps a second
    assert log.seconds_left(None) is None
    assert log.seconds_left(90) == 0


def test_stages_are_told_by_where_they_begin(path):
    log = FollowedLog(path)
    write(path, line(1), line(2), line(3, stage="1:VAT"), line(4, stage="1:VAT"))
    log.read()
    assert (log.stage, log.stage_starts()) == ("1:VAT", [3])


def test_a_long_curve_keeps_its_mean_and_few_points(path):
    steps = range(1, 100_001)
    at, values = thinned(steps, [float(step % 2) for step in steps], most=600)
    assert len(at) == 600
    assert max(values) - min(values) < 0.02
    assert at == sorted(at)
    assert thinned([1, 2], [1.0, math.nan], most=600) == ([1.0], [1.0])


def test_reading_what_is_new_in_a_long_log_is_quick(path):
    write(path, *map(line, range(1, 20_001)))
    log = FollowedLog(path)
    log.read()
    write(path, line(20_001))
    opened = path.stat().st_size
    assert (log.read(), log._offset) == (1, opened)
