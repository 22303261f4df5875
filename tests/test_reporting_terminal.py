"""What the terminal shows of a store: as much as a person reads, with nothing that breaks the terminal."""

import io
import json

import pytest
from rich.console import Console

from mcnlab.cli import main
from mcnlab.data.store import describe, open_store
from mcnlab.reporting.terminal import label_line, size_text, store_view
from tests.small_store import make_store


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    path = tmp_path_factory.mktemp("terminal") / "store"
    make_store(path)
    return describe(open_store(path))


def seen(facts, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(store_view(facts))
    return console.file.getvalue()


def test_hundreds_of_labels_are_one_line_and_json_has_them_all(tmp_path, capsys):
    make_store(tmp_path / "store")
    assert main(["inspect", str(tmp_path / "store"), "--json"]) == 0
    complete = json.loads(capsys.readouterr().out)
    assert complete == json.loads(json.dumps(describe(open_store(tmp_path / "store"))))
    labels = {f"step {number}": number % 50 + 1 for number in range(513)}
    said = seen({**complete, "labels": labels})
    line = "513: step 149 (50), step 199 (50), step 249 (50), step 299 (50), step 349 (50), and 508 smaller ones"
    assert line in " ".join(said.split())
    assert said.count("step ") == 5


def test_no_part_is_shown_that_is_empty(facts):
    said = seen({**facts, "labels": {}, "factors": {}, "dropped": {}, "lost": {}})
    assert "{}" not in said
    assert "factor" not in said
    assert "import" not in said
    assert "labels       none" in said


def test_every_track_and_split_has_its_numbers(facts):
    words = " ".join(seen(facts).split())
    for track in facts["tracks"].values():
        assert f"{track['name']} {track['modality']}" in words
    for split, counts in facts["splits"].items():
        assert " ".join([split, *(f"{count:,}" for count in counts.values())]) in words
    assert facts["fingerprint"] in words


def test_what_is_wrong_with_the_files_is_said(facts):
    said = seen({**facts, "checksums": ["shards/0.safetensors: changed"], "lost": {"audio: none": 3, "no caption": 7}})
    assert "shards/0.safetensors: changed" in said
    assert said.index("no caption") < said.index("audio: none")  # the largest first


def test_names_from_files_reach_the_terminal_as_text(facts):
    strange = {**facts, "name": "[red]a\x1b[2J", "labels": {"[bold]x\n": 3}, "dropped": {"\x07[link]": 1}}
    said = seen(strange)
    assert "\x1b[2J" not in said
    assert "\x07" not in said
    assert "[red]a" in said
    assert "[bold]x" in said
    assert "[link]" in said


@pytest.mark.parametrize("width", [40, 80, 200])
def test_nothing_is_cut_off_where_the_terminal_is_narrow(facts, width):
    said = seen(facts, width).replace("\n", "").replace(" ", "")
    assert facts["fingerprint"] in said
    assert "…" not in said
    assert facts["path"].rpartition("/")[2] in said


@pytest.mark.parametrize(
    ("size", "said"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (8 * 10**12, "8.0 TB")]
)
def test_sizes_have_units(size, said):
    assert size_text(size) == said


def test_few_labels_are_all_named():
    assert label_line({"a": 1, "c": 2, "b": 2}) == "3: b (2), c (2), a (1)"
