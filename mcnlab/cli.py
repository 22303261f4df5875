"""The command line: one thin command per verb; heavy modules are loaded by the verb that needs them."""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mcnlab.cli_import import CROSSTASK_EXAMPLE, MINING_YOUTUBE_EXAMPLE, import_crosstask, import_mining_youtube
from mcnlab.errors import McnlabError, StorageError
from mcnlab.processes import Terminated, sigterm_interrupts

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and after SIGTERM."""
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What a wrong command line raises: click's own class, or that of a typer which brings its own click."""

app = typer.Typer(
    name="mcnlab",
    help="Find out which combination of modalities keeps what.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
importers = typer.Typer(no_args_is_help=True, help="Make a store from media, published files, or the narrated world.")
app.add_typer(importers, name="import")
importers.command("crosstask", epilog=CROSSTASK_EXAMPLE)(import_crosstask)
importers.command("mining-youtube", epilog=MINING_YOUTUBE_EXAMPLE)(import_mining_youtube)

Overrides = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Lay a setting over the file's.")]
Out = Annotated[Path, typer.Option("--out", help="Where the result goes.")]


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Options of every verb; `main` reads --debug."""


@app.command(epilog="Example: mcnlab study studies/modality_combinations.yaml --workers 2")
def study(
    path: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study.")],
    out: Out = Path(),
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at the same time; one per core by default.")] = None,
    only: Annotated[str, typer.Option(metavar="GLOB", help="Only experiments whose name matches.")] = "*",
    overrides: Overrides = [],  # noqa: B006  typer wants a list
) -> None:
    """Run what is missing of a study, then write its report. Safe to repeat after any interruption."""
    # the verb's own modules, so that `mcnlab --help` does not wait for torch
    from mcnlab.study import run_study

    typer.echo(run_study(path, out=out, workers=workers, only=only, overrides=overrides))


@app.command(epilog="Example: mcnlab train studies/tiny_experiment.yaml --run runs/tiny")
def train(
    path: Annotated[Path, typer.Argument(metavar="EXPERIMENT.yaml", help="The experiment.")],
    run: Annotated[Path, typer.Option("--run", help="The run folder; goes on with the run that it holds.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random draw.")] = 0,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Train and evaluate one experiment; resumes by itself."""
    # the verb's own modules, so that `mcnlab --help` does not wait for torch
    from mcnlab.experiment import run_experiment
    from mcnlab.progress import TrainingProgress
    from mcnlab.reporting.notebooks import settings_path

    experiment = settings_path(path)
    with TrainingProgress() as progress:
        folder = run_experiment(
            experiment, run, seed=seed, overrides=overrides, on_step=progress.step, on_start=progress.start
        )
    for note in folder.outcome.get("notes", []):
        typer.echo(note, err=True)
    typer.echo(folder.path)


@app.command(epilog="Example: mcnlab evaluate runs/tiny --tasks retrieval,retention")
def evaluate(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    store: Annotated[Path | None, typer.Option(help="Measure on another store.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Comma-separated; all by default.")] = None,
) -> None:
    """Measure a trained run again; writes its results.json."""
    # the verb's own modules, so that `mcnlab --help` does not wait for torch
    from mcnlab.experiment import evaluate_run

    folder = evaluate_run(run, store=store, tasks=tasks.split(",") if tasks else None)
    typer.echo(folder.path / "results.json")


@app.command(epilog="Example: mcnlab report runs/modality_combinations --out reports/modality_combinations")
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of run folders, or one run folder.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the report.")] = None,
) -> None:
    """Write the HTML again from finished runs, without training."""
    # the verb's own modules, so that `mcnlab --help` does not wait for papermill and plotly
    from mcnlab.study import report_again

    typer.echo(report_again(folder, out))


@importers.command("world", epilog="Example: mcnlab import world --out stores/world --set seed=1")
def import_world(out: Out, overrides: Overrides = []) -> None:  # noqa: B006
    """Render the narrated world: clips whose causes are known."""
    # the verb's own modules, so that `mcnlab --help` does not wait for torch
    from mcnlab.config import with_overrides
    from mcnlab.data.world import WorldSettings, build_world
    from mcnlab.progress import counted

    settings = WorldSettings.parse(with_overrides({}, overrides), source="--set")
    with counted("rendering") as progress:
        build_world(settings, out, progress=progress)
    inspect(out)


@importers.command(
    "media", epilog="Example: mcnlab import media clips.csv --out stores/mine --video seeded --text words.bin"
)
def import_media(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST.csv", help="One row per clip.")],
    out: Out,
    video: Annotated[
        str, typer.Option(help="Frozen visual features: seeded (untrained), or a folder or hub id of a ResNet.")
    ] = "seeded",
    text: Annotated[Path | None, typer.Option(help="Word vectors; trained on the captions when not given.")] = None,
) -> None:
    """Make a store from your own video, image and sound files and captions."""
    # the verb's own modules, so that `mcnlab --help` does not wait for torch
    from mcnlab.data.importers.media import import_media as build
    from mcnlab.progress import counted

    with counted("importing") as progress:
        build(manifest, out, video=video, words=text, progress=progress)
    inspect(out)


@app.command(epilog="Example: mcnlab inspect stores/world")
def inspect(store: Annotated[Path, typer.Argument(help="The store.")]) -> None:
    """Say what is in a store: counts, dims, rates, splits, missing modalities, checksums."""
    # the verb's own modules, so that `mcnlab --help` does not wait for pandas
    from mcnlab.data.store import describe, open_store
    from mcnlab.progress import print_facts

    print_facts(describe(open_store(store)))


@app.command(epilog="Example: mcnlab lab")
def lab(
    folder: Annotated[Path | None, typer.Argument(help="Notebooks folder; `notebooks` here by default.")] = None,
    port: Annotated[int, typer.Option(help="Port; the next free one when taken.")] = 8888,
) -> None:
    """Start JupyterLab in the notebooks folder, on this machine only, with its token."""
    # the verb's own module
    from mcnlab.lab import start_lab

    start_lab(folder, port=port)


def main(arguments: Sequence[str] | None = None) -> int:
    """The `mcnlab` command: one clear line and an exit code for every error that is ours.

    Args:
        arguments: the words after `mcnlab`; those of this process when None.

    Returns:
        The exit code.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with sigterm_interrupts():
            if app(words, prog_name="mcnlab", standalone_mode=False) == INTERRUPTED:
                raise KeyboardInterrupt  # which typer turned into a number
    except (McnlabError, UsageError, OSError, KeyboardInterrupt, Terminated, typer.Abort) as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output has gone, `mcnlab inspect | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return StorageError.exit_code
        if "--debug" in words:
            traceback.print_exception(error)
        message, code = _line_and_code(error)
        if message:
            print("error: " + "".join(c if c.isprintable() else " " for c in message), file=sys.stderr)
        return code
    return 0


def _line_and_code(error: BaseException) -> tuple[str, int]:
    """What to say of an error, and the exit code; nothing to say where help has been shown."""
    if isinstance(error, McnlabError):
        return str(error), error.exit_code
    if isinstance(error, UsageError):
        return str(error.format_message()), 2  # type: ignore[attr-defined]
    if isinstance(error, OSError):
        return f"{error.filename or 'system'}: {error.strerror or error}", StorageError.exit_code
    return ("terminated", TERMINATED) if isinstance(error, Terminated) else ("interrupted", INTERRUPTED)
