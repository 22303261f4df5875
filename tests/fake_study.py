"""TEST MATERIAL: run folders shaped like real ones with invented content, so that reports can be built untrained.

The embeddings are mixtures of factor codes whose weights imitate what a shared space forgets; ranks and recall are
computed from them, the other results are made up around the weights. No number here says anything about a real model.
"""

import io
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image, ImageDraw
from safetensors.numpy import save_file

MODALITIES = ("video", "audio", "text")
GROUPS = ("vat", "va", "vt", "at", "v", "a", "t")
OBJECTS = ("ball", "bell", "boat", "cube", "drum", "fish", "kite", "lamp", "star", "tree")
COLORS = {"red": (208, 60, 50), "green": (60, 160, 90), "blue": (60, 100, 210), "yellow": (230, 190, 60)}
DIRECTIONS = ("text->video", "text->audio", "text->video+audio", "video->audio", "video->text", "audio->video",
              "audio->text", "video+audio->text")  # fmt: skip


HOSTILE_CAPTION = "<script>alert(1)</script> <b>&amp;</b> $x^2$ =SUM(A1)"
FACTORS = {
    "vat": "object",
    "va": "rate",
    "vt": "color",
    "at": "pitch",
    "v": "brightness",
    "a": "noise",
    "t": "phrasing",
}


@dataclass(frozen=True)
class FakeExperiment:
    """The recipe of an invented experiment."""

    name: str
    pairs: tuple[str, ...]
    graph: str = "shared"
    terms: tuple[str, ...] = ("contrast",)
    stages: tuple[tuple[str, ...], ...] = ()
    shuffled: bool = False
    mode: str = "sound"
    precision: str = "float32"
    broken: bool = False
    """The loss became NaN, and that was recorded as the outcome."""


ALL = ("va", "vt", "at")
MCN_TERMS = ("contrast", "cluster", "reconstruct")
DEFAULT = (
    FakeExperiment("V+A", ("va",)),
    FakeExperiment("V+T", ("vt",)),
    FakeExperiment("A+T", ("at",)),
    FakeExperiment("V+A+T", ALL),
    FakeExperiment("V+A+T disjoint", ALL, graph="disjoint"),
    FakeExperiment("MCN", ALL, terms=MCN_TERMS),
    FakeExperiment("MCN AV_T", ALL, terms=MCN_TERMS, stages=(("va",), ALL)),
    FakeExperiment("MCN VT_A", ALL, terms=MCN_TERMS, stages=(("vt",), ALL)),
    FakeExperiment("MCN AT_V", ALL, terms=MCN_TERMS, stages=(("at",), ALL)),
    FakeExperiment("V+A+T shuffled", ALL, shuffled=True),
)
SMALL = DEFAULT[:2] + DEFAULT[3:6]


def write_fake_study(
    folder: Path,
    *,
    experiments: tuple[FakeExperiment, ...] = SMALL,
    seeds: tuple[int, ...] = (0, 1),
    clips: int = 60,
    dim: int = 32,
    steps: int = 40,
    failed: tuple[str, ...] = (),
) -> Path:
    """Write invented run folders.

    Args:
        folder: where they go; made when missing.
        experiments: the recipes.
        seeds: one run of each recipe per seed.
        clips: clips of the evaluated split.
        dim: width of the embeddings.
        steps: lines in `metrics.jsonl`.
        failed: names of experiments whose runs end in an error.

    Returns:
        The folder.
    """
    table = _clips(clips)
    for experiment, seed in itertools.product(experiments, seeds):
        slug = "".join(letter.lower() if letter.isalnum() else "-" for letter in experiment.name)
        _write_run(folder / f"{slug}-s{seed}", experiment, seed, table, dim, steps, experiment.name in failed)
    return folder


