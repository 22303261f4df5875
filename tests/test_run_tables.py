"""Tables of a run that came from others: none of their readers takes one that unpacks to far more than its file."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mcnlab.errors import DataError
from mcnlab.reporting import place_pictures
from mcnlab.reporting.clip_player import HEAT_FILE, recordings_with_heat
from mcnlab.reporting.gallery import SOUNDS_FILE, kept_sounds
from mcnlab.reporting.places import DETECTION
from mcnlab.reporting.summary import summarize
from mcnlab.runs import RunFolder
from tests.fake_study import DEFAULT, write_fake_study

ROWS = 1100
"""Of 100 kB each: 110 MB, in a file of less than one."""


def write_bomb(path):
    """One long value that stands in every row."""
    values = pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int32()), pa.array([b"\0" * 100_000]))
    pq.write_table(pa.table({"id": values, "wav": values, "cut": values}), path, compression="zstd")
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize("name", [HEAT_FILE, SOUNDS_FILE, "clips.parquet", "ranks.parquet"])
def test_a_table_that_unpacks_to_far_more_than_its_file_is_refused(name, tmp_path):
    write_bomb(tmp_path / name)
    run = RunFolder(tmp_path)
    read = {
        HEAT_FILE: lambda: recordings_with_heat(run),
        SOUNDS_FILE: lambda: kept_sounds(run),
        "clips.parquet": run.clips,
        "ranks.parquet": run.ranks,
    }[name]
    with pytest.raises(DataError, match=f"{name}: .* bytes that unpack to more than"):
        read()


def test_so_is_the_table_of_pictures_of_a_report(tmp_path, monkeypatch):
    summary = summarize(write_fake_study(tmp_path, experiments=DEFAULT[:1], seeds=(0,), clips=12))
    write_bomb(tmp_path / "v-a-s0" / f"{DETECTION}.parquet")
    monkeypatch.setattr(place_pictures, "measured", lambda summary, task: ["V+A"])
    with pytest.raises(DataError, match=f"{DETECTION}.parquet: .* bytes that unpack to more than"):
        place_pictures._pictures(summary, DETECTION)


def test_a_damaged_table_is_named_by_every_reader(tmp_path):
    for name, read in ((HEAT_FILE, recordings_with_heat), (SOUNDS_FILE, kept_sounds)):
        (tmp_path / name).write_bytes(b"PAR1 and no more")
        with pytest.raises(DataError, match=f"{name}: cannot be read"):
            read(RunFolder(tmp_path))
