"""`mcnlab plan`: what an experiment will cost."""

import json
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from mcnlab import completion
from mcnlab.errors import ConfigError


def plan(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="EXPERIMENT.yaml|STUDY.yaml",
            help="What would be trained.",
            autocompletion=completion.settings_files,
        ),
    ] = None,
    videos: Annotated[int | None, typer.Option(metavar="N", help="Recordings to train on.")] = None,
    gpus: Annotated[int, typer.Option(metavar="N", help="Processes that share every batch.")] = 1,
    hours_per_video: Annotated[
        float | None,
        typer.Option(metavar="HOURS", help="Mean length; that of the store, the world or HowTo100M by default."),
    ] = None,
    clips_per_video: Annotated[
        float | None, typer.Option(metavar="N", help="Mean number of captions, likewise.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measured rates; those of this machine by default.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure this machine first, a minute or two.")
    ] = False,
    scratch: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for --calibrate, on the disk that holds the stores.")
    ] = Path(),
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, metavar="N", help="CPU threads for --calibrate; one and all cores by default."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    overrides: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Lay a setting over the file's, such as training.batch=512; may be repeated.",
        ),
    ] = [],  # noqa: B006  typer wants a list
) -> None:
    """Say what an experiment or a study will cost at a size: hours, memory, disk, reads, and the bottleneck."""
    if calibrate:
        _calibrate(calibration, scratch, threads or [])
    if path is None:
        if not calibrate:
            raise typer.BadParameter("expected STUDY.yaml or EXPERIMENT.yaml, or --calibrate")
        return
    if videos is None:
        raise ConfigError(
            f"--videos is missing: how many recordings to train on; type: mcnlab plan {quote(str(path))} --videos 10000"
        )
    # the verb's own modules, so that `mcnlab --help` does not wait for torch
    from mcnlab.config import read_yaml
    from mcnlab.experiment.settings_files import read_experiment
    from mcnlab.plan.advice import planned
    from mcnlab.plan.calibration import read_calibration
    from mcnlab.plan.page import as_plain, print_plan, print_study, study_as_plain
    from mcnlab.plan.sizes import Request
    from mcnlab.plan.study import plan_study
    from mcnlab.reporting.notebooks import settings_path

    request = Request(videos, gpus, hours_per_video, clips_per_video)
    path, measured = settings_path(path), read_calibration(calibration)
    if "study" in read_yaml(path):
        study = plan_study(path, request, measured, overrides=overrides)
        typer.echo(json.dumps(study_as_plain(study), indent=1)) if as_json else print_study(study)
        return
    one = planned(read_experiment(path, overrides=overrides), request, measured)
    typer.echo(json.dumps(as_plain(one), indent=1)) if as_json else print_plan(one)


def _calibrate(path: Path | None, scratch: Path, threads: list[int]) -> None:
    """Measure this machine and say where the rates are."""
    # the verb's own modules
    from mcnlab.plan.calibration import write_calibration
    from mcnlab.plan.measure import calibrate
    from mcnlab.progress import counted

    if not scratch.is_dir():
        raise ConfigError(f"--scratch {scratch}: no such folder")
    with counted("measuring") as progress:
        measured = calibrate(scratch, threads=threads, progress=progress)
    typer.echo(f"{write_calibration(measured, path)}: {measured.device}, measured {measured.date}", err=True)
