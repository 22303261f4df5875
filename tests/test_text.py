"""Tokens and word vectors."""

import collections
import itertools
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from mcnlab.data.text import WordVectors, load_word_vectors, tokens, train_word_vectors
from mcnlab.errors import ConfigError, DataError
from tests.memory_peak import grown_kb

SLOTS = (("bin", "lay", "place", "set"), ("blue", "green", "red", "white"), ("at", "by", "in", "with"))
SENTENCES = [" ".join(words) for words in itertools.product(*SLOTS)]


def test_tokens_keep_case_and_apostrophes():
    assert tokens("Don't fry - stir_it, 2x!") == ["Don't", "fry", "stir_it", "2x"]


def test_an_empty_sentence_has_no_tokens():
    assert tokens("") == tokens(" ... ") == []


def test_ids_skip_unknown_words_and_stop_at_the_limit():
    words = WordVectors(("a", "b"), np.eye(2, dtype=np.float32))
    np.testing.assert_array_equal(words.ids("x b A a b", max_words=2), [1, 0])
    assert words.ids("", max_words=5).shape == (0,)
    assert words.oov(["x b x", "y"]) == {"x": 2, "y": 1}


def test_training_twice_gives_the_same_bytes():
    first, second = (train_word_vectors(SENTENCES, dim=16, seed=3) for _ in range(2))
    assert first.words == second.words
    assert first.vectors.tobytes() == second.vectors.tobytes()


def test_training_in_another_process_gives_the_same_bytes():
    script = (
        "import hashlib, itertools, sys\n"
        "from mcnlab.data.text import train_word_vectors\n"
        f"vectors = train_word_vectors({SENTENCES!r}, dim=16, seed=3).vectors\n"
        "print(hashlib.sha256(vectors.tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_another_seed_gives_other_vectors():
    first, second = (train_word_vectors(SENTENCES, dim=16, seed=seed).vectors for seed in (0, 1))
    assert np.abs(first - second).max() > 0.01


def test_words_of_one_kind_stay_apart():
    words = train_word_vectors(SENTENCES, dim=32)
    unit = words.vectors / np.linalg.norm(words.vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T - 2 * np.eye(len(words))
    assert cosine.max() < 0.8  # plain skip-gram gives 0.99 between words that share their contexts
    assert np.linalg.norm(words.vectors, axis=1).mean() == pytest.approx(1, abs=1e-5)


def test_words_of_one_kind_are_nearer_than_words_of_two():
    words = train_word_vectors(SENTENCES, dim=32)
    red, green, lay = (words.vectors[words.index[word]] for word in ("red", "green", "lay"))
    assert red @ green > red @ lay


def test_a_rare_word_is_kept():
    assert "once" in train_word_vectors([*SENTENCES, "once"], dim=8).words


@pytest.mark.parametrize("sentences", [["word"], ["a b", "b a"], ["same same same"]])
def test_a_tiny_corpus_gives_finite_vectors(sentences):
    assert np.isfinite(train_word_vectors(sentences, dim=8).vectors).all()


def test_captions_without_words_are_refused():
    with pytest.raises(DataError, match="no caption holds a word"):
        train_word_vectors(["", "..."])


def test_a_width_of_zero_is_refused():
    with pytest.raises(ConfigError, match="got 0"):
        train_word_vectors(SENTENCES, dim=0)


@pytest.mark.parametrize("header", ["3 2\n", ""])
def test_text_files_are_read_with_and_without_a_header(tmp_path, header):
    path = tmp_path / "vectors.txt"
    path.write_text(header + "Fry 1 2\nstir 3 4\nfry 5 6\n", encoding="utf-8")
    words = load_word_vectors(path, ["fry", "stir", "boil"])
    assert words.words == ("fry", "stir")
    np.testing.assert_array_equal(words.vectors, [[5, 6], [3, 4]])
    assert words.source == "vectors.txt"


def test_binary_files_are_read(tmp_path):
    path = tmp_path / "vectors.bin"
    rows = b"".join(
        word + b" " + np.array(row, np.float32).tobytes() + b"\n" for word, row in ((b"a", [1, 2]), (b"b", [3, 4]))
    )
    path.write_bytes(b"2 2\n" + rows)
    np.testing.assert_array_equal(load_word_vectors(path, ["b"]).vectors, [[3, 4]])


def test_a_file_that_knows_no_word_is_refused(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("fry 1 2\n", encoding="utf-8")
    with pytest.raises(DataError, match="knows none of the 1 words"):
        load_word_vectors(path, ["boil"])


@pytest.mark.parametrize("content", ["", "fry 1 x\n", "fry 1 2\nstir 3\n"])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = tmp_path / "vectors.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"vectors\.txt: not a readable file"):
        load_word_vectors(path, ["fry"])


@pytest.mark.parametrize("separately", [[], ["vectors"]])
def test_what_gensim_saves_is_read(tmp_path, separately):
    from gensim.models import KeyedVectors

    saved = KeyedVectors(3)
    saved.add_vectors(["stir", "fry", "é"], np.arange(9, dtype=np.float32).reshape(3, 3))
    saved.save(str(tmp_path / "own.kv"), separately=separately)
    assert (tmp_path / "own.kv.vectors.npy").exists() == bool(separately)
    words = load_word_vectors(tmp_path / "own.kv", ["fry", "é", "boil"])
    assert words.words == ("fry", "é")
    np.testing.assert_array_equal(words.vectors, [[3, 4, 5], [6, 7, 8]])


def test_of_what_gensim_saves_only_the_wanted_rows_are_read(tmp_path):
    from gensim.models import KeyedVectors

    saved = KeyedVectors(1000)
    saved.add_vectors([f"word{n}" for n in range(20_000)], np.ones((20_000, 1000), np.float32))  # 80 MB
    saved.save(str(tmp_path / "own.kv"))
    grown = grown_kb(
        "from pathlib import Path\n"
        "import mcnlab.data.importers.keyed_vectors\n"
        "from mcnlab.data.text import load_word_vectors",
        "assert len(load_word_vectors(Path(sys.argv[1]), ['word7', 'word9'])) == 2",
        str(tmp_path / "own.kv"),
    )
    assert grown < 50_000


class _Marker:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda marker: pickle.dumps(_Marker(marker)), r"'posix\.mkdir'"),
        (lambda marker: pickle.dumps({"index_to_key": []}), "no word vectors of gensim"),
        (lambda marker: pickle.dumps(OPTIMIZER), r"'collections\.Counter'"),
        (lambda marker: KEYED + b")\x81.", "no word vectors of gensim"),
        (lambda marker: KEYED + b"K\x01\x85\x81.", "makes an object of a class"),
        (lambda marker: KEYED + b")R.", "calls a class"),
        (lambda marker: KEYED + b")\x81}b}b.", "another way"),
        (lambda marker: KEYED + b")\x81](h\x02e\x85b.", "another way"),
        (lambda marker: KEYED + b")\x81(K\x01\x91b.", "a set of something"),
        (lambda marker: KEYED + b")\x81}b.", "no list of words"),
    ],
)
def test_a_pickle_that_is_more_than_word_vectors_is_refused(tmp_path, content, message):
    path = tmp_path / "vectors.kv"
    path.write_bytes(content(tmp_path / "marker"))
    with pytest.raises(DataError, match=message):
        load_word_vectors(path, ["fry"])
    assert not (tmp_path / "marker").exists()


