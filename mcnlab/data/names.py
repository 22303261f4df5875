"""What a language model says of names: one vector each, from the words of a store or from a text network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mcnlab.data.text import WordVectors, tokens
from mcnlab.errors import ConfigError, DataError

PHOTO = "a photo of a {}"
"""Sentence that a text network reads, with the name in it."""


def word_vectors_of(names: Sequence[str], words: WordVectors) -> Float[np.ndarray, "names width"]:
    """Mean vector of each name's words.

    Args:
        names: of classes.
        words: the vocabulary; words are looked up as they are, then in lower case.

    Returns:
        (names, width), float32.

    Raises:
        DataError: no word of a name is known; it is named.
    """
    rows = []
    for name in names:
        known = [words.index[form] for word in tokens(name) if (form := _known_form(word, words)) is not None]
        if not known:
            raise DataError(f"language: no word of the name {name!r} has a vector ({words.source})")
        rows.append(words.vectors[known].mean(axis=0))
    return np.stack(rows).astype(np.float32)


def known_names(names: Sequence[str], words: WordVectors) -> tuple[str, ...]:
    """The names of which the vocabulary knows at least one word."""
    return tuple(name for name in names if any(_known_form(word, words) is not None for word in tokens(name)))


def text_network_vectors(
    names: Sequence[str], folder: Path, *, sentence: str = PHOTO
) -> Float[np.ndarray, "names width"]:
    """What a text network of transformers makes of a sentence with each name.

    Args:
        names: of classes.
        folder: local folder with the network (safetensors) and its tokenizer; nothing is downloaded.
        sentence: with `{}` where the name goes.

    Returns:
        (names, width), float32: the network's pooled text embedding where it has one, else the mean of its last layer
        over the tokens.

    Raises:
        ConfigError: transformers is not installed, or the sentence has no place for the name.
        DataError: there is no network in the folder; it is named.
    """
    import torch  # late: start-up time

    try:
        import transformers  # late: an extra, and seconds of start-up
    except ImportError as error:
        raise ConfigError("a text network needs transformers; install mcnlab[resnet]") from error
    if "{}" not in sentence:
        raise ConfigError(f"terms.guide.sentence: {sentence!r} has no {{}} for the name")
    try:
        network = transformers.AutoModel.from_pretrained(folder, use_safetensors=True, local_files_only=True).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: no text network there ({error})") from error
    read = tokenizer([sentence.format(name) for name in names], padding=True, return_tensors="pt")
    with torch.inference_mode():
        if hasattr(network, "get_text_features"):  # two towers, as in CLIP
            found = network.get_text_features(**read)
            return getattr(found, "pooler_output", found).float().numpy()
        last = network(**read).last_hidden_state  # (names, tokens, width)
        real = read["attention_mask"][:, :, None].float()
        return ((last * real).sum(dim=1) / real.sum(dim=1)).float().numpy()


def _known_form(word: str, words: WordVectors) -> str | None:
    """A word as the vocabulary spells it."""
    return next((form for form in (word, word.lower()) if form in words.index), None)
