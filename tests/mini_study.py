"""A study that is small in every way, on a store of random clips: for tests of what surrounds the training."""

import yaml

from tests.small_store import make_store

MCN = {"contrast": {}, "cluster": {"clusters": 8, "queue_batches": 2}, "reconstruct": {}}
BASE = {
    "model": {"dim": 8, "audio_width": 8, "audio_blocks": 1, "decoder_hidden": 8, "audio_frames": 32},
    "training": {
        "epochs": 3,
        "batch": 16,
        "lr": 0.002,
        "warmup_steps": 2,
        "checkpoint_every": 5,
        "threads": 1,
    },
    "terms": {"contrast": {}},
}
EXPERIMENTS = [
    {"experiment": "V+T", "stages": "VT"},
    {"experiment": "MCN AV_T", "stages": "AV_T", "terms": MCN},
]


def write_study(folder, *, experiments=EXPERIMENTS, seeds=(0,), **training):
    """The study's file, with its store beside it.

    Returns:
        Path of the file.
    """
    if not (folder / "store").exists():
        make_store(folder / "store")
    base = {**BASE, "data": {"store": "store"}, "training": {**BASE["training"], **training}}
    study = {
        "study": "mini",
        "title": "Mini study",
        "question": "Does it run?",
        "seeds": list(seeds),
        "base": base,
        "experiments": experiments,
    }
    path = folder / "mini.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    return path
