"""How much memory a piece of Python takes at most, measured in a process of its own."""

import subprocess
import sys

_PEAK = """
def peak_kb():
    # not ru_maxrss, which a process inherits from the one that started it
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
"""


def grown_kb(imports: str, work: str, *arguments: str) -> int:
    """Run Python code in a new process.

    Args:
        imports: statements that come before the measurement.
        work: statements that are measured; `sys.argv[1:]` holds the arguments.
        arguments: of the process.

    Returns:
        By how many kB its largest resident size grew.
    """
    script = f"import sys\n{_PEAK}\n{imports}\nbefore = peak_kb()\n{work}\nprint(peak_kb() - before)"
    command = [sys.executable, "-c", script, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
