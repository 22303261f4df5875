"""The command line: one thin command per verb; heavy modules are loaded by the verb that needs them."""

import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import mcnlab
from mcnlab import completion
from mcnlab.cli_check import list_, verify
from mcnlab.cli_first import doctor, init, lab
from mcnlab.cli_help import Verbs, verb
from mcnlab.cli_import import importers, say_what_is_in, tell
from mcnlab.cli_plan import plan
from mcnlab.errors import EXIT_CODES, McnlabError, StorageError, one_line_warnings
from mcnlab.processes import Terminated, stopping_interrupts

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C, and after SIGTERM or SIGUSR1."""
GOING_ON = (["howto100m"], ["crosstask"], ["mining-youtube"])
"""Imports that go on where they were stopped; others begin anew, and leave nothing half-made."""
MEMORY_WORDS = ("out of memory", "allocate memory", "bad_alloc", "start new thread", "failed to map segment")
"""What an error of torch, or of the loader of libraries, says where no memory is left and it is no MemoryError."""
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What a wrong command line raises: click's own class, or that of a typer which brings its own click."""

app = typer.Typer(
    name="mcnlab",
    cls=Verbs,
    help="Find out which combination of modalities keeps what.",
    epilog="Exit codes: " + " · ".join(f"[bold]{code}[/bold] {meaning}" for code, meaning in EXIT_CODES.items()),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
verb(app, "mcnlab doctor")(doctor)
verb(app, "mcnlab init my_study --template media")(init)
verb(app, "mcnlab lab")(lab)
verb(app, "mcnlab verify runs/modality_combinations/V-T-s0")(verify)
verb(app, "mcnlab list runs/modality_combinations", "list")(list_)

Overrides = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Lay a setting over the file's, such as training.epochs=3; may be repeated."
    ),
]
Deterministic = Annotated[
    bool,
    typer.Option("--deterministic", help="The same as --set training.deterministic=true: the same bytes every time."),
]


def _experiments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the experiments of the study that was typed before."""
    names = completion.experiments(next(iter(ctx.args), ctx.params.get("path")), incomplete)
    in_bash = os.environ.get("_MCNLAB_COMPLETE") == "complete_bash"  # other shells quote for themselves
    return [name.replace(" ", "\\ ") for name in names] if in_bash else names


def _settings_of(deterministic: bool) -> list[str]:
    """What --deterministic lays over the settings."""
    return ["training.deterministic=true"] if deterministic else []


def _say_version(wanted: bool) -> bool:
    """Print the version and end, if asked to."""
    if wanted:
        typer.echo(f"mcnlab {mcnlab.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error, and where a warning comes from.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Options of every verb; `main` reads --debug."""


@verb(app, "mcnlab study studies/modality_combinations.yaml --workers 2")
def study(
    path: Annotated[
        Path, typer.Argument(metavar="STUDY.yaml", help="The study.", autocompletion=completion.settings_files)
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder that gets runs/, stores/ and reports/.")
    ] = Path(),
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Runs at the same time; one per core, at most 8, by default.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Use the workers of a running dask cluster, tcp://host:8786.")
    ] = None,
    gpus_per_run: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="SHARE",
            help="With --scheduler: each run takes so much of a worker's resource GPU; what the study says by default.",
        ),
    ] = None,
    only: Annotated[
        str,
        typer.Option(
            metavar="GLOB", help="Only experiments whose name matches, such as 'V+*'.", autocompletion=_experiments
        ),
    ] = "*",
    deterministic: Deterministic = False,
    overrides: Overrides = [],  # noqa: B006  typer wants a list
) -> None:
    """Run what is missing of a study, then write its report. Safe to repeat after any interruption."""
    # the verb's own modules, so that `mcnlab --help` does not wait for torch
    from mcnlab.progress import loading

    with loading(f"loading torch, then reading {path}"):
        # takes seconds
        from mcnlab.study import run_study

    index = run_study(
        path,
        out=out,
        workers=workers,
        scheduler=scheduler,
        gpus_per_run=gpus_per_run,
        only=only,
        overrides=[*overrides, *_settings_of(deterministic)],
    )
    typer.echo(index)