def _clips(count: int) -> pd.DataFrame:
    """The evaluated clips with their factors, captions and thumbnails."""
    random = np.random.default_rng(7)
    table = pd.DataFrame(
        {
            "factor:vat.object": random.choice(OBJECTS, count),
            "factor:va.rate": random.uniform(1, 4, count),
            "factor:vt.color": random.choice(list(COLORS), count),
            "factor:at.pitch": random.uniform(0, 1, count),
            "factor:v.brightness": random.uniform(0, 1, count),
            "factor:a.noise": random.uniform(0, 1, count),
            "factor:t.phrasing": random.choice(["here is", "look at", "we see"], count),
        }
    )
    table.insert(0, "id", [f"rec{row // 3:04d}:{row % 3}" for row in range(count)])
    phrase, color, thing = table["factor:t.phrasing"], table["factor:vt.color"], table["factor:vat.object"]
    pitch = np.where(table["factor:at.pitch"] < 0.5, "low", "high")
    table["caption"] = [" ".join(words) for words in zip(phrase, color, thing, pitch, strict=True)]
    table.loc[0, "caption"] = HOSTILE_CAPTION
    table["label"] = thing
    table["start_s"] = [4.0 * (row % 3) for row in range(count)]
    table["end_s"] = table["start_s"] + 4.0
    for modality in MODALITIES:
        table[f"has_{modality}"] = True
    table["thumbnail"] = [_thumbnail(a, b) for a, b in zip(thing, color, strict=True)]
    return table


def _thumbnail(thing: str, color: str) -> bytes:
    """A 32 px PNG of a colored polygon."""
    image = Image.new("RGB", (32, 32), (60, 62, 70))
    ImageDraw.Draw(image).regular_polygon((16, 16, 11), n_sides=3 + OBJECTS.index(thing), fill=COLORS[color])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _kept(experiment: FakeExperiment, modality: str, group: str) -> float:
    """Invented share of a factor group that an embedding holds."""
    letter = modality[0]
    if letter not in group:
        return 0.0
    if experiment.shuffled:
        return 0.2
    partners = [pair for pair in experiment.pairs if letter in pair]
    if not partners:
        return 0.55
    shared = [all(member in group for member in pair) for pair in partners]
    kept = (
        0.95 if all(shared) else 0.7 if any(shared) and experiment.graph == "disjoint" else 0.3 if any(shared) else 0.12
    )
    boost = 0.12 * ("reconstruct" in experiment.terms) + 0.05 * bool(experiment.stages)
    return min(1.0, kept + boost * (kept < 0.9))


def _codes(table: pd.DataFrame, dim: int) -> dict[str, np.ndarray]:
    """One fixed random code per factor group and clip."""
    codes = {}
    for number, group in enumerate(GROUPS):
        values = table[f"factor:{group}.{FACTORS[group]}"]
        if values.dtype == float:
            angles = values.to_numpy()[:, None] * np.array([2.0, 7.0, 15.0])
            dense = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
        else:
            dense = pd.get_dummies(values).to_numpy(float) * 2
        codes[group] = dense @ np.random.default_rng(number).normal(size=(dense.shape[1], dim)) / np.sqrt(dim)
    return codes


def _embeddings(experiment: FakeExperiment, seed: int, table: pd.DataFrame, dim: int) -> dict[str, np.ndarray]:
    """Unit embeddings per modality, or per modality and space in a disjoint graph."""
    random, codes, out = np.random.default_rng(100 + seed), _codes(table, dim), {}
    for modality in MODALITIES:
        partners = [pair for pair in experiment.pairs if modality[0] in pair]
        for space in partners if experiment.graph == "disjoint" else [""]:
            mixed = sum(_kept(experiment, modality, group) * codes[group] for group in GROUPS)
            mixed = mixed + random.normal(size=(len(table), dim)) * 0.06
            if experiment.shuffled or not partners:
                mixed = mixed @ random.normal(size=(dim, dim))
            mixed = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
            out[f"{modality}@{space}" if space else modality] = mixed.astype(np.float16)
    if experiment.graph == "shared":
        out["joint"] = np.mean([out[modality] for modality in MODALITIES], axis=0, dtype=np.float32).astype(np.float16)
    return out


