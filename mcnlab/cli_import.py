"""The verbs of `mcnlab import`; heavy modules are loaded by the verb that needs them."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from mcnlab import completion
from mcnlab.cli_help import Verbs, verb

if TYPE_CHECKING:
    from mcnlab.data.importers.report import ImportReport

importers = typer.Typer(
    cls=Verbs, no_args_is_help=True, help="Make a store from media, published files, or the narrated world."
)
NONE = Path("-")
"""Typed in place of a file that one does not have."""


class WorldKind(StrEnum):
    """Which world is rendered."""

    narrated = "narrated"
    scenes = "scenes"
    kinds = "kinds"


class Features(StrEnum):
    """Which video features a store gets."""

    pooled = "pooled"
    full = "full"


Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the new store.")]
Text = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Word vectors; trained on the captions when not given.")
]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Lay a setting over the default; may be repeated.")
]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="What reports call the store.")]
StepFeatures = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder of VIDEO_2d.npy with VIDEO_3d.npy, or of VIDEO.npy.")
]
Audio = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of VIDEO.npz with arr_0: log-mel of 40 bands, in dB.")
]
FeaturesOption = Annotated[
    Features, typer.Option(help="One row of video features per clip, as published results use; or all rows.")
]


Workers = Annotated[int, typer.Option(min=1, metavar="N", help="Processes; the result is the same.")]


@verb(importers, "mcnlab import world --out stores/world --views 4 --set seed=1", "world")
def import_world(
    out: Out,
    overrides: Overrides = [],  # noqa: B006  typer wants a list
    views: Annotated[
        int, typer.Option(metavar="N", help="Further views: depth, flow, luminance, color, surface, outline.")
    ] = 0,
    kind: Annotated[
        WorldKind,
        typer.Option(help="The narrated world; scenes: things in frames, of which some sound; kinds: named classes."),
    ] = WorldKind.narrated,
) -> None:
    """Render a world: clips whose causes are known."""
    # the verb's own modules, so that `mcnlab --help` does not wait for torch
    from mcnlab.config import with_overrides
    from mcnlab.data.kinds import KindSettings, build_kinds
    from mcnlab.data.scenes import SceneSettings, build_scenes
    from mcnlab.data.world import WorldSettings, build_world
    from mcnlab.errors import ConfigError
    from mcnlab.progress import counted

    if views and kind != WorldKind.narrated:
        raise ConfigError(f"--views {views}: {kind.value} have no further views")
    if kind == WorldKind.kinds:
        kinds = KindSettings.parse(with_overrides({}, overrides), source="import world --kind kinds")
        with counted("drawing") as progress:
            build_kinds(kinds, out, progress=progress)
        say_what_is_in(out)
        return
    if kind == WorldKind.scenes:
        scenes = SceneSettings.parse(with_overrides({}, overrides), source="import world --kind scenes")
        with counted("rendering") as progress:
            build_scenes(scenes, out, progress=progress)
        say_what_is_in(out)
        return
    settings = WorldSettings.parse(with_overrides({"views": views} if views else {}, overrides), source="import world")
    with counted("rendering") as progress:
        build_world(settings, out, progress=progress)
    say_what_is_in(out)


@verb(importers, "mcnlab import media clips.csv --out stores/mine --video seeded --text words.bin", "media")
def import_media(
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST.csv",
            help="One row per clip: id, recording, video, audio, start, end, caption, label, split, factor:NAME.",
        ),
    ],
    out: Out,
    video: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Frozen visual features: seeded (untrained), or a folder or hub id of a ResNet; or frames: small "
            "frames themselves, for a video backbone that trains on them.",
        ),
    ] = "seeded",
    text: Text = None,
    frame_size: Annotated[
        str | None, typer.Option(metavar="HEIGHTxWIDTH", help="With --video frames: their size, such as 24x40.")
    ] = None,
    frame_rate: Annotated[float, typer.Option(min=0.1, max=240, metavar="HZ", help="Frames taken per second.")] = 25.0,
    color: Annotated[bool, typer.Option("--color", help="With --video frames: keep the color.")] = False,
    boxes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where it sounds: a CSV (id,left,top,right,bottom in shares of the frame), VGG-SS's JSON, or a folder "
            "of SoundNet-Flickr's XML files.",
        ),
    ] = None,
) -> None:
    """Make a store from your own video, image and sound files and captions."""
    # the verb's own modules, so that `mcnlab --help` does not wait for torch
    from mcnlab.data.importers.media import import_media as build
    from mcnlab.data.raw_frames import parsed_size
    from mcnlab.progress import counted

    size = None if frame_size is None else parsed_size(frame_size)
    with counted("importing") as progress:
        report = build(
            manifest,
            out,
            video=video,
            words=text,
            frames_per_s=frame_rate,
            frame_size=size,
            color=color,
            boxes=boxes,
            progress=progress,
        )
    tell(report)
    typer.echo(f"Next: mcnlab study {_study_of(out)}", err=True)


def _study_of(store: Path) -> str:
    """The study to type next, with the store where its own is another."""
    own = Path("study.yaml")
    study = str(own) if own.is_file() else "studies/own_media.yaml"
    named = _named_store(own) if own.is_file() else None
    return study if named == store.resolve() else f"{study} --set data.store={store.absolute()}"


def _named_store(study: Path) -> Path | None:
    """The store that a study's file names; None where it names none, or cannot be read."""
    try:
        base: Any = yaml.safe_load(study.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return None  # `mcnlab study` says what is wrong with it
    for key in ("base", "data", "store"):
        base = base.get(key) if isinstance(base, dict) else None
    return (study.parent / base).resolve() if isinstance(base, str) else None


@verb(
    importers,
    "mcnlab import howto100m list.csv --features features --captions caption.json "
    "--text GoogleNews-vectors-negative300.bin --out stores/howto100m",
    "howto100m",
)
def import_howto100m(
    videos: Annotated[Path, typer.Argument(metavar="LIST.csv", help="The videos: column path or video_path.")],
    features: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the features.")],
    captions: Annotated[Path, typer.Option(metavar="FILE_OR_DIR", help="JSON, pickle, or a folder of CSV files.")],
    text: Annotated[Path, typer.Option(metavar="WORDS", help="Word vectors; only words of the captions are kept.")],
    out: Out,
    held_out: Annotated[Path | None, typer.Option(metavar="LIST", help="Videos that become the split val.")] = None,
    val_share: Annotated[float, typer.Option(help="Share of the videos that becomes val without such a list.")] = 0.01,
    rate_2d: Annotated[float, typer.Option(help="Rows per second of the 2D features.")] = 1.0,
    rate_3d: Annotated[float, typer.Option(help="Rows per second of the 3D features.")] = 1.5,
    workers: Workers = 1,
    per_shard: Annotated[int, typer.Option(min=1, help="Videos of a shard; each process holds as many.")] = 64,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Use the workers of a running dask cluster, tcp://host:8786.")
    ] = None,
) -> None:
    """Make a store from extracted HowTo100M features; the same command goes on after an interruption."""
    # the verb's own modules, so that `mcnlab --help` does not wait for numpy
    from mcnlab.cluster import cluster_executor
    from mcnlab.data.importers.howto100m import import_howto100m as build
    from mcnlab.progress import counted

    with counted("importing") as progress, cluster_executor(scheduler) as executor:
        report = build(
            videos,
            out,
            features=features,
            captions=captions,
            words=text,
            held_out=held_out,
            val_share=val_share,
            rate_2d_hz=rate_2d,
            rate_3d_hz=rate_3d,
            progress=progress,
            workers=workers,
            recordings_per_shard=per_shard,
            executor=executor,
        )
    tell(report)


