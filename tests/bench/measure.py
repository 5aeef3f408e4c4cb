"""What benchmarks share: running a command with its cost known, and rows of the table."""

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec


class Cost(NamedTuple):
    """Wall and CPU time in milliseconds, peak resident memory in MB; children included."""

    wall_ms: float
    cpu_ms: float
    rss_mb: float


class Row(msgspec.Struct):
    """One line of the table and of build/bench.json."""

    name: str
    median: float
    unit: str
    compared_with: str = ""
    ratio: float | None = None


def run_cost(command: Sequence[str]) -> Cost:
    """Run a command to its end, its output thrown away. Raises CalledProcessError when it fails."""
    started = time.perf_counter()
    quiet = subprocess.DEVNULL
    # Byte code is kept, as in an installation; some build machines switch that off.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    child = subprocess.Popen(command, stdout=quiet, stderr=quiet, stdin=quiet, env=environment)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, list(command))
    return Cost(wall * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3, usage.ru_maxrss / 1024)


def interleaved(commands: dict[str, Callable[[], Cost]], rounds: int) -> dict[str, Cost]:
    """Medians per command, the commands taking turns so that the machine's moods meet all of them alike."""
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for warm in commands.values():
        warm()
    for _ in range(rounds):
        for name, measure in commands.items():
            costs[name].append(measure())
    return {name: Cost(*map(statistics.median, zip(*taken, strict=True))) for name, taken in costs.items()}