def _side(embeddings: dict[str, np.ndarray], side: str, other: str) -> np.ndarray:
    """The embedding of one or two modalities in the space where the other side can be met."""
    parts = []
    for modality in side.split("+"):
        spaces = [name for name in embeddings if name.split("@")[0] == modality]
        common = [name for name in spaces if "@" not in name or other[0] in name.split("@")[1]]
        parts.append(embeddings[(common or spaces)[0]].astype(np.float32))
    return np.sum(parts, axis=0)


def _ranks(embeddings: dict[str, np.ndarray]) -> pd.DataFrame:
    """Rank of the true match for every direction."""
    columns = {}
    for direction in DIRECTIONS:
        query, gallery = direction.split("->")
        similarity = _side(embeddings, query, gallery) @ _side(embeddings, gallery, query).T
        columns[direction] = (similarity >= np.diag(similarity)[:, None]).sum(axis=1)
    return pd.DataFrame(columns).astype("Int32")


def _results(experiment: FakeExperiment, seed: int, ranks: pd.DataFrame) -> list[dict[str, object]]:
    """Result rows with every task of the contract."""
    random, rows, count = np.random.default_rng(seed), [], len(ranks)

    def add(task: str, subject: str, metric: str, value: float, spread: float = 0.0) -> None:
        low, high = (value - spread, value + spread) if spread else (None, None)
        rows.append({"experiment": experiment.name, "seed": seed, "task": task, "subject": subject, "metric": metric,
                     "value": float(value), "low": low, "high": high})  # fmt: skip

    for direction in DIRECTIONS:
        for k in (1, 5, 10):
            hit = float((ranks[direction] <= k).mean())
            add("retrieval", direction, f"recall_at_{k}", hit, 1.96 * np.sqrt(hit * (1 - hit) / count) + 1e-3)
            add("retrieval", direction, f"chance_at_{k}", k / count)
            add("retrieval", direction, f"ceiling_at_{k}", 0.82 + 0.015 * k)
            add("retrieval", direction, f"untrained_at_{k}", k / count * 1.2)
        add("retrieval", direction, "median_rank", float(ranks[direction].median()))
        add("retrieval", direction, "mean_rank", float(ranks[direction].mean()))
        add("retrieval", direction, "same_label_at_1", 0.6 + random.normal() * 0.01)
        add("retrieval", direction, "chance_same_label_at_1", 0.1)
    for modality in (*MODALITIES, "joint"):
        kept = np.mean([_kept(experiment, one, "vat") for one in ([modality] if modality != "joint" else MODALITIES)])
        purity = 0.2 + 0.7 * kept + random.normal() * 0.01 + 0.05 * ("cluster" in experiment.terms)
        for metric, value in {"purity": purity, "nmi": purity - 0.1, "ari": purity - 0.2}.items():
            add("clusters", modality, metric, value)
        add("clusters", modality, "chance_purity", 0.16)
        add("clusters", modality, "untrained_purity", 0.31)
    for modality, group in itertools.product(MODALITIES, GROUPS):
        carried = modality[0] in group
        score = _kept(experiment, modality, group) + random.normal() * (0.02 if carried else 0.01)
        for subject in (f"{modality}:{group}", f"{modality}:{group}.{FACTORS[group]}"):
            add("retention", subject, "score", score, 0.04)
            add("retention", subject, "untrained", 0.72 if carried else 0.0)
    for first, second in itertools.combinations(MODALITIES, 2):
        add("geometry", f"{first}-{second}", "alignment", 0.6)
        add("geometry", f"{first}-{second}", "modality_gap", 0.3)
    for modality in MODALITIES:
        add("geometry", modality, "uniformity", -2.4)
    add("outcome", "run", "finite", float(not experiment.broken))
    add("outcome", "run", "train_s", 21.5 + random.normal())
    add("outcome", "run", "overhead_s", 2.4)
    return rows


