"""Every random draw comes from a named generator: none touches, or depends on, what a process has in common."""

import ast
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.small_store import make_store
from tests.test_training import assert_same, lines, trainer, weights

PACKAGE = Path(__file__).parents[1] / "mcnlab"
SEEDED = {"np.random.default_rng", "np.random.Philox", "np.random.SeedSequence", "random.Random"}
"""Makers of generators, which without an argument take their seed from the clock or the system."""
MAKERS = {"np.random.Generator", "torch.Generator"}
DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}
DRAWS |= {"rand_like", "randn_like", "randint_like"}
"""Of torch."""
METHODS = {"uniform_", "normal_", "random_", "bernoulli_", "exponential_", "cauchy_", "geometric_", "log_normal_"}
"""Of a tensor; like `DRAWS` they take a generator."""
INITIAL = {
    "normal_",
    "uniform_",
    "trunc_normal_",
    "xavier_normal_",
    "xavier_uniform_",
    "kaiming_normal_",
    "orthogonal_",
}
"""Of `nn.init`."""
COMMON = {
    "torch.manual_seed",
    "torch.seed",
    "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all",
    "torch.set_rng_state",
}
"""Change the generator that a process has in common."""
FITTED = {
    "KMeans",
    "MiniBatchKMeans",
    "kmeans_plusplus",
    "LinearSVC",
    "SVC",
    "PCA",
    "TruncatedSVD",
    "UMAP",
    "AlignedUMAP",
}
"""Fits of libraries that draw from what the process has in common unless they are given `random_state`."""
EXCEPTIONS = {
    ("numerics.py", "torch.manual_seed"): "inside of `seeded`, which puts the state back",
    ("models/davenet.py", "nn.init.normal_"): "drawn when a model is built, which is done under `seeded`",
    ("training/chunks.py", "torch.set_rng_state"): "the second pass of a chunk repeats the first, under `fork_rng`",
    ("plan/measure_device.py", "torch.rand"): "only the time is measured",
    ("plan/measure_device.py", "torch.randn"): "only the time is measured",
    ("plan/measure_device.py", "torch.randn_like"): "only the time is measured",
    ("plan/measure_files.py", "torch.rand"): "only the time is measured",
    ("sweep.py", "uuid.uuid4"): "names a task of a cluster, which must not be taken for an earlier one",
    ("cluster.py", "uuid.uuid4"): "names a file, so that machines see whether they share a folder",
}


def full_names(tree):
    """What the names of a module's imports stand for; `np` and `nn` are called so everywhere."""
    known = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {(one.asname or one.name.split(".")[0]): one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            known |= {(one.asname or one.name): f"{node.module}.{one.name}" for one in node.names}
    return known


def called(node, known):
    """The full name of what is called, in short form; empty where it is not a plain name of an import."""
    parts = ast.unparse(node.func).split(".")
    if parts[0] not in known or not all(part.isidentifier() for part in parts):
        return ""
    name = ".".join([known[parts[0]], *parts[1:]])
    return name.replace("numpy.random", "np.random").replace("torch.nn.init", "nn.init")


def problem(node, known):
    """What is wrong with a call; None where nothing is."""
    name, given = called(node, known), {word.arg for word in node.keywords}
    last = ast.unparse(node.func).split(".")[-1]
    if name in SEEDED:
        return None if node.args or given else name
    if name.startswith(("np.random.", "random.")):
        return None if name in MAKERS else name
    if name.startswith("torch.") and name.removeprefix("torch.") in DRAWS:
        return None if "generator" in given else name
    if name in COMMON or name.startswith(("uuid.uuid", "secrets.", "os.urandom")):
        return name
    if name.startswith("nn.init.") and last in INITIAL:
        return name
    if last in METHODS and isinstance(node.func, ast.Attribute) and "generator" not in given:
        return last
    if last in FITTED and name:
        return None if "random_state" in given or None in given else last  # None: `**options`
    return None


def problems(source):
    """Names of all calls in a source that draw from what the process has in common."""
    tree = ast.parse(source)
    known = full_names(tree)
    return [found for node in ast.walk(tree) if isinstance(node, ast.Call) and (found := problem(node, known))]


def test_every_draw_has_a_generator_or_a_reason():
    found = {
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in PACKAGE.rglob("*.py")
        for name in problems(path.read_text(encoding="utf-8"))
    }
    assert found == set(EXCEPTIONS)  # a reason that nobody needs any more goes, too


@pytest.mark.parametrize(
    "line",
    [
        "import numpy as np; np.random.normal()",
        "from numpy import random; random.shuffle(x)",
        "from numpy.random import default_rng; default_rng()",
        "import random; random.random()",
        "from random import shuffle as mix; mix(x)",
        "import random; random.Random()",
        "import torch; torch.rand(3)",
        "import torch as t; t.randperm(3)",
        "import torch; torch.empty(3).uniform_()",
        "import torch; torch.manual_seed(0)",
        "from torch.nn.init import normal_; normal_(x)",
        "from sklearn.cluster import KMeans; KMeans(3)",
        "import umap; umap.UMAP(n_neighbors=3)",
        "import secrets; secrets.token_hex()",
    ],
)
def test_a_draw_without_a_generator_is_found(line):
    assert problems(line)


@pytest.mark.parametrize(
    "line",
    [
        "import numpy as np; np.random.default_rng([seed, 1]).normal()",
        "def f(random): return random.normal()",
        "import torch; torch.rand(3, generator=g)",
        "from sklearn.cluster import KMeans; KMeans(3, random_state=0)",
        "import umap; umap.UMAP(**options)",
    ],
)
def test_a_draw_with_a_generator_is_left_alone(line):
    assert problems(line) == []


def common_state():
    """What a process has in common, without the state of `random`, from which the shape checks of the tests draw."""
    return str(np.random.get_state()), torch.get_rng_state().tolist()


def test_a_run_neither_reads_nor_moves_what_the_process_has_in_common(tmp_path):
    store = make_store(tmp_path / "store", recordings=12, test=4, missing_text=0.2)
    made = []
    for number in range(2):
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)
        before = common_state()
        one = trainer(store, tmp_path / f"run{number}", stages="AV_T", training={"epochs": 4})
        one.train()
        assert common_state() == before
        made.append((weights(one), lines(tmp_path / f"run{number}")))
    assert_same(made[0][0], made[1][0])
    assert made[0][1] == made[1][1]
