"""Files in the published HowTo100M layout, written without any of the package's own code."""

import json

import numpy as np

DIM = 12
WORDS = ["fry", "stir", "onion", "pan", "egg", "now", "the", "salt"]


def video_arrays(seed, *, seconds=40, dim=DIM, dtype=np.float16):
    """2D rows at 1 per s, 3D rows at 1.5 per s, and a log-mel at 100 per s."""
    random = np.random.default_rng(seed)
    flat = [random.random((rows, dim)) for rows in (seconds, int(seconds * 1.5))]
    two, three = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in flat)
    return two.astype(dtype), three.astype(dtype), random.uniform(-80, 0, (40, seconds * 100)).astype(np.float16)


def write_video(root, path, seed, **how):
    """One video as `{root}/{path}/{id}_2d.npz` and so on."""
    two, three, mel = video_arrays(seed, **how)
    folder, name = root / path, path.rsplit("/", 1)[-1]
    folder.mkdir(parents=True)
    np.savez(folder / f"{name}_2d.npz", features=two)
    np.savez(folder / f"{name}_3d.npz", features=three)
    np.savez(folder / f"{name}_spec.npz", arr_0=mel)
    return folder / name


def captions_of(seed, *, seconds=40):
    """Captions of a few seconds, some without text, the last one past the end of the video."""
    random = np.random.default_rng(seed)
    starts = np.arange(0.5, seconds - 2, 4.0)
    text = [" ".join(random.choice(WORDS, 4)) for _ in starts]
    return {"start": starts.tolist(), "end": [*(starts[:-1] + 3.5).tolist(), seconds + 1.0], "text": text}


def write_words(path, words=WORDS, dim=5):
    """A word2vec binary file."""
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(f"{len(words)} {dim}\n".encode())
        for word in words:
            file.write(word.encode() + b" " + random.normal(size=dim).astype("<f4").tobytes() + b"\n")


def write_howto100m(folder, videos=12, *, header="path", seconds=40, dim=DIM):
    """A whole small data set.

    Returns:
        The ids in the order of the list.
    """
    paths = [f"food/video_{n % 3}/{'-_abcdefgh'[n % 10]}{n:010d}" for n in range(videos)]
    for number, path in enumerate(paths):
        write_video(folder / "features", path, number, seconds=seconds, dim=dim)
    ids = [path.rsplit("/", 1)[-1] for path in paths]
    (folder / "list.csv").write_text("\n".join([header, *paths]) + "\n")
    captions = {name: captions_of(number, seconds=seconds) for number, name in enumerate(ids)}
    (folder / "caption.json").write_text(json.dumps(captions))
    write_words(folder / "words.bin")
    return ids
