"""What the shell offers after Tab: read from names of files alone, so that it comes at once."""

import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
SHARED = Path(sysconfig.get_path("data")) / "share" / "mcnlab"
"""Where a wheel puts the studies."""
TASKS = (
    "retrieval", "clusters", "retention", "geometry", "actions", "bound", "transfer", "finetune", "stills", "unseen",
    "classify", "detection", "explanation", "localization",
)  # fmt: skip
"""What `--tasks` takes; a test holds it to the settings, which are too heavy to load here."""
PROTOCOLS = ("ucf101", "hmdb51", "kinetics600", "esc50", "audioset", "voc2007", "folders", "spectrograms")
"""What `mcnlab import protocol --kind` takes."""


def settings_files(incomplete: str) -> list[str]:
    """Files of studies and experiments: those that lie where the word points to, then those that come with mcnlab.

    Args:
        incomplete: what has been typed of the word.

    Returns:
        Paths; of a folder, its name with a slash.
    """
    here = _settings_below(incomplete)
    shipped = [f"studies/{name}" for name in _shipped() if f"studies/{name}".startswith(incomplete)]
    bare = [name for name in _shipped() if incomplete and name.startswith(incomplete)]
    found = list(dict.fromkeys([*here, *shipped, *bare]))
    if len(found) == 1 and found[0].endswith("/"):  # a shell would end the word behind an only answer
        inside = _settings_below(found[0])
        return [*found, *inside] if inside else []
    return found


def tasks(incomplete: str) -> list[str]:
    """Lists of tasks that begin as typed, with one more at their end; none stands twice.

    Example:
        >>> tasks("retrieval,ret")
        ['retrieval,retention']
    """
    *typed, last = incomplete.split(",")
    before = "".join(f"{name}," for name in typed)
    return [f"{before}{name}" for name in TASKS if name.startswith(last) and name not in typed]


def protocols(incomplete: str) -> list[str]:
    """Data sets of classes that begin as typed."""
    return [name for name in PROTOCOLS if name.startswith(incomplete)]


def experiments(study: object, incomplete: str) -> list[str]:
    """Names of a study's experiments, from the lines of its file that name one.

    Args:
        study: the file as it was typed; anything else than a path gives nothing.
        incomplete: what has been typed of the name.
    """
    file = _found(Path(str(study))) if study else None
    if file is None:
        return []
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    found = re.findall(r"^[^#\n]*\bexperiment:[ ]*(?:\"([^\"\n]*)\"|'([^'\n]*)'|([^,}#\n]+))", text, flags=re.MULTILINE)
    names = dict.fromkeys("".join(quoted_or_plain).strip() for quoted_or_plain in found)
    return [name for name in names if name.startswith(incomplete)]


def _found(path: Path) -> Path | None:
    """The settings file that is meant, as `mcnlab.reporting.notebooks.settings_path` finds it."""
    places = (*(above / path for above in (Path.cwd(), *Path.cwd().parents)), CHECKOUT / "studies" / path.name)
    return next((place for place in (*places, SHARED / "studies" / path.name) if place.is_file()), None)


def _shipped() -> list[str]:
    """Names of the studies that come with mcnlab."""
    folders = (CHECKOUT / "studies", SHARED / "studies")
    return sorted({path.name for folder in folders for path in folder.glob("*.yaml")})


def _settings_below(incomplete: str) -> list[str]:
    """Folders and YAML files of the folder that the word points into."""
    return [name for name in _below(incomplete) if name.endswith(("/", ".yaml", ".yml"))]


def _below(incomplete: str) -> Iterator[str]:
    """What lies in the folder that the word points into, as it would be typed."""
    folder, _, start = incomplete.rpartition("/")
    there = Path(f"{folder}/") if "/" in incomplete else Path()
    for path in sorted(there.iterdir()) if there.is_dir() else ():
        if path.name.startswith(start) and (start or not path.name.startswith(".")):
            yield ("" if "/" not in incomplete else f"{folder}/") + path.name + ("/" if path.is_dir() else "")
