"""Files and folders that are there whole or not at all."""

import os

import pytest

from mcnlab.errors import BusyError, StorageError
from mcnlab.files import new_folder_atomically, write_bytes_atomically, write_json_atomically


def test_a_file_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a.json"
    write_json_atomically(path, {"a": 1})
    write_json_atomically(path, {"a": 2})
    assert '"a": 2' in path.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_nan_is_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "a.json"
    write_json_atomically(path, 1)
    with pytest.raises(ValueError, match="JSON"):
        write_json_atomically(path, float("nan"))
    assert path.read_text(encoding="utf-8") == "1\n"


def test_a_missing_folder_is_an_error_with_the_path(tmp_path):
    with pytest.raises(StorageError, match=r"nowhere.*No such file"):
        write_bytes_atomically(tmp_path / "nowhere" / "a", b"")


def test_a_folder_appears_only_at_the_end(tmp_path):
    path = tmp_path / "store"
    with new_folder_atomically(path) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "a").write_text("x", encoding="utf-8")
        assert not path.exists()
    assert (path / "inner" / "a").read_text(encoding="utf-8") == "x"
    assert [file.name for file in tmp_path.iterdir()] == ["store"]


def fail_after_writing(folder):
    (folder / "a").write_text("x", encoding="utf-8")
    raise KeyError("broken")


def test_an_error_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyError), new_folder_atomically(tmp_path / "store") as folder:
        fail_after_writing(folder)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path):
    stale = tmp_path / ".store.partial-1"
    stale.mkdir()
    with new_folder_atomically(tmp_path / "store"):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["store"]


def test_a_folder_that_holds_something_is_not_touched(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a").write_text("x", encoding="utf-8")
    with pytest.raises(StorageError, match="exists already"), new_folder_atomically(tmp_path / "store"):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["store"]


def test_who_builds_a_folder_is_named_to_the_second_and_leaves_no_name(tmp_path):
    with new_folder_atomically(tmp_path / "a.b") as building:
        (building / "file").write_text("whole")
        said = rf"a\.b: held by process {os.getpid()} on .*, which is building it; call again when that has ended"
        with pytest.raises(BusyError, match=said), new_folder_atomically(tmp_path / "a.b"):
            pass
    assert [file.name for file in tmp_path.iterdir()] == ["a.b"]
