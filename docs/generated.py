"""Pages that are written from the code before every build: commands, settings, contract, notebooks."""

import contextlib
import io
import os
import shutil
import types
import typing
from pathlib import Path

import typer
from pydantic_core import PydanticUndefined

from mcnlab.cli import app, main
from mcnlab.config import Settings
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.study_plan import StudySettings

HERE = Path(__file__).parent
ROOT = HERE.parent
OUT = HERE / "_generated"
CONTRACT = {
    "mcnlab": ("load_run", "embed", "list_runs"),
    "mcnlab.experiment": ("Run",),
    "mcnlab.losses": (
        "masked_margin_softmax", "info_nce", "mil_nce", "centroid_contrast", "reconstruction_error", "relation_match",
        "multi_similarity", "negative_cosine",
    ),
    "mcnlab.metrics": (
        "retrieval_metrics", "ranks_of_true_match", "cluster_purity", "normalized_mutual_information",
        "adjusted_rand_index", "consensus_iou", "align_steps",
    ),
    "mcnlab.models": ("GatedUnit", "DaveNet", "PredictiveCoding", "DistillationProjector"),
    "mcnlab.data": ("open_store", "load_published_pickle", "Store"),
}  # fmt: skip
"""Names that do not move, by module."""
WIDTH = 80
"""Characters of a line of help."""


def write_generated() -> None:
    """Write all of them anew."""
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "notebooks").mkdir(parents=True)
    (OUT / "python.md").write_text(contract_page(), encoding="utf-8")
    (OUT / "commands.md").write_text(commands_page(), encoding="utf-8")
    (OUT / "settings.md").write_text(settings_page(), encoding="utf-8")
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        shutil.copy(notebook, OUT / "notebooks")


def contract_page() -> str:
    """The reference of the names that do not move, from their docstrings."""
    parts = [
        "# In Python\n\nNames that do not move. All take and give tensors or arrays of the shapes that they state."
    ]
    for module, names in CONTRACT.items():
        entries = [_autodoc(module, name) for name in names]
        parts.append(f"## `{module}`\n\n" + "\n\n".join(entries))
    return "\n\n".join(parts) + "\n"


def commands_page() -> str:
    """The help of every verb, as the terminal shows it."""
    parts = ["# Commands\n\nWhat `mcnlab VERB --help` says. Errors are one line and end with what to type next."]
    for verb in verbs(typer.main.get_command(app)):
        parts.append(f"## mcnlab {' '.join(verb)}\n\n```text\n{help_of(verb)}\n```")
    return "\n\n".join(parts) + "\n"


def verbs(command: typing.Any, before: tuple[str, ...] = ()) -> typing.Iterator[tuple[str, ...]]:
    """The words of every verb, in the order of the help."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield before
        return
    for name, one in inner.items():
        yield from verbs(one, (*before, name))


def help_of(verb: tuple[str, ...]) -> str:
    """What a verb says of itself."""
    wide = {"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH), "NO_COLOR": "1"}
    before = {name: os.environ.get(name) for name in wide}
    os.environ.update(wide)
    try:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            main([*verb, "--help"])
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return "\n".join(line.rstrip() for line in said.getvalue().strip().splitlines())


def settings_page() -> str:
    """Every setting of a study and of an experiment: name, default, meaning."""
    parts = [
        "# Settings\n\nOf a study's YAML, and of every experiment in it (`base`, then what stands beside "
        "`experiment`). On the command line: `--set training.epochs=3`. A name that is not here is refused, with the "
        "nearest one that is."
    ]
    parts.append(_group("A study", "", StudySettings))
    parts.append(_group("An experiment", "", ExperimentSettings))
    done: set[type] = {ExperimentSettings}
    for path, group in _groups(ExperimentSettings, "", done):
        parts.append(_group(f"`{path}`", path, group))
    return "\n\n".join(parts) + "\n"


def _groups(settings: type[Settings], before: str, done: set[type]) -> typing.Iterator[tuple[str, type[Settings]]]:
    """Groups of settings inside of another, each once, with the path where it stands first."""
    for name, field in settings.model_fields.items():
        for inner in _models(field.annotation):
            if inner not in done:
                done.add(inner)
                path = f"{before}.{name}".lstrip(".")
                yield path, inner
                yield from _groups(inner, path, done)


def _models(annotation: typing.Any) -> typing.Iterator[type[Settings]]:
    """Groups of settings that a field may hold."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, Settings):
            yield annotation
        return
    for inner in typing.get_args(annotation):
        yield from _models(inner)


def _group(title: str, path: str, settings: type[Settings]) -> str:
    """A table of one group."""
    rows = [f"## {title}\n\n{_cell((settings.__doc__ or '').strip())}\n\n| setting | default | means |\n|---|---|---|"]
    for name, field in settings.model_fields.items():
        default = "needed" if field.is_required() else _default(field)
        rows.append(f"| `{f'{path}.{name}'.lstrip('.')}` | {default} | {_cell(field.description or '')} |")
    return "\n".join(rows)


def _default(field: typing.Any) -> str:
    """A default as YAML would have it; a group of settings is told by its own table."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or isinstance(value, Settings):
        return "see below"
    plain = {None: "none", True: "true", False: "false"}
    text = plain[value] if value is None or isinstance(value, bool) else str(value)
    return f"`{_cell(text)}`" if len(text) <= 60 else "see the code"


def _cell(text: str) -> str:
    """Text for one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _autodoc(module: str, name: str) -> str:
    """The directive of one name."""
    found = getattr(__import__(module, fromlist=[name]), name)
    kind = "autoclass" if isinstance(found, type) else "autofunction"
    members = "\n   :members:" if module in ("mcnlab.experiment", "mcnlab.data") and kind == "autoclass" else ""
    return f"```{{eval-rst}}\n.. {kind}:: {module}.{name}{members}\n```"
