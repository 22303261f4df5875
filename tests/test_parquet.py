"""Tables that came from others: none is read that takes far more memory than its file has bytes."""

import hashlib
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mcnlab.data.boxes import Box, box_rows, read_boxes, write_boxes
from mcnlab.data.store import open_store
from mcnlab.errors import DataError
from mcnlab.parquet import ALWAYS_READ, read_parquet
from tests.memory_peak import grown_kb
from tests.repeated_text import columns_of_texts, repeat_text
from tests.test_store import recording, write

TOO_MUCH = "bytes that unpack to more than"


@pytest.fixture
def store(tmp_path):
    return write(tmp_path / "store", [recording(k) for k in range(20)])


def record(store):
    """Write size and checksum of the manifest into the store, as who armed it would."""
    info, content = json.loads((store / "store.json").read_bytes()), (store / "manifest.parquet").read_bytes()
    info["files"]["manifest.parquet"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (store / "store.json").write_text(json.dumps(info))


def read_all(path):
    store = open_store(path)
    store.clips(), [store.media(row) for row in range(len(store))], [store[row] for row in range(len(store))]


@pytest.mark.parametrize("says_so", [True, False])
@pytest.mark.parametrize("column", ["id", "split", "caption", "label", "media", "factor:command"])
def test_a_manifest_that_unpacks_to_far_more_than_its_file_is_refused(column, says_so, store):
    assert column in columns_of_texts(store / "manifest.parquet")
    repeat_text(store / "manifest.parquet", column, length=ALWAYS_READ // 10, store_schema=says_so)
    record(store)
    with pytest.raises(DataError, match=f"manifest.parquet: [0-9]+ {TOO_MUCH}"):
        read_all(store)


def test_nothing_large_is_unpacked_on_the_way(store):
    repeat_text(store / "manifest.parquet", "split", length=ALWAYS_READ // 2)
    record(store)

    said = "try: open_store(sys.argv[1])\nexcept DataError: pass\nelse: raise SystemExit('it was read')"
    imports = "from mcnlab.data.store import open_store\nfrom mcnlab.errors import DataError"
    assert grown_kb(imports, said, str(store)) < 6 * ALWAYS_READ // 1024  # twenty times the half would be ten


def test_so_is_a_table_of_boxes(tmp_path):
    box = Box(0.0, 1.0, 0.0, 0.0, 0.5, 0.5, label="bell")
    write_boxes(tmp_path / "boxes.parquet", box_rows([box] * 40, 0))
    assert len(read_boxes(tmp_path / "boxes.parquet")) == 40
    repeat_text(tmp_path / "boxes.parquet", columns_of_texts(tmp_path / "boxes.parquet")[0], length=ALWAYS_READ // 10)
    with pytest.raises(DataError, match=f"boxes.parquet: [0-9]+ {TOO_MUCH}"):
        read_boxes(tmp_path / "boxes.parquet")


def test_numbers_that_stand_once_and_are_repeated_count_too(tmp_path):
    path = tmp_path / "n.parquet"
    pq.write_table(pa.table({"n": np.zeros(2**24)}), path, compression="zstd")
    with pytest.raises(DataError, match=TOO_MUCH):
        read_parquet(path)


def test_so_do_blocks_of_a_fixed_length(tmp_path):
    path = tmp_path / "n.parquet"
    long = pa.array([b"x" * 10**5], pa.binary(10**5))
    table = pa.table({"n": pa.DictionaryArray.from_arrays(pa.array(np.zeros(2000, np.int32)), long)})
    pq.write_table(table, path, compression="zstd", store_schema=False)
    with pytest.raises(DataError, match=TOO_MUCH):
        read_parquet(path)


def test_many_equal_values_are_no_bomb(tmp_path):
    pd.DataFrame({"id": range(1000), "wav": b"\0" * 20_000}).to_parquet(tmp_path / "same.parquet")
    assert len(read_parquet(tmp_path / "same.parquet")) == 1000


def test_one_long_text_among_many_is_no_bomb(tmp_path):
    texts = ["x" * (ALWAYS_READ // 1000), *map(str, range(1001))]
    pd.DataFrame({"text": texts}).to_parquet(tmp_path / "long.parquet")
    assert list(read_parquet(tmp_path / "long.parquet")["text"]) == texts


def test_columns_that_are_not_read_do_not_count(tmp_path):
    path = tmp_path / "two.parquet"
    pd.DataFrame({"few": range(20), "many": "x"}).to_parquet(path)
    repeat_text(path, "many", length=ALWAYS_READ // 10)
    assert len(read_parquet(path, columns=["few"])) == 20
    with pytest.raises(DataError, match=TOO_MUCH):
        read_parquet(path, columns=["many"])