@verb(
    importers,
    "mcnlab import youcook2 youcook_train_audio.pkl youcook_val_audio.pkl --out stores/youcook2 "
    "--text GoogleNews-vectors-negative300.bin",
    "youcook2",
)
def import_youcook2(
    train: Annotated[Path, typer.Argument(metavar="TRAIN.pkl", help="Pickle of the training clips; - for none.")],
    val: Annotated[Path, typer.Argument(metavar="VAL.pkl", help="Pickle of the validation clips; - for none.")],
    out: Out,
    text: Text = None,
    features: FeaturesOption = Features.pooled,
    annotations: Annotated[
        Path | None, typer.Option(help="Official JSON, or CSV of the benchmark: segments, and recipes as labels.")
    ] = None,
    name: Name = None,
) -> None:
    """Make a store from YouCook2's published feature pickles; nothing in them is run."""
    # the verb's own modules, so that `mcnlab --help` does not wait for torch
    from mcnlab.data.importers.youcook2 import import_youcook2 as build
    from mcnlab.progress import counted

    with counted("importing") as progress:
        report = build(
            _given(train),
            _given(val),
            out,
            words=text,
            name=name or "youcook2",
            features=features.value,
            annotations=annotations,
            progress=progress,
            reading=progress.reading,
        )
    tell(report)


