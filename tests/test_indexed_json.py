"""Large JSON mappings: values come back as the standard reader gives them, and only their places are kept."""

import json
import random

import pytest

from mcnlab.data.importers import indexed_json
from mcnlab.data.importers.indexed_json import IndexedJson
from mcnlab.errors import DataError
from tests.memory_peak import grown_kb

WHOLE = '{"aé": {"s":[1,2.5e3,-4],"t":["x","ü𝄞\\"}","\\u00e9"],"s":[]}, "b":12 , "c":"q", "b":null,"d":[],"é":{} }\n '
MARKS = '{}[],:"0 1-eé'


def standard(text):
    """What the standard reader makes of a text, the first of equal keys kept, and the others; None where it refuses."""
    twice = []

    def first_of_each(pairs):
        kept = {}
        for name, value in pairs:
            if name in kept:
                twice.append(name)
            kept.setdefault(name, value)
        return kept

    try:
        value = json.loads(text, object_pairs_hook=first_of_each)
    except ValueError:
        return None
    return (list(value.items()), sorted(twice)) if isinstance(value, dict) else None


def damaged(text, random):
    """A text with up to two characters changed, put in, or left out."""
    letters = list(text)
    for _ in range(random.choice([0, 1, 2])):
        place = random.randrange(len(letters))
        letters[place] = random.choice(["", random.choice(MARKS), letters[place] + random.choice(MARKS)])
    return "".join(letters)


@pytest.mark.parametrize("read_at_once", [1, 7, 4096])
def test_values_and_refusals_are_those_of_the_standard_reader(tmp_path, monkeypatch, read_at_once):
    monkeypatch.setattr(indexed_json, "_READ_AT_ONCE", read_at_once)
    path, draws, outcomes = tmp_path / "some.json", random.Random(0), set()
    for _ in range(300):
        text = damaged(WHOLE, draws)
        path.write_text(text, encoding="utf-8")
        wanted = standard(text)
        outcomes.add(wanted is None)
        if wanted is None:
            with pytest.raises(DataError, match=r"some\.json: (not readable JSON|expected a mapping)"):
                IndexedJson(path)
        else:
            ours = IndexedJson(path)
            assert (list(ours.items()), sorted(ours.twice)) == wanted, text
    assert outcomes == {True, False}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", "expected a mapping from ids to captions, got list"),
        (b"12", "got number"),
        (b"", "not readable JSON"),
        (b'{"a": 1} x', "more text after the end, at byte 9"),
        ('{"é": 1,}'.encode(), "a comma without an entry, at byte 9"),
        (b'{"a": "\xff"}', "not readable JSON"),
        (b'{"a": ' + b"[" * 100_000, "not readable JSON"),
        (b'{"a": 1, 2: 3}', "a key of type int"),
    ],
)
def test_what_is_no_json_mapping_is_one_clear_error(tmp_path, content, message):
    (tmp_path / "some.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        IndexedJson(tmp_path / "some.json")


def test_a_value_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(indexed_json, "LARGEST_VALUE", 2**16)
    monkeypatch.setattr(indexed_json, "_READ_AT_ONCE", 2**12)
    (tmp_path / "some.json").write_text('{"a": "' + "x" * 2**20)
    with pytest.raises(DataError, match="a value of more than 65536 characters"):
        IndexedJson(tmp_path / "some.json")


def test_a_large_file_takes_little_memory(tmp_path):
    captions = json.dumps({"start": [1.5] * 2000, "end": [2.5] * 2000, "text": ["now fry"] * 2000})
    with (tmp_path / "caption.json").open("w") as file:  # 35 MB; as objects three times that
        entries = (f'"v{number}": {captions}' for number in range(1500))
        file.write("{" + next(entries))
        file.writelines(f", {entry}" for entry in entries)
        file.write("}")
    grown = grown_kb(
        "from pathlib import Path\n"
        "from mcnlab.data.importers.howto100m_captions import open_captions\n"
        "from mcnlab.data.importers.howto100m_list import ListedVideo",
        "captions = open_captions(Path(sys.argv[1]))\n"
        "assert len(captions.raw(ListedVideo('v1499', 'v1499'))['text']) == 2000",
        str(tmp_path / "caption.json"),
    )
    assert grown < 40_000
