"""The verbs of the first hour: `mcnlab doctor`, `mcnlab init` and `mcnlab lab`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Template(StrEnum):
    """What a new study begins with."""

    world = "world"
    media = "media"


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Folder whose disk is looked at.")] = Path(),
) -> None:
    """Say what this machine has, and what is missing for which command."""
    # the verb's own module
    from mcnlab.doctor import examine, print_examination

    found = examine(folder)
    typer.echo(json.dumps(found, indent=1)) if as_json else print_examination(found)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new folder; its name becomes that of the study.")],
    template: Annotated[
        Template, typer.Option(help="world: rendered clips, runs at once; media: your own recordings, listed in a CSV.")
    ] = Template.world,
    force: Annotated[
        bool, typer.Option("--force", help="Also into a folder that holds something; no file that is there changes.")
    ] = False,
) -> None:
    """Make a folder for a study of your own: settings with comments, notebooks, and the commands in its README.md."""
    # the verb's own module, so that `mcnlab --help` does not wait for nbformat
    from mcnlab.start import next_steps, start_study

    written = start_study(folder, template=template.value, force=force)
    typer.echo(f"{folder}: {len(written)} files written. Next, type:", err=True)
    for line in next_steps(folder, template.value):
        typer.echo(f"    {line}", err=True)
    typer.echo(folder)


def lab(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="Notebooks folder; `notebooks` here by default, else those of mcnlab."),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="N", help="Port; the next free one when taken.")
    ] = 8888,
    public: Annotated[
        bool,
        typer.Option(
            "--public", help="Answer other machines too; needs a password, or a token in JUPYTER_TOKEN(_FILE)."
        ),
    ] = False,
) -> None:
    """Start JupyterLab in the notebooks folder, on this machine only, with its token."""
    # the verb's own module
    from mcnlab.lab import start_lab

    start_lab(folder, port=port, public=public)