@verb(app, "mcnlab train studies/tiny_experiment.yaml --run runs/tiny")
def train(
    path: Annotated[
        Path,
        typer.Argument(metavar="EXPERIMENT.yaml", help="The experiment.", autocompletion=completion.settings_files),
    ],
    run: Annotated[
        Path,
        typer.Option(
            "--run",
            "--run-dir",
            metavar="DIR",
            help="The run folder; goes on with the run that it holds. torchrun needs the long name.",
        ),
    ],
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of every random draw.")] = 0,
    devices: Annotated[
        int, typer.Option(min=1, metavar="N", help="Processes that share every batch, one per GPU.")
    ] = 1,
    rank_timeout_s: Annotated[
        float,
        typer.Option(min=1.0, metavar="SECONDS", help="Seconds until a process that does not answer counts as lost."),
    ] = 300.0,
    deterministic: Deterministic = False,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Train and evaluate one experiment; resumes by itself, also with another number of processes."""
    # the verb's own modules, so that `mcnlab --help` does not wait for torch
    from mcnlab.progress import loading

    with loading(f"loading torch, then reading {path}"):
        # takes seconds
        from mcnlab.experiment.ranks import train_on
        from mcnlab.reporting.notebooks import settings_path
        from mcnlab.runs import RunFolder

    order = (settings_path(path), run, seed, (*overrides, *_settings_of(deterministic)))
    before = RunFolder(run).finished
    folder = train_on(devices, *order, timeout_s=rank_timeout_s)
    if folder is None:  # the first process speaks for all
        return
    if before:
        again = f"mcnlab evaluate {shlex.quote(str(run))}"
        typer.echo(f"nothing to do: this run was finished before; `{again}` measures it again", err=True)
    else:
        typer.echo(f"Next: mcnlab report {shlex.quote(str(run))}   (its curves and numbers as a page)", err=True)
    for note in folder.outcome.get("notes", []):
        typer.echo(note, err=True)
    typer.echo(folder.path)


@verb(app, "mcnlab evaluate runs/tiny --tasks retrieval,retention")
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    store: Annotated[
        Path | None, typer.Option(metavar="STORE", help="Another store; its rows say TASK@STORE, the run's own stay.")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="TASK,TASK",
            help=f"Some of {', '.join(completion.TASKS)}, with commas and no spaces; those of the settings by default.",
            autocompletion=completion.tasks,
        ),
    ] = None,
) -> None:
    """Measure a trained run again; writes its results.json."""
    # the verb's own modules, so that `mcnlab --help` does not wait for torch
    from mcnlab.experiment import evaluate_run
    from mcnlab.progress import print_facts

    folder = evaluate_run(run, store=store, tasks=tasks.split(",") if tasks else None)
    print_facts(folder.headlines())
    typer.echo(folder.path / "results.json")


@verb(app, "mcnlab report runs/modality_combinations --out reports/modality_combinations")
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of run folders, or one run folder.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder of the pages; reports/STUDY beside runs/ by default, the run's own folder for one run.",
        ),
    ] = None,
) -> None:
    """Write the HTML again from finished runs, without training."""
    # the verb's own modules, so that `mcnlab --help` does not wait for papermill and plotly
    from mcnlab.progress import loading

    with loading(f"loading torch and plotly, then reading {folder}"):
        # takes seconds
        from mcnlab.study import report_again

    typer.echo(report_again(folder, out))


@verb(app, "mcnlab extract videos.csv --out stores/mine --video resnet152 --text GoogleNews.bin")
def extract(
    manifest: Annotated[
        Path,
        typer.Argument(metavar="MANIFEST.csv", help="Columns id, recording, video, audio, start, end, caption, split."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the new store.")],
    video: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="2D features, a row per second: resnet152, a folder or a hub id of a ResNet."
        ),
    ] = "resnet152",
    video_3d: Annotated[
        str | None,
        typer.Option("--video-3d", metavar="NAME", help="3D features: a folder or a hub id of a video model."),
    ] = None,
    audio: Annotated[str, typer.Option(metavar="NAME", help="Sound features; logmel is the only kind.")] = "logmel",
    text: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Word vectors; trained on the captions when not given.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Files decoded at the same time; one per core by default.")
    ] = None,
) -> None:
    """Turn whole media files into features of the published layout: ResNet rows at 1 Hz and log-mel."""
    # the verb's own modules, so that `mcnlab --help` does not wait for torch
    from mcnlab.data.importers.whole_files import extract_files
    from mcnlab.progress import counted

    if audio != "logmel":
        raise typer.BadParameter(f"audio: expected logmel, got {audio!r}")
    with counted("extracting") as progress:
        report = extract_files(
            manifest, out, video=video, video_3d=video_3d, words=text, threads=threads, progress=progress
        )
    tell(report)


@verb(app, "mcnlab inspect stores/world")
def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A store that `mcnlab import` made, or a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="All of it as JSON, every label included.")] = False,
) -> None:
    """Say what is in a store (counts, dims, splits, checksums), or in a run (state, steps, best checkpoint)."""
    say_what_is_in(path, as_json=as_json)


verb(app, "mcnlab plan studies/mcn_iccv2021.yaml --videos 1200000 --gpus 8")(plan)
app.add_typer(importers, name="import")


def main(arguments: Sequence[str] | None = None) -> int:
    """The `mcnlab` command: one clear line and an exit code for every error that is ours.

    Args:
        arguments: the words after `mcnlab`; those of this process when None.

    Returns:
        The exit code.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with stopping_interrupts(), one_line_warnings("--debug" not in words):
            if app(words, prog_name="mcnlab", standalone_mode=False) == INTERRUPTED:
                raise KeyboardInterrupt  # which typer turned into a number
    except (McnlabError, UsageError, OSError, KeyboardInterrupt, Terminated, typer.Abort) as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output has gone, `mcnlab inspect | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return StorageError.exit_code
        return _tell(error, words)
    except (MemoryError, RuntimeError, ImportError) as error:
        if not _is_out_of_memory(error):
            raise
        return _tell(error, words)
    return 0


def _tell(error: BaseException, words: Sequence[str]) -> int:
    """Say what went wrong in one line; the exit code."""
    if "--debug" in words:
        traceback.print_exception(error)
    message, code = _line_and_code(error, words)
    if message:
        print("error: " + "".join(c if c.isprintable() else " " for c in message), file=sys.stderr)
    return code


def _sentence(error: Exception) -> str:
    """What is wrong with a command line, ending in a point or a question mark."""
    said = str(error.format_message())  # type: ignore[attr-defined]
    return said if said[-1:] in ".?!" else f"{said}."


def _what_to_type(error: Exception) -> str:
    """A line that would work, of the verb that was meant; the help where none was."""
    context = getattr(error, "ctx", None)
    example = str(getattr(getattr(context, "command", None), "epilog", None) or "")
    if example.startswith("Example: mcnlab study ") and Path("study.yaml").is_file():  # as `mcnlab init` makes it
        return "Type: mcnlab study study.yaml"
    if example.startswith("Example: "):
        return example
    return f"Type: {context.command_path if context else 'mcnlab'} --help"


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that no memory was left."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in MEMORY_WORDS)


def _line_and_code(error: BaseException, words: Sequence[str]) -> tuple[str, int]:
    """What to say of an error of a command, and the exit code; nothing to say where help has been shown."""
    if isinstance(error, McnlabError):
        return str(error), error.exit_code
    if isinstance(error, UsageError):
        if not error.format_message():  # type: ignore[attr-defined]
            return "", 2  # no verb at all: the help has been shown
        return f"{_sentence(error)} {_what_to_type(error)}", 2
    if isinstance(error, MemoryError | RuntimeError | ImportError) and _is_out_of_memory(error):
        said = " ".join(str(error).split())[:200] or type(error).__name__
        return f"out of memory: {said}{_how_to_go_on(words)}", StorageError.exit_code
    if isinstance(error, OSError):
        return f"{error.filename or 'system'}: {error.strerror or error}", StorageError.exit_code
    what, code = ("terminated", TERMINATED) if isinstance(error, Terminated) else ("interrupted", INTERRUPTED)
    return what + _how_to_go_on(words), code


def _how_to_go_on(words: Sequence[str]) -> str:
    """The command that goes on with what a signal ended; nothing where it would begin anew."""
    verbs = [word for word in words if not word.startswith("-")]
    goes_on = verbs[:1] in (["study"], ["train"]) or (verbs[:1] == ["import"] and verbs[1:2] in GOING_ON)
    return f"; what is done is kept. To go on, type: mcnlab {shlex.join(words)}" if goes_on else ""
