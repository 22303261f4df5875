"""Damaged and hostile files that once ended in an error of a library: each is one error that names the file."""

import contextlib
import io
import json
import struct
import wave

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mcnlab.config import read_yaml
from mcnlab.data.arrays import read_npy, read_npz_member
from mcnlab.data.media_files import read_sound
from mcnlab.data.store import open_store
from mcnlab.errors import DataError, McnlabError
from mcnlab.experiment.record import compare_with_record
from mcnlab.reporting.executed import notebook_problems
from mcnlab.runs import RunFolder
from tests.small_store import make_store

DEEP = "[" * 100_000
ENDLESS = "9" * 5_000


def npy(header):
    """An npy file whose header is this text."""
    text = header.encode().ljust(118 - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }(",  # not an end
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 'x'), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': 7, 'fortran_order': False, 'shape': (4,), }",
        "((((((((((((",
    ],
)
def test_a_damaged_header_of_an_array_is_named(header, tmp_path):
    (tmp_path / "a.npy").write_bytes(npy(header))
    with pytest.raises(DataError, match=r"a\.npy: "):
        read_npy(tmp_path / "a.npy")


def test_a_damaged_member_of_an_archive_is_named(tmp_path):
    file = io.BytesIO()
    np.savez_compressed(file, a=np.arange(5000))
    content = bytearray(file.getvalue())
    content[60:90] = b"\xff" * 30  # in the middle of what zlib has packed
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz"):
        read_npz_member(tmp_path / "a.npz", "a")


@pytest.mark.parametrize("text", [f"a: {DEEP}", f"a: {ENDLESS}", "a: [\x00"])
def test_settings_of_deep_nesting_or_endless_numbers_are_named(text, tmp_path):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(McnlabError, match=r"s\.yaml"):
        read_yaml(tmp_path / "s.yaml")


@pytest.mark.parametrize("line", [DEEP, f'{{"step": {ENDLESS}}}', "2", "[1]", '"step"', "{"])
def test_a_line_of_metrics_that_is_none_is_named(line, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl: line 2"):
        RunFolder(tmp_path).metrics()


def test_metrics_that_are_no_text_are_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n\xff\xfe\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl: is not UTF-8"):
        RunFolder(tmp_path).metrics()


@pytest.mark.parametrize("content", [DEEP, ENDLESS, "[]", '{"files": 3}', '{"files": {"a": {}}}', "\x00"])
def test_a_damaged_list_of_files_is_named(content, tmp_path):
    (tmp_path / "files.json").write_text(content)
    (tmp_path / "a").write_text("x")
    with pytest.raises(DataError, match=r"files\.json"):
        compare_with_record(tmp_path)


def test_a_table_that_is_no_parquet_is_one_line(tmp_path):
    (tmp_path / "clips.parquet").write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    with pytest.raises(DataError, match=r"clips\.parquet: cannot be read") as error:
        RunFolder(tmp_path).clips()
    assert "\n" not in str(error.value)


def test_a_column_of_no_known_kind_is_named(tmp_path):
    path = tmp_path / "clips.parquet"
    table = pa.Table.from_pandas(pd.DataFrame({"id": ["a"], "value": [0.5]}))
    said = table.schema.metadata[b"pandas"].replace(b'"numpy_type": "float64"', b'"numpy_type": "floa|64"')
    pq.write_table(table.replace_schema_metadata({b"pandas": said}), path)
    with pytest.raises(DataError, match=r"clips\.parquet: cannot be read"):
        RunFolder(tmp_path).clips()


def test_a_manifest_that_is_no_parquet_is_one_line(tmp_path):
    make_store(tmp_path / "store")
    (tmp_path / "store" / "manifest.parquet").write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    with pytest.raises(DataError, match=r"manifest\.parquet") as error:
        open_store(tmp_path / "store").clips()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [DEEP, "[]", '{"words": 3}', '{"words": [1, 2]}', '{"words": ["a"]}', "{"])
def test_damaged_words_of_a_store_are_named(content, tmp_path):
    make_store(tmp_path / "store")
    (tmp_path / "store" / "words.json").write_text(content)
    with pytest.raises(DataError, match=r"words"):
        open_store(tmp_path / "store").word_vectors  # noqa: B018  reads them


@pytest.mark.parametrize("length", [2**63 - 1, 2**40, 2**31, 8, 0])
def test_a_header_of_safetensors_that_promises_too_much_is_named(length, tmp_path):
    header = json.dumps({"video": {"dtype": "F16", "shape": [2**60, 4], "data_offsets": [0, 2**62]}}).encode()
    (tmp_path / "embeddings.safetensors").write_bytes(struct.pack("<Q", length) + header)
    with pytest.raises(DataError, match=r"embeddings\.safetensors: cannot be read"):
        RunFolder(tmp_path).embeddings()


def test_a_sound_whose_header_promises_hours_is_read_in_bounds(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(3200))
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[40:44] = b"\xf0\xff\xff\xff"  # length of the data
    (tmp_path / "a.wav").write_bytes(content)
    with contextlib.suppress(DataError):  # as well
        assert len(read_sound(tmp_path, "a.wav", start_s=0.0, end_s=None, longest_s=60.0)) <= 60 * 16000


@pytest.mark.parametrize("content", [b"\x00" * 64, b"\x00\x00\x00\x18ftypmp42" + b"\xff" * 200])
def test_a_video_that_is_none_is_one_error(content, tmp_path):
    (tmp_path / "v.mp4").write_bytes(content)
    with pytest.raises((DataError, OSError)):
        read_sound(tmp_path, "v.mp4", start_s=0.0, end_s=2.0)


def test_a_cell_without_a_kind_is_named(tmp_path):
    cell = {"metadata": {}, "execution_count": 1, "id": "a", "source": "1", "outputs": []}
    (tmp_path / "n.ipynb").write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}))
    assert notebook_problems(tmp_path / "n.ipynb")[0].startswith("n.ipynb: not a notebook")


def test_a_damaged_notebook_that_looks_old_is_named(tmp_path):
    cell = {"cell_type": "cvde", "id": "a", "metadata": {}, "source": "1", "outputs": []}
    (tmp_path / "n.ipynb").write_text(json.dumps({"nbformat_minor": 5, "metadata": {}, "cells": [cell]}))
    assert notebook_problems(tmp_path / "n.ipynb")[0].startswith("n.ipynb: not a notebook")
