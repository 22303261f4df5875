"""What the processes of `test_distributed.py` do: short trainings, and sums whose gradients are known."""

import json
import multiprocessing
import os

import numpy as np
import pytest
import torch
from torch import nn

from mcnlab.data.store import open_store
from mcnlab.distributed import gather_rows, process_group, sum_over_ranks
from mcnlab.errors import StoppedError
from mcnlab.experiment.build import build_loop, build_model, build_stages, build_training_source
from mcnlab.experiment.objective import build_terms, training_facts
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.processes import die_with_parent
from mcnlab.training.averaging import averaged_backward
from mcnlab.training.loop import Trainer
from mcnlab.training.stages import PrefixCache

MCN = {"contrast": {}, "cluster": {"clusters": 6, "queue_batches": 3, "refit_every": 2}, "reconstruct": {}}
CASES = {
    "contrast alone": {"terms": {"contrast": {}}, "stages": "VAT"},
    "three terms in stages": {"stages": "AV_T"},
    "three terms, disjoint graph": {"stages": "VAT", "graph": "disjoint"},
    "as published": {"stages": "VAT", "mode": "faithful"},
    "missing modalities": {"store": "holed", "stages": "VAT"},
    "missing modalities, as published": {"store": "holed", "stages": "VAT", "mode": "faithful"},
    "missing modalities, disjoint graph": {"store": "holed", "stages": "VAT", "graph": "disjoint"},
    "ranks without sound": {"store": "holed", "stages": "VAT", "training": {"batch": 6, "lr": 0.0002}},
    "clips that cannot be shared out evenly": {"store": "holed", "stages": "AV_T", "training": {"batch": 15}},
    "fewer clips than ranks": {"stages": "VAT", "terms": {"contrast": {}}, "training": {"batch": 3}},
    "a memory bank": {"store": "holed", "stages": "VAT", "terms": {"contrast": {"loss": "memory_bank"}}},
    "noise contrast, learned temperature": {
        "stages": "VAT",
        "terms": {"contrast": {"loss": "memory_bank", "bank": {"form": "nce"}, "learn_temperature": True}},
    },
    "candidate captions": {
        "store": "holed",
        "stages": "VAT",
        "terms": {"contrast": {"loss": "mil_nce"}},
        "data": {"candidates": 3},
    },
    "prediction": {"store": "holed", "stages": "VAT", "terms": {"predict": {}}, "training": {"batch": 15}},
    "a frozen tower": {"stages": [{"epochs": 3, "modalities": ["video", "audio", "text"], "frozen": ["audio"]}]},
}
CHUNKED = {
    "in chunks": "three terms in stages",
    "candidate captions, in chunks": "candidate captions",
    "missing modalities, in chunks": "missing modalities",
    "fewer clips than ranks, in chunks": "fewer clips than ranks",
}
"""By case: the one with whole batches that it must equal."""
for chunked, of_whole in CHUNKED.items():
    CASES[chunked] = {**CASES[of_whole], "training": {**CASES[of_whole].get("training", {}), "chunk": 3}}
ONE_PROCESS = {"fine and coarse, in stages": {"stages": "AV_T", "graph": "fac"}}
"""Cases that several processes do not end with to the last digit: a bias before a batch normalization has no gradient
but rounding, which Adam makes into steps; the normalization takes it out again in training."""
STOPPED = "three terms in stages"
STOP_AFTER = 7


