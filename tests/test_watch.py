"""What the widget of a run tells: whoever trains it, and however it ended."""

import json
import math
import os
import time

import pytest

from mcnlab.experiment.folder import held
from mcnlab.reporting import live
from mcnlab.reporting.live import RunWatch, watch
from mcnlab.runs import STOP_FILE, RunFolder
from tests.fake_study import DEFAULT, HOSTILE_CAPTION, write_fake_study


def begin(run, *, steps=20, total=100, experiment="V+A", **term):
    """A run that is at work, as far as its folder tells."""
    run.mkdir()
    lines = [
        {"step": step, "stage": "0:VA", "loss": 1.0, "term.contrast": 1.0, "term.contrast.va": 1.0, **term,
         "grad_norm": 2.0, "clips_per_s": 50.0, "elapsed_s": step / 10}
        for step in range(1, steps + 1)
    ]  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "settings.yaml").write_text(json.dumps({"experiment": experiment}))
    (run / "provenance.json").write_text(json.dumps({"seed": 3, "steps": total}))
    (run / "status.json").write_text(json.dumps({"state": "running"}))
    return run


def test_a_run_at_work_tells_its_pace_its_holder_and_what_is_left(tmp_path):
    run = begin(tmp_path / "run")
    with held(run):
        view = RunWatch(run).refresh()
    assert (view["title"], view["state"], view["step"], view["total"]) == ("V+A, seed 3", "running", 20, 100)
    assert view["holder"].startswith("process ")
    assert view["clips_per_s"] == pytest.approx(50)
    assert view["left_s"] == pytest.approx(8.0)
    assert (view["finite"], view["broken"], view["can_stop"]) == ("all terms finite", False, True)
    [losses, norm] = view["panels"]
    assert [(line["name"], line["quiet"]) for line in losses["lines"]] == [
        ("loss", False), ("contrast", False), ("contrast.va", True)]  # fmt: skip
    assert norm["lines"][0]["y"] == [2.0] * 20
    json.dumps(view, allow_nan=False)


def test_a_run_whose_process_is_gone_counts_as_killed(tmp_path):
    run = begin(tmp_path / "run")
    followed = RunWatch(run)
    view = followed.refresh()
    assert (view["state"], view["can_stop"], view["holder"]) == ("killed", False, None)
    followed.stop()
    assert followed.refresh()["problem"] == f"{run}: cannot be stopped, no process is at work here; it was killed"
    assert followed.wait(longest_s=0.0)


def test_a_run_that_falls_silent_is_asked_about_after_some_seconds(tmp_path, monkeypatch):
    run, now = begin(tmp_path / "run"), [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    followed = RunWatch(run)
    with held(run):
        assert followed.refresh()["state"] == "running"
    now[0] += 1
    assert followed.refresh()["state"] == "running"
    now[0] += live.SILENT_S
    assert followed.refresh()["state"] == "killed"


def test_a_long_silence_is_told(tmp_path):
    run = begin(tmp_path / "run")
    with held(run):
        assert RunWatch(run).refresh()["silent_s"] is None
        long_ago = time.time() - 300
        os.utime(run / "metrics.jsonl", (long_ago, long_ago))
        assert RunWatch(run).refresh()["silent_s"] == pytest.approx(300, abs=5)


def test_stop_leaves_a_request_and_says_so(tmp_path):
    run = begin(tmp_path / "run")
    followed = RunWatch(run)
    with held(run):
        assert not followed.refresh()["stop_asked"]
        followed.stop()
        view = followed.refresh()
    assert (view["stop_asked"], view["problem"], view["can_stop"]) == (True, "", True)
    assert (run / STOP_FILE).exists()


def test_a_run_with_all_steps_done_is_measuring(tmp_path):
    run = begin(tmp_path / "run", steps=100)
    with held(run):
        view = RunWatch(run).refresh()
    assert (view["state_words"], view["can_stop"]) == ("measuring", False)


def test_a_term_that_is_not_finite_is_named(tmp_path):
    run = begin(tmp_path / "run", **{"term.cluster": math.nan})
    view = RunWatch(run).refresh()
    assert (view["finite"], view["broken"]) == ("cluster is nan at step 1", True)
    json.dumps(view, allow_nan=False)


def test_finished_and_failed_runs_tell_recall_and_reason(tmp_path):
    study = write_fake_study(tmp_path, experiments=DEFAULT[:2], seeds=(0,), failed=("V+T",))
    done = RunWatch(study / "v-a-s0").refresh()
    assert (done["state"], done["left_s"], len(done["recall"])) == ("finished", None, 8)
    assert 0 <= done["recall"][0]["first"] <= done["recall"][0]["ten"] <= 1
    failed = RunWatch(study / "v-t-s0").refresh()
    assert (failed["state"], failed["recall"]) == ("failed", [])
    assert "term 'cluster' of text" in failed["reason"]


def test_what_cannot_be_read_is_told_instead_of_raised(tmp_path):
    run = begin(tmp_path / "run", experiment=HOSTILE_CAPTION)
    (run / "metrics.jsonl").write_text("{torn\n")
    view = RunWatch(run).refresh()
    assert view["state_words"] == "cannot be read"
    assert "metrics.jsonl: line 1 is not a step" in view["problem"]
    assert set(view) == set(RunWatch(tmp_path / "later").refresh())  # the page finds every part


def test_a_view_that_began_before_the_run_turns_to_it(tmp_path):
    study = tmp_path / "runs"
    study.mkdir()
    for place in (study, tmp_path / "later"):
        assert RunWatch(place).refresh()["reason"] == f"no run has begun in {place}; this view starts when one does"
    followed = RunWatch(study)
    assert followed.waiting
    assert followed.refresh()["title"] == followed.path.name  # no invented experiment or seed
    assert followed.refresh()["step"] == 0
    begin(study / "first-s0", steps=20)
    with held(study / "first-s0"):
        view = followed.refresh()
    assert (view["path"], view["step"], followed.waiting) == (str(study / "first-s0"), 20, "")
    begin(study / "second-s0")
    assert followed.refresh()["path"] == str(study / "first-s0")  # it stays with its run


def test_watching_waits_for_the_end_where_nobody_looks(tmp_path):
    study = write_fake_study(tmp_path / "runs", experiments=DEFAULT[:1], seeds=(0,))
    assert watch(study / "v-a-s0").refresh()["state"] == "finished"
    with held(begin(tmp_path / "run")):
        assert watch(tmp_path / "run", longest_s=0.1).refresh()["state"] == "running"


def test_a_widget_hears_the_page(tmp_path, monkeypatch):
    run, shown = begin(tmp_path / "run"), []
    monkeypatch.setattr(live, "display", shown.append)
    followed = RunWatch(run)
    with held(run):
        followed.show()
        [widget] = shown
        sent = []
        monkeypatch.setattr(widget, "send", sent.append)
        widget._handle_custom_msg({"kind": "stop"}, [])
        assert widget.view["stop_asked"]
    assert sent == [{"kind": "news"}]
    assert RunFolder(run).status["state"] == "running"
