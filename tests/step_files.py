"""Small published files of videos with steps, written as the published loaders expect them: for tests of importers."""

import json

import numpy as np

WIDTH = 8
TEA = ("boil water", "add leaves", "pour tea")
JAM = ("wash fruit", "boil fruit", "add sugar", "fill jar")
TASKS = {"101": ("Make Tea", TEA), "202": ("Cook Jam", JAM)}


def code_of(text, width=WIDTH):
    """A direction that stands for a text."""
    return np.random.default_rng(sum(ord(letter) * place for place, letter in enumerate(text, 1))).normal(size=width)


def features_of(steps, seconds, *, per_s=1.0, width=WIDTH, seed=0):
    """(rows, width): a row looks like the step that it shows, and like nothing in between."""
    rows = np.random.default_rng(seed).normal(size=(round(seconds * per_s), width)) * 0.2
    for text, start, end in steps:
        rows[int(start * per_s) : int(np.ceil(end * per_s))] += code_of(text, width)
    return rows.astype(np.float32)


def write_tasks(path, tasks=TASKS):
    blocks = [
        "\n".join([number, title, f"http://x.org/{number}", str(len(steps)), ",".join(steps)])
        for number, (title, steps) in tasks.items()
    ]
    path.write_text("\n\n".join(blocks) + "\n\n", encoding="utf-8")
    return path


def write_crosstask(folder, *, videos=6, seconds=24, audio=False, seed=0):
    """A whole small release below a folder.

    Returns:
        Ids of the videos by task, in the order of the list.
    """
    random = np.random.default_rng(seed)
    for name in ("annotations", "features", "audio"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows, listed = [], []
    for number in range(videos):
        task = ("101", "202")[number % 2]
        steps, video = TASKS[task][1], f"-vid_{number:06d}"
        length = seconds // len(steps)
        spans = [
            (text, place * length + float(random.random()), (place + 1) * length - 1 - float(random.random()))
            for place, text in enumerate(steps)
        ]
        lines = [f"{place},{start:.2f},{end:.2f}" for place, (_, start, end) in enumerate(spans, 1)]
        (folder / "annotations" / f"{task}_{video}.csv").write_text("\n".join(lines) + "\n")
        np.save(folder / "features" / f"{video}_2d.npy", features_of(spans, seconds, seed=number))
        np.save(folder / "features" / f"{video}_3d.npy", features_of(spans, seconds, per_s=1.5, seed=number + 100))
        if audio:
            mel = np.random.default_rng(number).normal(size=(40, seconds * 100)) * 5 - 40
            np.savez(folder / "audio" / f"{video}.npz", arr_0=mel.astype(np.float16))
        rows.append(f"{task},{video},https://x.org/{video}")
        listed.append((task, video))
    (folder / "videos.csv").write_text("\n".join(rows) + "\n")
    (folder / "held_out.csv").write_text("\n".join(row.rsplit(",", 1)[0] for row in rows[videos // 2 :]) + "\n")
    (folder / "cook.txt").write_text("202\n")
    (folder / "steps.json").write_text(json.dumps({task: list(steps) for task, (_, steps) in TASKS.items()}))
    write_tasks(folder / "tasks.txt")
    return listed


def srt(segments, *, line="\n"):
    """Subtitles of (class, start, end)."""

    def clock(seconds):
        minutes, rest = divmod(round(seconds * 1000), 60_000)
        return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d},{rest % 1000:03d}"

    blocks = [
        f"{number}{line}{clock(a)} --> {clock(b)}{line}{name}{line}" for number, (name, a, b) in enumerate(segments, 1)
    ]
    return "\ufeff" + line.join(blocks)
