"""What benchmarks share: running a command with its cost known, and rows of the table."""

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

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


# The peak a child reports begins with that of the process it was forked from, so the fork happens in a small one.
_LAUNCHER: Final = """
import os, sys, time
quiet = os.open(os.devnull, os.O_RDWR)
actions = [(os.POSIX_SPAWN_DUP2, quiet, number) for number in (0, 1, 2)]
started = time.perf_counter()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
_, status, usage = os.wait4(child, 0)
seconds, code = time.perf_counter() - started, os.waitstatus_to_exitcode(status)
print(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, code)
"""


def run_cost(command: Sequence[str]) -> Cost:
    """Run a command to its end, its output thrown away. Raises CalledProcessError when it fails."""
    # Byte code is kept, as in an installation; some build machines switch that off.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command]
    done = subprocess.run(launcher, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    wall, cpu, peak, status = map(float, done.stdout.split())
    if status:
        raise subprocess.CalledProcessError(int(status), list(command))
    return Cost(wall * 1e3, cpu * 1e3, peak / 1024)


def interleaved(commands: dict[str, Callable[[], Cost]], rounds: int) -> dict[str, Cost]:
    """Medians per command, the commands taking turns so that the machine's moods meet all of them alike."""
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for warm in commands.values():
        warm()
    for _ in range(rounds):
        for name, measure in commands.items():
            costs[name].append(measure())
    return {name: Cost(*map(statistics.median, zip(*taken, strict=True))) for name, taken in costs.items()}