def _settings(experiment: FakeExperiment) -> dict[str, object]:
    """Settings in the manner of a resolved experiment."""
    stages = experiment.stages or (experiment.pairs,)
    terms = {term: {"weight": 1.0} if term in experiment.terms else None for term in MCN_TERMS}
    return {
        "experiment": experiment.name,
        "data": {"world": {}, "store": None, "shuffle_pairs": experiment.shuffled},
        "mode": experiment.mode,
        "graph": experiment.graph,
        "terms": terms,
        "pairs": list(ALL),
        "stages": [{"epochs": 2, "modalities": _members(pairs), "pairs": None, "terms": None} for pairs in stages],
        "training": {"precision": experiment.precision, "batch": 128, "lr": 0.001},
    }


def _members(pairs: tuple[str, ...]) -> list[str]:
    """Modalities that some pairs have."""
    return [modality for modality in MODALITIES if any(modality[0] in pair for pair in pairs)]


def _provenance(seed: int) -> dict[str, object]:
    """Where the invented numbers come from."""
    return {
        "seed": seed,
        "date": "2026-11-20T08:00:00+00:00",
        "code": {"version": "0.1.0", "commit": "fake", "learning_code": "0" * 32},
        "data": {"store": "invented", "fingerprint": "f" * 64, "visual_features": "none (invented)"},
        "machine": {"host": "nowhere", "system": "Linux", "processor": "none", "cores": 2, "device": "cpu"},
        "python": "3.11",
        "libraries": {"torch": "2.13.0", "numpy": "2.4.6"},
    }


def _write_run(
    path: Path, experiment: FakeExperiment, seed: int, table: pd.DataFrame, dim: int, steps: int, fails: bool
) -> None:
    """One run folder."""
    path.mkdir(parents=True)
    (path / "settings.yaml").write_text(yaml.safe_dump(_settings(experiment), sort_keys=False), encoding="utf-8")
    lines = [_step(experiment, step, seed) for step in range(1, (steps // 3 if fails else steps) + 1)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (path / "provenance.json").write_text(json.dumps(_provenance(seed)), encoding="utf-8")
    if fails:
        reason = "NonFiniteError: term 'cluster' of text in stage 1 is nan at step 14 (clips rec0001:0, rec0002:1)"
        (path / "status.json").write_text(json.dumps({"state": "failed", "reason": reason}), encoding="utf-8")
        return
    embeddings = _embeddings(experiment, seed, table, dim)
    ranks = _ranks(embeddings)
    save_file(embeddings, path / "embeddings.safetensors")
    table.to_parquet(path / "clips.parquet")
    ranks.to_parquet(path / "ranks.parquet")
    reason = {"reason": "term 'cluster' is nan in stage 1:VAT at step 14"} if experiment.broken else {}
    results = {"rows": _results(experiment, seed, ranks), "outcome": {"finite": not experiment.broken, **reason}}
    (path / "results.json").write_text(json.dumps(results), encoding="utf-8")
    (path / "status.json").write_text(json.dumps({"state": "finished"}), encoding="utf-8")


def _step(experiment: FakeExperiment, step: int, seed: int) -> dict[str, float | int]:
    """One line of metrics.jsonl."""
    stage = "1:VAT" if not experiment.stages or step > 20 else "0:VA"
    parts = {
        "term." + term: 4 / (1 + step / 20) + 0.3 * place + 0.02 * seed for place, term in enumerate(experiment.terms)
    }
    numbers = {"lr": 1e-3, "loss": sum(parts.values()), **parts, "grad_norm": 1 / step}
    return {"step": step, "stage": stage, "epoch": step // 10, **numbers, "clips_per_s": 900.0, "elapsed_s": 0.1 * step}