def trainer(folder, case, *, name):
    """One of the cases, in a run folder of its own."""
    changes = dict({**CASES, **ONE_PROCESS}[case])
    store = open_store(folder / changes.pop("store", "whole"))
    base = {
        "experiment": "test",
        "data": {"store": str(store.path), **changes.pop("data", {})},
        "terms": MCN,
        "model": {"dim": 8, "audio_width": 16, "audio_blocks": 1, "decoder_hidden": 8, "audio_frames": 64, "words": 4},
    }
    training = {"batch": 16, "lr": 0.001, "warmup_steps": 2, "checkpoint_every": 4, "max_steps": 5, "epochs": 4}
    training |= changes.pop("training", {})
    wanted = ExperimentSettings.parse({**base, **changes, "training": training}, source="test")
    run = folder / name / case.replace(" ", "-")
    run.mkdir(parents=True, exist_ok=True)
    model, source = build_model(wanted, store, seed=0), build_training_source(wanted, store, seed=0)
    return Trainer(
        model=model,
        terms=build_terms(wanted, model.graph, seed=0, facts=training_facts(wanted, source, seed=0)),
        source=source,
        stages=build_stages(wanted),
        settings=build_loop(wanted, seed=0),
        folder=run,
        prefixes=PrefixCache(None, []),
    )


def train(folder, case, *, name):
    """Train a case.

    Returns:
        All that it leaves in memory: weights, running statistics, queue, centroids.
    """
    made = trainer(folder, case, name=name)
    made.train()
    tensors = {f"model.{key}": x for key, x in made.model.state_dict().items()}
    for term, module in made.terms.items():
        tensors |= {f"{term}.{key}": x for key, x in module.state_dict().items()}
    return {key: x.numpy() for key, x in tensors.items()}


def stop(made, *, signal_number):
    """Train until somebody has asked to stop."""
    seen = []
    made.on_step = seen.append
    made.stop_signal = lambda: signal_number if len(seen) >= STOP_AFTER else None
    with pytest.raises(StoppedError, match=f"stopped after step {STOP_AFTER}"):
        made.train()


def log(folder, case, *, name):
    """The log of a case, line by line."""
    lines = (folder / name / case.replace(" ", "-") / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def known_gradients(number, processes):
    """Gradients of sums over gathered rows, where rank r has r + 1 rows that hold r + 1."""
    rows = torch.full((number + 1, 2), float(number + 1), requires_grad=True)
    total = gather_rows(rows, [r + 1 for r in range(processes)])
    (total**3).sum().backward()
    scalar = torch.tensor(float(number + 1), requires_grad=True)
    sum_over_ranks(scalar).square().backward()
    several, early, lonely, unused = (nn.Parameter(torch.zeros(2)) for _ in range(4))
    passes = [lambda: (several + early).sum().backward(), lambda: (several * (number + 1.0)).sum().backward()]
    if number == 0:
        passes[1] = lambda: (several + lonely).sum().backward()
    averaged_backward([several, early, lonely, unused], passes)
    assert unused.grad is None
    return {
        "several": several.grad.numpy(),
        "early": early.grad.numpy(),
        "lonely": lonely.grad.numpy(),
        "gathered": total.detach().numpy(),
        "of_rows": rows.grad.numpy(),
        "of_scalar": scalar.grad.numpy(),
    }


def rank_of_tests(number, processes, folder):
    """All cases by one rank; what it ends with goes into files."""
    die_with_parent()
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    name = f"by-{processes}"
    with process_group(number, processes, meet=f"file://{folder}/meet-{processes}", timeout_s=60.0):
        results = {case: train(folder, case, name=name) for case in CASES}
        results["known gradients"] = known_gradients(number, processes)
        stop(trainer(folder, STOPPED, name=f"stopped-{processes}"), signal_number=15 if number == 1 else None)
        results["resumed"] = train(folder, STOPPED, name=f"resumed-{processes}")
    for case, arrays in results.items():
        np.savez(folder / f"{name}-rank-{number}-{case.replace(' ', '-')}.npz", **arrays)


def all_ranks(processes, folder):
    """Run `rank_of_tests` on so many processes and wait for them."""
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=rank_of_tests, args=(n, processes, folder)) for n in range(processes)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0] * processes


def result(folder, processes, number, case):
    """What a rank ended a case with."""
    with np.load(folder / f"by-{processes}-rank-{number}-{case.replace(' ', '-')}.npz") as found:
        return dict(found)
