"""The layers of the package: imports point down, and the light parts stay light."""

import ast
import importlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mcnlab"
LAYERS = (
    {"errors", "modalities", "batch", "processes"},
    {
        "config",
        "numerics",
        "distributed",
        "runs",
        "files",
        "parquet",
        "progress",
        "kernel_server",
        "kernels",
        "cluster",
    },
    {"data", "models", "losses", "metrics"},
    {"training", "evaluation", "reporting"},
    {"experiment", "workers", "sweep", "study_plan", "study", "demo", "plan", "doctor"},
    {"cli", "cli_check", "cli_first", "cli_import", "cli_plan", "completion", "cli_help", "lab", "start"},
    {"__init__", "__main__"},
)
"""Parts of the package, from the bottom up; a part may import what stands below it, and some parts beside it."""
BESIDE = {
    ("batch", "modalities"),
    ("numerics", "config"),
    ("runs", "config"),
    ("runs", "files"),
    ("runs", "parquet"),
    ("cluster", "files"),
    ("models", "losses"),
    ("sweep", "workers"),
    ("study_plan", "experiment"),
    ("study", "experiment"),
    ("study", "study_plan"),
    ("study", "sweep"),
    ("study", "workers"),
    ("demo", "experiment"),
    ("demo", "study_plan"),
    ("plan", "experiment"),
    ("plan", "study_plan"),
    ("doctor", "experiment"),
    ("doctor", "plan"),
    ("cli", "cli_check"),
    ("cli", "cli_import"),
    ("cli", "cli_plan"),
    ("cli", "cli_first"),
    ("cli", "cli_help"),
    ("cli", "completion"),
    ("cli_first", "lab"),
    ("cli_first", "start"),
    ("cli_import", "cli_help"),
    ("cli_import", "completion"),
    ("cli_plan", "completion"),
    ("__main__", "__init__"),
}
"""(who, whom): what may be imported on the same layer."""
SCIENCE = {"data", "models", "losses", "metrics"}
EXCUSE = "TYPE_CHECKING"


def modules():
    """Every module with its source."""
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path):
    """The part of the package that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree):
    """Dotted names that a module imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the full path"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def typing_only(tree):
    """The imports that no interpreter follows."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == EXCUSE:
            yield from imported(node)


def own_parts(path):
    """Parts of the package that a module imports from."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set(imported(tree)) - set(typing_only(tree))
    return {name.split(".")[1] for name in names if name.startswith("mcnlab.")} - {"__version__"}


def inner_imports(path):
    """Lines of the imports inside of functions."""
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    inside = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, functions)]
    nodes = [node for function in inside for node in ast.walk(function)]
    return sorted({node.lineno for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)})


def given_twice(path):
    """Names that a module gives twice at its top level, as a merge leaves them."""
    given = Counter()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            given[node.name] += 1
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        given.update(target.id for target in targets if isinstance(target, ast.Name))
    return [name for name, times in given.items() if times > 1]


def dotted(path):
    """Name of a module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def layer(part):
    """Height of a part."""
    return next(height for height, parts in enumerate(LAYERS) if part in parts)


def test_every_module_has_a_place_in_the_layers():
    known = set().union(*LAYERS)
    assert {part_of(path) for path in modules()} <= known


def test_imports_point_down():
    for path in modules():
        own = part_of(path)
        for part in own_parts(path) - {own}:
            assert layer(part) < layer(own) or (own, part) in BESIDE, f"{path}: {own} imports {part}"


def test_an_import_inside_a_function_says_why():
    for path in modules():
        lines = path.read_text(encoding="utf-8").splitlines()
        for number in inner_imports(path):
            before = number - 1
            while re.match(r"\s*(from|import) ", lines[before - 1]):
                before -= 1
            block = [line for line in lines[before:number] if "#" in line]
            assert block or lines[before - 1].lstrip().startswith("#"), f"{path}:{number}"


def test_no_module_gives_a_name_twice():
    assert {str(path): names for path in modules() if (names := given_twice(path))} == {}


def test_the_science_never_asks_which_rank_it_is_on():
    asking = [path for path in modules() if part_of(path) in SCIENCE - {"data"} and "distributed" in own_parts(path)]
    assert asking == []


def test_losses_and_metrics_do_not_know_each_other():
    for path in modules():
        if part_of(path) in SCIENCE:
            assert own_parts(path) & SCIENCE <= {part_of(path)}, path


def test_nobody_catches_everything_without_raising_again():
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            again = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            assert not broad or again, f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    ("loaded", "absent"),
    [
        (["mcnlab", "mcnlab.cli"], ["torch", "pandas", "plotly", "numpy", "pydantic", "papermill"]),
        (["mcnlab.runs", "mcnlab.workers", "mcnlab.reporting"], ["torch"]),
    ],
)
def test_a_module_loads_without_what_it_does_not_need(loaded, absent):
    found = [dotted(path) for path in modules()]
    chosen = [name for name in found if name in loaded or (name.startswith("mcnlab.reporting.") and len(loaded) > 2)]
    code = f"import sys, {', '.join(chosen)}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("losses", "masked_margin_softmax info_nce mil_nce centroid_contrast reconstruction_error relation_match"),
        ("losses", "multi_similarity negative_cosine"),
        ("metrics", "retrieval_metrics ranks_of_true_match cluster_purity normalized_mutual_information"),
        ("metrics", "adjusted_rand_index consensus_iou align_steps"),
        ("models", "GatedUnit DaveNet PredictiveCoding DistillationProjector"),
        ("data", "open_store load_published_pickle Store"),
    ],
)
def test_names_that_others_build_on_are_where_they_are_promised(part, names):
    home = importlib.import_module(f"mcnlab.{part}")
    for name in names.split():
        assert callable(getattr(home, name))
        assert name in home.__all__
