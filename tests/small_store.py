"""A store of random clips with ten classes, quick to make: for tests of training that need no rendered world."""

import numpy as np

from mcnlab.data.store import Clip, Recording, StoreWriter, Track, open_store
from mcnlab.data.text import train_word_vectors

CLIP_S = 0.64


def make_store(
    path, *, recordings=24, clips=4, test=8, seed=0, missing_audio=0.0, missing_text=0.0, video_dim=16, word_dim=8
):
    """Write a store in which every modality tells the class of a clip."""
    random = np.random.default_rng(seed)
    seen, heard = random.normal(size=(10, video_dim)), random.normal(size=(10, 40)) * 10
    made = []
    for number in range(recordings):
        classes = random.integers(10, size=clips)
        captions = [f"word{k} filler{random.integers(5)}" for k in classes]
        captions = [caption if random.random() >= missing_text else "" for caption in captions]
        tracks = {"video_2d": np.concatenate([seen[k] + random.normal(size=(4, video_dim)) * 0.3 for k in classes])}
        if random.random() >= missing_audio:
            mel = np.concatenate([heard[k] - 40 + random.normal(size=(64, 40)) * 3 for k in classes])
            tracks["audio_mel"] = np.clip(mel, -80, 0)
        made.append(
            Recording(
                id=f"r{number}",
                split="train" if number < recordings - test else "test",
                duration_s=clips * CLIP_S,
                tracks={name: rows.astype(np.float16) for name, rows in tracks.items()},
                clips=tuple(
                    Clip(k * CLIP_S, (k + 1) * CLIP_S, caption, f"class{one}", {"vat.object": f"class{one}"})
                    for k, (one, caption) in enumerate(zip(classes, captions, strict=True))
                ),
                media={},
                thumbnails=None,
            )
        )
    words = train_word_vectors([f"word{k} filler{n}" for k in range(10) for n in range(5)], dim=word_dim, seed=0)
    kinds = [Track("video_2d", "video", video_dim, 6.25), Track("audio_mel", "audio", 40, 100.0)]
    with StoreWriter(path, name="small", tracks=kinds, words=words) as writer:
        for recording in made:
            writer.add(recording)
    return open_store(path)
