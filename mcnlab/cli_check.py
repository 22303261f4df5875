"""The verbs that look at what is there, `verify` and `list`; heavy modules are loaded by the verb that needs them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mcnlab.errors import DataError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def verify(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A run, a folder of runs, or a store.")],
    quick: Annotated[bool, typer.Option("--quick", help="Do not compute a run's results again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check that files, settings, checkpoints and numbers are what they were; exits with 3 where something is not."""
    # the verb's own modules, so that `mcnlab --help` does not wait for torch
    from mcnlab.experiment.verify import verify as checks_of
    from mcnlab.reporting.terminal import print_check

    found = []
    for check in checks_of(path, recompute=not quick):
        found.append(check)
        if not as_json:
            print_check(check.subject, check.name, check.state, check.problems or [check.skipped])
    if as_json:
        typer.echo(json.dumps([{**vars(check), "state": check.state} for check in found], indent=1))
    if bad := sum(check.state == "problem" for check in found):
        raise DataError(f"{path}: {bad} of {len(found)} checks found a problem")
    if not as_json:
        skipped = sum(check.state == "not checked" for check in found)
        looked_at = len(found) - skipped
        typer.echo(
            f"{looked_at} check{'' if looked_at == 1 else 's'}, no problem"
            + (f"; {skipped} not checked" if skipped else "")
        )


def list_(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of one study's runs, or of several studies.")
    ] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Say which runs a folder holds, and how far each has come; the one that wrote last stands last."""
    # the verb's own modules, so that `mcnlab --help` does not wait for pandas
    from mcnlab.reporting.terminal import print_runs
    from mcnlab.runs import list_all_runs

    runs = list_all_runs(folder)
    if as_json:
        typer.echo(runs.to_json(orient="records", indent=1))
    else:
        print_runs(runs)
