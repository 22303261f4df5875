"""Faults of training: whatever ends it, the same command goes on, and not one bit is another."""

import hashlib
import json
import signal
import time
from pathlib import Path

import yaml

from tests.faults.commands import run, start
from tests.faults.registry import Trial, fault
from tests.mini_study import BASE, EXPERIMENTS
from tests.small_store import make_store

TIMES = {"clips_per_s", "elapsed_s"}
TIMED = {"train_s", "evaluate_s", "overhead_s"}


def experiment(shared: Path, *, epochs: int = 8) -> Path:
    """The experiment that all trials train: two stages, all three terms, some forty steps."""
    path = shared / "experiment.yaml"
    if not path.exists():
        make_store(shared / "store")
        training = {**BASE["training"], "epochs": epochs, "checkpoint_every": 4}
        values = {**BASE, **EXPERIMENTS[1], "data": {"store": str(shared / "store")}, "training": training}
        path.write_text(yaml.safe_dump(values))
    return path


def words(shared: Path, folder: Path) -> list[object]:
    """The command of a trial."""
    return ["train", experiment(shared), "--run", folder, "--seed", 3]


def undisturbed(shared: Path) -> tuple[Path, float]:
    """A run that nothing happened to, and how long it took."""
    folder, took = shared / "undisturbed", shared / "seconds"
    if not took.exists():
        experiment(shared)
        began = time.monotonic()
        run(words(shared, folder), shared / "log")
        took.write_text(str(time.monotonic() - began))
    return folder, float(took.read_text())


def fingerprint(folder: Path) -> dict[str, str]:
    """All that must be equal to the bit, by name: every file of a run but times and what names the moment."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or name in ("provenance.json", "files.json", ".lock"):
            continue
        content = path.read_bytes()
        if name == "metrics.jsonl":
            lines = [json.loads(line) for line in content.decode().splitlines()]
            content = json.dumps([{k: v for k, v in line.items() if k not in TIMES} for line in lines]).encode()
        elif name == "results.json":
            rows = json.loads(content)["rows"]
            content = json.dumps([row for row in rows if row["metric"] not in TIMED]).encode()
        elif path.name == "state.json":
            about = json.loads(content)
            about["position"].pop("train_s")
            content = json.dumps(about).encode()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def same_as_undisturbed(trial: Trial, folder: Path) -> None:
    """Raise when a run differs in anything from the undisturbed one."""
    known, found = fingerprint(undisturbed(trial.shared)[0]), fingerprint(folder)
    different = {name for name in known | found if known.get(name) != found.get(name)}
    assert not different, f"differs from the undisturbed run in {', '.join(sorted(different))}"
    run(["verify", folder, "--quick"], trial.folder / "verify.log")


@fault(
    "kill-training",
    "kill -9 at a random moment of training",
    "resumes; weights, metrics and results bit-identical to the undisturbed run",
    trials=200,
    few=6,
)
def kill_training(trial: Trial) -> str:
    """Kill up to three times, then let it end."""
    folder, kills = trial.folder / "run", 0
    _, seconds = undisturbed(trial.shared)
    for _ in range(trial.random.randint(1, 3)):
        command = start(words(trial.shared, folder), trial.folder / "log")
        time.sleep(trial.random.uniform(0, seconds))
        if command.poll() is None:
            command.kill()
        kills += command.code == -signal.SIGKILL
    run(words(trial.shared, folder), trial.folder / "log")
    same_as_undisturbed(trial, folder)
    return f"killed {kills} times" if kills else "was faster than the kill"


@fault(
    "stop-training",
    "SIGTERM or SIGINT at a random moment of training, sometimes twice",
    "exit 143 or 130 with a clear line; resumes; bit-identical",
    trials=50,
    few=2,
)
def stop_training(trial: Trial) -> str:
    """Ask it to stop, then let it end."""
    folder, number = trial.folder / "run", trial.random.choice([signal.SIGTERM, signal.SIGINT])
    _, seconds = undisturbed(trial.shared)
    command = start(words(trial.shared, folder), trial.folder / "log")
    time.sleep(trial.random.uniform(0, seconds))
    command.kill(number)
    if trial.random.random() < 0.3:
        time.sleep(trial.random.uniform(0, 0.05))
        command.kill(number)
    code = command.wait()
    assert code in (0, 128 + number, -number), f"ended with {code}: {command.said()}"
    if code == 128 + number:
        assert command.said().strip().splitlines()[-1].startswith("error: "), command.said()
    run(words(trial.shared, folder), trial.folder / "log")
    same_as_undisturbed(trial, folder)
    return "stopped" if code == 128 + number else "had not begun" if code == -number else "had ended"