OPTIMIZER = collections.Counter("a")
KEYED = b"\x80\x04\x8c\x1agensim.models.keyedvectors\x94\x8c\x0cKeyedVectors\x94\x93\x94"


def test_numbers_beside_the_vocabulary_must_be_there_and_fit(tmp_path):
    from gensim.models import KeyedVectors

    saved = KeyedVectors(3)
    saved.add_vectors(["stir", "fry"], np.ones((2, 3), np.float32))
    saved.save(str(tmp_path / "own.kv"), separately=["vectors"])
    beside = tmp_path / "own.kv.vectors.npy"
    for numbers in (np.ones((1, 3), np.float32), np.array([{}, {}], dtype=object), np.full((2, 3), np.nan)):
        np.save(beside, numbers)
        with pytest.raises(DataError, match=r"own\.kv"):
            load_word_vectors(tmp_path / "own.kv", ["fry"])
    beside.unlink()
    with pytest.raises(DataError, match=r"own\.kv\.vectors\.npy: not a readable"):
        load_word_vectors(tmp_path / "own.kv", ["fry"])


@pytest.mark.parametrize("name", ["vectors.model", "vectors.bin.gz"])
def test_other_pickles_and_packed_files_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(DataError, match=r"pickle|unpack it first"):
        load_word_vectors(tmp_path / name, ["fry"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable"),
        (b"2 2\na " + bytes(8) + b"b " + bytes(7), "ends in word 2 of 2"),
        (b"2 2\na " + bytes(8), "ends in word 2 of 2"),
        (b"1 2\n" + b"a" * 1500, "more than 1000 bytes"),
        (b"1 0\na ", "a width of 0"),
        (b"1 2\nfry \x00\x00\xc0\x7f" + bytes(4), "not finite"),
    ],
)
def test_a_damaged_binary_file_is_refused(tmp_path, content, message):
    (tmp_path / "vectors.bin").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_word_vectors(tmp_path / "vectors.bin", ["fry"])


def test_a_word_that_stands_twice_is_refused():
    with pytest.raises(DataError, match="'a' stands in the vocabulary twice"):
        WordVectors(("a", "a"), np.zeros((2, 3), np.float32))