@verb(
    importers,
    "mcnlab import msrvtt msrvtt_train.pkl msrvtt_jsfusion_test.pkl --out stores/msrvtt "
    "--text GoogleNews-vectors-negative300.bin",
    "msrvtt",
)
def import_msrvtt(
    train: Annotated[Path, typer.Argument(metavar="TRAIN.pkl", help="Pickle, or CSV with video_id; - for none.")],
    test: Annotated[Path, typer.Argument(metavar="TEST.pkl", help="Pickle, or CSV with video_id; - for none.")],
    out: Out,
    text: Text = None,
    features: FeaturesOption = Features.pooled,
    captions: Annotated[
        int | None, typer.Option(min=1, help="Keep so many captions of a video, the first ones; all when not given.")
    ] = None,
    tensors: Annotated[
        Path | None, typer.Option(help="Torch file of features by video_id, which CSV files need (HowTo100M's layout).")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Official videodatainfo JSON: categories as labels, captions where none are.")
    ] = None,
    name: Name = None,
) -> None:
    """Make a store from MSR-VTT's published feature files; nothing in them is run."""
    # the verb's own modules, so that `mcnlab --help` does not wait for torch
    from mcnlab.data.importers.msrvtt import import_msrvtt as build
    from mcnlab.progress import counted

    with counted("importing") as progress:
        report = build(
            _given(train),
            _given(test),
            out,
            words=text,
            name=name or "msrvtt",
            features=features.value,
            captions=captions,
            tensors=tensors,
            annotations=annotations,
            progress=progress,
            reading=progress.reading,
        )
    tell(report)


@verb(
    importers,
    "mcnlab import crosstask videos.csv --out stores/crosstask --tasks tasks_primary.txt "
    "--annotations annotations --features features --audio audio --cook cook.txt",
    "crosstask",
)
def import_crosstask(
    videos: Annotated[Path, typer.Argument(metavar="VIDEOS.csv", help="Rows task,video_id or task,video_id,url.")],
    out: Out,
    annotations: Annotated[Path, typer.Option(help="Folder of TASK_VIDEO.csv (step,start,end) or TASK_VIDEO.npy.")],
    features: StepFeatures,
    tasks: Annotated[list[Path], typer.Option(help="File of tasks in blocks of five lines; may be given twice.")] = [],  # noqa: B006
    steps: Annotated[Path | None, typer.Option(help="JSON of step texts by task.")] = None,
    audio: Audio = None,
    cook: Annotated[Path | None, typer.Option(help="Cooking tasks, one id or title per line.")] = None,
    held_out: Annotated[Path | None, typer.Option(help="List of the test videos; all are when not given.")] = None,
    text: Text = None,
    workers: Workers = 1,
) -> None:
    """Make a store from CrossTask: videos with their ordered steps; the same command goes on after a stop."""
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
            words=text,
            progress=progress,
            workers=workers,
        )
    tell(report)


@verb(
    importers,
    "mcnlab import mining-youtube annotations --out stores/mining --features features "
    "--audio audio --videos videos_test.txt --classes mapping.txt",
    "mining-youtube",
)
def import_mining_youtube(
    annotations: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of VIDEO.srt, VIDEO.gt or VIDEO.npy.")],
    out: Out,
    features: StepFeatures,
    videos: Annotated[Path | None, typer.Option(help="Ids, one per line; all annotated ones by default.")] = None,
    classes: Annotated[Path | None, typer.Option(help="The classes: mapping.txt.")] = None,
    steps: Annotated[Path | None, typer.Option(help="JSON of step texts by video, for matrices.")] = None,
    audio: Audio = None,
    held_out: Annotated[Path | None, typer.Option(help="Ids of the test videos; all are when not given.")] = None,
    rate: Annotated[float, typer.Option(help="Rows of features and labels per second.")] = 1.0,
    text: Text = None,
    workers: Workers = 1,
) -> None:
    """Make a store from MiningYouTube: videos with their actions in order; the same command goes on after a stop."""
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
            words=text,
            progress=progress,
            workers=workers,
        )
    tell(report)


