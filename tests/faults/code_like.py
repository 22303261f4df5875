"""Faults of values that look like code: they arrive as the texts that they are, and nothing is executed."""

import json
import tempfile
from pathlib import Path

import nbformat
import yaml

from tests.faults.children import in_child
from tests.faults.commands import run
from tests.faults.registry import Trial, fault
from tests.faults.training import experiment
from tests.mini_study import EXPERIMENTS

VALUES = (
    "__import__('os').system('touch MARKER')",
    "\"; __import__('os').system('touch MARKER'); \"",
    "'; open('MARKER', 'w'); '",
    "'''\nopen('MARKER', 'w')\n'''",
    '"""\nopen("MARKER", "w")\n"""',
    "\\'; open('MARKER','w') #",
    '\\"; open("MARKER","w") #',
    "\\\\'); open('MARKER', 'w') #",
    "\nopen('MARKER', 'w')\n",
    "\r\nopen('MARKER', 'w')",
    "\u2028open('MARKER', 'w')",
    "\x0copen('MARKER', 'w')",
    "!touch MARKER",
    "%%bash\ntouch MARKER",
    "%run MARKER",
    "$(touch MARKER)",
    "`touch MARKER`",
    "${open('MARKER', 'w')}",
    "{open('MARKER', 'w')}",
    "{{ open('MARKER', 'w') }}",
    "{% for x in ''.__class__.__mro__ %}MARKER{% endfor %}",
    "!!python/object/apply:os.system ['touch MARKER']",
    "!!python/object/new:os.system ['touch MARKER']",
    "!!python/name:os.system",
    "&a [*a]",
    "\\x27; open('MARKER','w')",
    "\\u0027; open('MARKER','w') #",
    "\\N{APOSTROPHE}; open('MARKER','w')",
    "%s %(os)s %n MARKER",
    "lambda: open('MARKER', 'w')",
)
"""`MARKER` becomes a path that is there once the text was executed."""


def notebook(path: Path) -> Path:
    """A notebook that tells its parameter."""
    cells = [nbformat.v4.new_code_cell('value = ""\nlist_ = []'), nbformat.v4.new_code_cell(
        "import json; print(json.dumps([value, list_]))"
    )]  # fmt: skip
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def arrives(value: str, folder: Path) -> str:
    """Execute the notebook, and read what it told."""
    from mcnlab.reporting.notebooks import execute

    done = execute(notebook(folder / "n.ipynb"), folder / "done.ipynb", {"value": value, "list_": [value, {value: 1}]})
    (told,) = nbformat.read(done, as_version=4).cells[-1].outputs
    assert json.loads(told.text) == [value, [value, {value: 1}]], f"{value!r} arrived as {told.text}"
    return "arrived"


@fault(
    "code-like-parameters",
    "values that look like Python, shell, YAML tags, templates or escapes, as notebook parameters and settings",
    "arrive as the same text, or are refused with one error; none is executed",
    trials=30,
    few=2,
)
def code_like_parameter(trial: Trial) -> str:
    """One value as a parameter of a notebook, as a setting in a file, and as one on the command line."""
    marker = Path(tempfile.mkdtemp(prefix="m")) / "x"  # short: names of experiments have 80 characters
    value = VALUES[trial.number % len(VALUES)].replace("MARKER", str(marker))
    in_child(lambda: arrives(value, trial.folder), patience_s=120, memory_mb=None)
    settings = yaml.safe_load(experiment(trial.shared).read_text())
    settings |= {**EXPERIMENTS[0], "training": {**settings["training"], "epochs": 1}}
    words = {"as a setting": value[:80], "as an option": None}
    happened = []
    for how, name in words.items():
        folder = trial.folder / how
        (trial.folder / "e.yaml").write_text(yaml.safe_dump(settings | {"experiment": name or "plain"}))
        order = ["train", trial.folder / "e.yaml", "--run", folder]
        order += [] if name else ["--set", f"experiment={value}"]
        ended = run(order, trial.folder / "log", expected=None)
        assert ended.code in (0, 2), f"{value!r} {how}: ended with {ended.code}: {ended.said()}"
        if ended.code == 0:
            kept = yaml.safe_load((folder / "settings.yaml").read_text(encoding="utf-8"))["experiment"]
            assert kept == (name or yaml.safe_load(value)), f"{value!r} {how}: arrived as {kept!r}"
        else:
            assert "error: " in ended.said(), f"{value!r} {how}: {ended.said()}"
        happened.append(f"{how} {'refused' if ended.code else 'the same'}")
    assert not marker.exists(), f"{value!r} was executed"
    marker.parent.rmdir()
    return "as a parameter the same, " + ", ".join(happened)
