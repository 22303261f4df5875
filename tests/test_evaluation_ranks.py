"""Evaluation by several processes: each embeds its share of the held-out clips, and the results are those of one."""

import json
import multiprocessing
import os

import numpy as np
import pytest
import torch
import yaml

from mcnlab.data.store import open_store
from mcnlab.distributed import process_group
from mcnlab.evaluation import embed
from mcnlab.evaluation.embed import embed_source, embed_together, settle_statistics, settle_statistics_together
from mcnlab.experiment.build import build_model, build_source
from mcnlab.experiment.elsewhere import embed_everywhere, measure_also
from mcnlab.experiment.loaded import load_run
from mcnlab.experiment.measure import measure
from mcnlab.experiment.run import run_experiment
from mcnlab.processes import die_with_parent
from tests.mini_study import BASE, EXPERIMENTS
from tests.small_store import make_store

pytestmark = pytest.mark.distributed


def rank_of_tests(number, processes, folder):
    """What one process does; rank 0 alone measures."""
    die_with_parent()
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    run = load_run(folder / "run")
    store, settings = open_store(folder / "store"), run.settings
    model, embedded = run.model(), []
    if number > 0:
        with torch.no_grad():
            next(model.parameters()).zero_()  # rank 0's weights count
    real = embed._embed
    embed._embed = lambda model, source, batches: embedded.extend(batches) or real(model, source, batches)
    with process_group(number, processes, meet=f"file://{folder}/meet", timeout_s=120.0):
        own, also = embed_everywhere(settings, model, store, seed=0)
        source, fresh = build_source(settings, store, "train", shuffle_seed=None), build_model(settings, store, seed=0)
        settle_statistics_together(fresh, source, batch=20)
        embedded.clear()
        arrays = embed_together(fresh, source, batch=7)
    np.savez(folder / f"rank-{number}.npz", own=np.unique(np.concatenate(embedded)), **named(arrays))
    if number == 0:
        rows = measure(settings, model, store, None, seed=0, held_out=own)
        rows += measure_also(settings, model, store, seed=0, held_out=also)
        (folder / "rows.json").write_text(json.dumps(rows))


def named(arrays):
    return {f"{modality}@{space}": x for (modality, space), x in arrays.items()}


@pytest.mark.slow
def test_two_processes_share_the_clips_and_find_what_one_finds(tmp_path):
    for name in ("store", "other"):
        make_store(tmp_path / name, missing_audio=0.3, missing_text=0.3)
    values = {**BASE, **EXPERIMENTS[1], "data": {"store": str(tmp_path / "store")}}
    values["evaluation"] = {"tasks": ["retrieval", "clusters", "geometry"], "also": {"there": str(tmp_path / "other")}}
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(values))
    run_experiment(tmp_path / "experiment.yaml", tmp_path / "run")
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=rank_of_tests, args=(number, 2, tmp_path)) for number in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0]
    alone = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    check_rows(json.loads((tmp_path / "rows.json").read_text()), [row for row in alone if row["task"] != "outcome"])
    check_shares(tmp_path)


def check_rows(found, expected):
    """The same rows to rounding."""
    assert {row["task"] for row in found} == {"retrieval", "clusters", "geometry", "retrieval@there"}
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        for name in ("task", "subject", "metric"):
            assert row[name] == other[name]
        for name in ("value", "low", "high"):
            there = other[name] if other[name] is None else pytest.approx(other[name], rel=1e-6, abs=1e-6)
            assert row[name] == there, row


def check_shares(folder):
    """Each process embeds clips of its own, all of them together, and everybody ends with the rows of one process."""
    run, store = load_run(folder / "run"), open_store(folder / "store")
    source, fresh = (
        build_source(run.settings, store, "train", shuffle_seed=None),
        build_model(run.settings, store, seed=0),
    )
    settle_statistics(fresh, source, batch=20)
    expected = named(embed_source(fresh, source, batch=7))
    parts = [dict(np.load(folder / f"rank-{number}.npz")) for number in range(2)]
    own = [part.pop("own") for part in parts]
    assert np.concatenate(own).tolist() == list(range(len(source)))
    assert abs(len(own[0]) - len(own[1])) <= 7
    for part in parts:
        assert part.keys() == expected.keys()
        for name, x in expected.items():
            np.testing.assert_allclose(part[name], x, rtol=1e-5, atol=1e-6, err_msg=name)
            assert np.isfinite(x).any()
