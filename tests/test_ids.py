"""Ids are texts in every importer: `nan`, `NA` and `00012` arrive as they were written."""

import csv
import json

import numpy as np
import pytest
import soundfile

from mcnlab.data.importers.boxes import read_box_files
from mcnlab.data.importers.howto100m import import_howto100m
from mcnlab.data.importers.media import import_media
from mcnlab.data.importers.media_manifest import read_media_manifest
from mcnlab.data.importers.protocol_files import read_listing
from mcnlab.data.importers.whole_files import extract_files
from mcnlab.data.store import open_store
from tests import test_crosstask, test_mining_youtube, test_msrvtt, test_youcook2
from tests.howto100m_files import captions_of, write_video, write_words
from tests.protocol_files import write_esc50
from tests.step_files import features_of, srt, write_crosstask

ODD = ("nan", "NA", "00012")


def ids(store):
    opened = store if hasattr(store, "recording_id") else open_store(store)
    return [opened.recording_id(row) for row in range(len(opened))]


def manifest(folder, *, header=("id", "audio", "caption", "split"), audio="{}.wav"):
    """A table of sounds that bear the ids."""
    with (folder / "m.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(header)
        rows.writerows((name, audio.format(name), "NA", "train") for name in ODD)
    for name in ODD:
        soundfile.write(folder / f"{name}.wav", np.zeros(1600), 16000)
    return folder / "m.csv"


def test_media(tmp_path):
    path = manifest(tmp_path)
    assert [row.id for row in read_media_manifest(path).rows] == list(ODD)
    import_media(path, tmp_path / "store", video_dim=8, word_dim=8)
    assert sorted(ids(tmp_path / "store")) == sorted(ODD)
    clips = open_store(tmp_path / "store").clips()
    assert set(clips["id"]) == {f"{name}:0" for name in ODD}
    assert set(clips["caption"]) == {"NA"}


def test_extract(tmp_path):
    extract_files(manifest(tmp_path), tmp_path / "store")
    assert sorted(ids(tmp_path / "store")) == sorted(ODD)


def test_boxes(tmp_path):
    rows = [f"{name},0.1,0.1,0.5,0.5" for name in ODD]
    (tmp_path / "boxes.csv").write_text("\n".join(["id,left,top,right,bottom", *rows]) + "\n")
    assert list(read_box_files(tmp_path / "boxes.csv")) == list(ODD)


@pytest.mark.parametrize("captions", ["json", "csv"])
def test_howto100m(tmp_path, captions):
    for number, name in enumerate(ODD):
        write_video(tmp_path / "features", f"food/{name}", number)
    (tmp_path / "list.csv").write_text("\n".join(["path", *(f"food/{name}" for name in ODD)]) + "\n")
    known = {name: captions_of(number) for number, name in enumerate(ODD)}
    place = tmp_path / "captions"
    if captions == "json":
        place.write_text(json.dumps(known))
    else:
        place.mkdir()
        for name, of_video in known.items():
            with (place / f"{name}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([list(of_video), *zip(*of_video.values(), strict=True)])
    write_words(tmp_path / "words.bin")
    how = {"features": tmp_path / "features", "captions": place, "words": tmp_path / "words.bin"}
    report = import_howto100m(tmp_path / "list.csv", tmp_path / "store", **how)
    assert report.dropped == {}
    assert sorted(ids(tmp_path / "store")) == sorted(ODD)


def test_crosstask_ids(tmp_path):
    write_crosstask(tmp_path, videos=3)
    for number, name in enumerate(ODD):
        for path in sorted(tmp_path.rglob(f"*-vid_{number:06d}*")):
            path.rename(path.with_name(path.name.replace(f"-vid_{number:06d}", name)))
        for path in (tmp_path / "videos.csv", tmp_path / "held_out.csv"):
            path.write_text(path.read_text().replace(f"-vid_{number:06d}", name))
    report, store = test_crosstask.imported(tmp_path)
    assert report.dropped == {}
    assert ids(store) == ["101_nan", "202_NA", "101_00012"]


def test_mining_youtube_ids(tmp_path):
    for name in ("annotations", "features"):
        (tmp_path / name).mkdir()
    actions = test_mining_youtube.ACTIONS
    for number, name in enumerate(ODD):
        (tmp_path / "annotations" / f"{name}.srt").write_text(srt(actions), encoding="utf-8")
        np.save(tmp_path / "features" / f"{name}.npy", features_of(actions, 20, seed=number))
    (tmp_path / "test.txt").write_text("00012\nnan\n")
    report, store = test_mining_youtube.imported(tmp_path, held_out=tmp_path / "test.txt")
    assert report.dropped == {}
    splits = {store.recording_id(row): store[row].split for row in range(len(store))}
    assert splits == {"nan": "test", "NA": "train", "00012": "test"}


def test_msrvtt_ids(tmp_path):
    rows = [test_msrvtt.train_row(number, captions=1, frames=40, id=name) for number, name in enumerate(ODD)]
    report, store = test_msrvtt.imported(tmp_path, rows)
    assert (report.dropped, ids(store)) == ({}, list(ODD))


def test_youcook2_ids(tmp_path):
    rows = [test_youcook2.published_row(number, frames=40, id=f"{name}_0") for number, name in enumerate(ODD)]
    report, store = test_youcook2.imported(tmp_path, rows)
    assert report.dropped == {}
    assert [name.split("_0")[0] for name in ids(store)] == list(ODD)


def test_the_list_of_a_protocol(tmp_path):
    path = write_esc50(tmp_path) / "esc50.csv"
    header, *rows = path.read_text().splitlines()
    for number, name in enumerate(ODD):
        rows[number] = ",".join([f"{name}.wav", *rows[number].split(",")[1:]])
    path.write_text("\n".join([header, *rows]) + "\n")
    assert list(read_listing("esc50", tmp_path).clips)[:3] == list(ODD)
