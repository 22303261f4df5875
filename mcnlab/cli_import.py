"""Verbs of `mcnlab import` for published data sets with ordered steps; `cli` puts them beside its own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mcnlab.data.importers.report import ImportReport

CROSSTASK_EXAMPLE = (
    "Example: mcnlab import crosstask videos.csv --out stores/crosstask --tasks tasks_primary.txt "
    "--annotations annotations --features features --audio audio --cook cook.txt"
)
MINING_YOUTUBE_EXAMPLE = (
    "Example: mcnlab import mining-youtube annotations --out stores/mining --features features "
    "--videos videos_test.txt --classes mapping.txt"
)
Out = Annotated[Path, typer.Option("--out", help="Where the store goes.")]
Features = Annotated[Path, typer.Option(help="Folder of VIDEO_2d.npy with VIDEO_3d.npy, or of VIDEO.npy.")]
Audio = Annotated[Path | None, typer.Option(help="Folder of VIDEO.npz with arr_0: log-mel of 40 bands, in dB.")]
Words = Annotated[Path | None, typer.Option(help="Word vectors; trained on the texts of the steps when not given.")]


def import_crosstask(
    videos: Annotated[Path, typer.Argument(metavar="VIDEOS.csv", help="Rows task,video_id or task,video_id,url.")],
    out: Out,
    annotations: Annotated[Path, typer.Option(help="Folder of TASK_VIDEO.csv (step,start,end) or TASK_VIDEO.npy.")],
    features: Features,
    tasks: Annotated[list[Path], typer.Option(help="File of tasks in blocks of five lines; may be given twice.")] = [],  # noqa: B006
    steps: Annotated[Path | None, typer.Option(help="JSON of step texts by task.")] = None,
    audio: Audio = None,
    cook: Annotated[Path | None, typer.Option(help="Cooking tasks, one id or title per line.")] = None,
    held_out: Annotated[Path | None, typer.Option(help="List of the test videos; all are when not given.")] = None,
    words: Words = None,
) -> None:
    """Make a store from CrossTask: videos with the ordered steps of their tasks."""
    # the verb's own modules, so that `mcnlab --help` does not wait for numpy
    from mcnlab.data.importers.crosstask import import_crosstask as build
    from mcnlab.progress import counted

    with counted("importing") as progress:
        report = build(
            videos,
            out,
            annotations=annotations,
            features=features,
            tasks=tasks,
            steps=steps,
            audio=audio,
            cook=cook,
            held_out=held_out,
            words=words,
            progress=progress,
        )
    tell(report)


def import_mining_youtube(
    annotations: Annotated[Path, typer.Argument(help="Folder of VIDEO.srt, VIDEO.gt or VIDEO.npy.")],
    out: Out,
    features: Features,
    videos: Annotated[Path | None, typer.Option(help="Ids, one per line; all annotated ones by default.")] = None,
    classes: Annotated[Path | None, typer.Option(help="The classes: mapping.txt.")] = None,
    steps: Annotated[Path | None, typer.Option(help="JSON of step texts by video, for matrices.")] = None,
    audio: Audio = None,
    held_out: Annotated[Path | None, typer.Option(help="Ids of the test videos; all are when not given.")] = None,
    rate: Annotated[float, typer.Option(help="Rows of features and labels per second.")] = 1.0,
    words: Words = None,
) -> None:
    """Make a store from MiningYouTube: videos with their actions in order."""
    # the verb's own modules, so that `mcnlab --help` does not wait for numpy
    from mcnlab.data.importers.mining_youtube import import_mining_youtube as build
    from mcnlab.progress import counted

    with counted("importing") as progress:
        report = build(
            annotations,
            out,
            features=features,
            videos=videos,
            classes=classes,
            steps=steps,
            audio=audio,
            held_out=held_out,
            rate_hz=rate,
            words=words,
            progress=progress,
        )
    tell(report)


def tell(report: "ImportReport") -> None:
    """Say what became of everything, and what is in the new store.

    Args:
        report: of an import.
    """
    # only a verb that has imported needs these
    from mcnlab.data.store import describe, open_store
    from mcnlab.progress import print_facts

    for line in report.lines():
        typer.echo("".join(letter if letter.isprintable() else " " for letter in line), err=True)
    print_facts(describe(open_store(report.store)))
