"""Who is trained on and who is tested, split by split, as a data set's official files say; kept beside a store."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped

from mcnlab.data.shards import file_checksum
from mcnlab.data.store import Store
from mcnlab.errors import DataError, reading_error
from mcnlab.files import read_json, write_json_atomically

FILE = "protocol.json"
ROLES = ("train", "val", "test")
"""What a recording may be in a split; an empty text where the split leaves it out."""


@dataclass(frozen=True)
class Member:
    """One recording in a protocol."""

    labels: tuple[str, ...]
    """Its classes; exactly one where the protocol is not multi-label."""
    roles: tuple[str, ...]
    """One per split: `train`, `val`, `test`, or empty."""


@dataclass(frozen=True)
class Protocol:
    """How a data set is to be classified: classes, splits, and everyone's part in them."""

    kind: str
    """Such as `ucf101`."""
    splits: tuple[str, ...]
    """Names of the official splits; results are means over them."""
    classes: tuple[str, ...]
    members: Mapping[str, Member]
    """By the recording's id."""
    multi_label: bool = False
    """Whether a recording may have several classes, or none."""

    def truth(self, recordings: Sequence[str]) -> Bool[np.ndarray, "recordings classes"]:
        """Which recording has which class.

        Args:
            recordings: ids.

        Returns:
            (N, C), bool.
        """
        place = {name: number for number, name in enumerate(self.classes)}
        found = np.zeros((len(recordings), len(self.classes)), dtype=bool)
        for row, recording in enumerate(recordings):
            found[row, [place[label] for label in self.members[recording].labels]] = True
        return found

    def roles(self, recordings: Sequence[str]) -> Shaped[np.ndarray, "splits recordings"]:
        """What each recording is in each split.

        Args:
            recordings: ids.

        Returns:
            (splits, N), texts.
        """
        rows = [self.members[recording].roles for recording in recordings]
        return np.array(rows, dtype="U5").reshape(len(rows), len(self.splits)).T


def check_protocol(protocol: Protocol, *, source: Path) -> None:
    """Refuse a protocol by which nothing could be measured.

    Args:
        protocol: any.
        source: where it comes from, for the error.

    Raises:
        DataError: a label or role is unknown, a recording has no label or too many, or a split has nobody to train
            on, or nobody to test.
    """
    known = set(protocol.classes)
    for id_, member in protocol.members.items():
        if strange := [label for label in member.labels if label not in known]:
            raise DataError(f"{source}: {id_!r}: unknown class {strange[0]!r}")
        if len(member.labels) != 1 and not protocol.multi_label:
            raise DataError(f"{source}: {id_!r}: expected one class, got {len(member.labels)}")
        if len(member.roles) != len(protocol.splits) or not set(member.roles) <= {*ROLES, ""}:
            raise DataError(f"{source}: {id_!r}: expected a role for each of {len(protocol.splits)} splits")
    for number, split in enumerate(protocol.splits):
        roles = {member.roles[number] for member in protocol.members.values()}
        if "train" not in roles or not roles & {"val", "test"}:
            missing = "train on" if "train" not in roles else "test"
            raise DataError(f"{source}: split {split!r} of {protocol.kind} has no recording to {missing}")


def add_protocol(folder: Path, protocol: Protocol, *, report: Mapping[str, Any] | None = None) -> None:
    """Lay a protocol into a store that is being built; from then on its checksum guards it too.

    Args:
        folder: of a whole store that nobody has opened yet.
        protocol: for its recordings; members that the store lacks are left out.
        report: what `import_report.json` says instead, where the importer knows more by now.

    Raises:
        DataError: it cannot be used.
        StorageError: the disk does not allow it.
    """
    check_protocol(protocol, source=folder)
    members = {id_: [list(member.labels), list(member.roles)] for id_, member in protocol.members.items()}
    plain = {
        "kind": protocol.kind,
        "splits": list(protocol.splits),
        "classes": list(protocol.classes),
        "multi_label": protocol.multi_label,
        "members": members,
    }
    info = read_json(folder / "store.json")
    for name, content in ((FILE, plain), ("import_report.json", report)):
        if content is not None:
            write_json_atomically(folder / name, content)
            path = folder / name
            info["files"][name] = {"bytes": path.stat().st_size, "sha256": file_checksum(path)}
    both = f"{info['fingerprint']} {info['files'][FILE]['sha256']}"
    info["fingerprint"] = hashlib.sha256(both.encode()).hexdigest()
    write_json_atomically(folder / "store.json", info)


def read_protocol(store: Store) -> Protocol | None:
    """The protocol of a store.

    Args:
        store: any.

    Returns:
        Only of recordings that the store has; None where no importer left one.

    Raises:
        DataError: the file is damaged.
    """
    file = store.path / FILE
    if FILE not in store.info["files"]:
        return None
    try:
        plain = read_json(file)
        protocol = _from_plain(plain, {store.recording_id(row) for row in range(len(store))})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise reading_error(error)(f"{file}: not a readable protocol ({error})") from error
    check_protocol(protocol, source=file)
    return protocol


def clips_of_protocol(store: Store, protocol: Protocol) -> pd.DataFrame:
    """The clips that a protocol speaks of, with its columns.

    Args:
        store: whose protocol it is.
        protocol: of `read_protocol`.

    Returns:
        As `Store.clips`, with a column `split:NAME` for each official split, its roles as text, and a column `labels`.
    """
    clips = store.clips()
    ids = {row: store.recording_id(row) for row in clips["recording"].unique().tolist()}
    names = clips["recording"].map(ids)
    clips, names = clips[names.isin(protocol.members)], names[names.isin(protocol.members)]
    members = [protocol.members[name] for name in names]
    columns = {f"split:{split}": [m.roles[number] for m in members] for number, split in enumerate(protocol.splits)}
    return clips.assign(labels=[m.labels for m in members], **columns)


def _from_plain(plain: Mapping[str, Any], recordings: set[str]) -> Protocol:
    """A protocol from JSON."""
    members = {
        id_: Member(tuple(labels), tuple(roles))
        for id_, (labels, roles) in plain["members"].items()
        if id_ in recordings
    }
    return Protocol(plain["kind"], tuple(plain["splits"]), tuple(plain["classes"]), members, plain["multi_label"])