@verb(
    importers,
    "mcnlab import protocol --kind ucf101 --splits ucfTrainTestlist --media UCF-101 --like stores/mine "
    "--out stores/ucf101",
    "protocol",
)
def import_protocol(
    kind: Annotated[
        str,
        typer.Option(
            help="ucf101, hmdb51, kinetics600, esc50, audioset, voc2007, folders (train/CLASS/FILE), or spectrograms "
            "(train.npz with train.tsv).",
            autocompletion=completion.protocols,
        ),
    ],
    splits: Annotated[Path, typer.Option(metavar="DIR", help="Folder, or file, of the official lists.")],
    out: Out,
    media: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of media files, at any depth.")] = None,
    features: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Instead: folder of ID.npy, or of ID_2d.npy with ID_3d.npy.")
    ] = None,
    audio: Audio = None,
    like: Annotated[
        Path | None, typer.Option(metavar="STORE", help="Extract media as this store's were: what its runs can read.")
    ] = None,
    video: Annotated[str, typer.Option(help="Without --like: seeded, or a folder or hub id of a ResNet.")] = "seeded",
    windows: Annotated[int, typer.Option(min=1, help="Windows of a long recording; their features are averaged.")] = 10,
    window_s: Annotated[float, typer.Option(help="Seconds of a window.")] = 3.2,
    rate: Annotated[float, typer.Option(help="Rows of features per second.")] = 1.0,
    seconds: Annotated[float, typer.Option(help="Spectrograms: length of every clip.")] = 5.0,
    text: Annotated[Path | None, typer.Option(help="Spectrograms: word vectors; trained when not given.")] = None,
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Leave out clips whose files are not there, instead of an error.")
    ] = False,
    name: Name = None,
) -> None:
    """Make a store of a classification data set, with the official splits that transfer is measured by."""
    # the verb's own modules, so that `mcnlab --help` does not wait for torch
    from mcnlab.data.importers.protocols import Windows
    from mcnlab.data.importers.protocols import import_protocol as build
    from mcnlab.data.importers.spectrograms import import_spectrograms
    from mcnlab.progress import counted

    if kind == "spectrograms" and any(one is not None for one in (media, features, audio, like)):
        raise typer.BadParameter("kind: spectrograms take --splits alone, no media, features, audio or like")
    with counted("importing") as progress:
        if kind == "spectrograms":
            report = import_spectrograms(splits, out, seconds=seconds, words=text, name=name or kind, progress=progress)
        else:
            report = build(
                kind,
                splits,
                out,
                media=media,
                features=features,
                audio=audio,
                like=like,
                video=video,
                windows=Windows(windows, window_s),
                rate_hz=rate,
                leave_out=leave_out,
                name=name,
                progress=progress,
            )
    tell(report)


def _given(path: Path) -> Path | None:
    """The file, or None where a dash stands for it."""
    return None if path == NONE else path


def tell(report: "ImportReport") -> None:
    """Say what became of everything, and what is in the new store.

    Args:
        report: of an import or an extraction.
    """
    for line in report.lines():
        typer.echo("".join(letter if letter.isprintable() else " " for letter in line), err=True)
    say_what_is_in(report.store)


def say_what_is_in(path: Path, *, as_json: bool = False) -> None:
    """Print the facts of a store or a run: tables for the eye, or all of them as JSON.

    Args:
        path: its folder.
        as_json: whether a program reads it.
    """
    # late, as above
    from mcnlab.data.store import describe, open_store
    from mcnlab.reporting.terminal import print_run, print_store

    if is_run := not (path / "store.json").exists() and (path / "settings.yaml").exists():
        # loads torch
        from mcnlab.experiment.described import describe_run

        facts = describe_run(path)
    else:
        facts = describe(open_store(path))
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
    else:
        (print_run if is_run else print_store)(facts)
