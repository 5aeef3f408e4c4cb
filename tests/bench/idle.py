"""What the resident agent costs: `python -m agent` as it is installed, reading this machine, linked over real TLS.

python -m tests.bench.idle [--seconds 600]

Children (the one that speaks NVML, where there are GPUs) count as the agent does. CPU time is the kernel's own, to
the nanosecond; threads that have ended are in it.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Final

from tests.bench.measure import Row
from tests.fleet.processes import Agent, Aggregator

SECONDS: Final = 60.0
"""As `make bench` measures; ten minutes tell a tenth of a percent more surely."""
_AIM_RSS: Final = 45e6
_AIM_CPU: Final = 0.1
_COLLECTIONS: Final = 20
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SETTLES_WITHIN: Final = 5.0
"""Seconds after a collection in which what it leaves behind (threads, garbage) goes."""


def rows(seconds: float = SECONDS) -> list[Row]:
    """Measure and return the table's rows."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "fleet"
        directory.mkdir()
        aggregator = Aggregator(directory, "this-machine")
        agent = Agent(aggregator, "this-machine")
        try:
            aggregator.client.wait_for("eidos_links", 1)
            aggregator.client.run()  # the first one loads what later ones have
            taken = [_collection(aggregator, agent) for _ in range(_COLLECTIONS)]
            return [*_idle(agent, seconds), Row("agent: CPU per collection", statistics.median(taken) * 1e3, "ms")]
        finally:
            agent.end(SIGKILL)
            aggregator.end(SIGKILL)


def _collection(aggregator: Aggregator, agent: Agent) -> float:
    """CPU seconds of one collection, its report included."""
    before = _cpu(agent.process.pid)
    status, _, _ = aggregator.client.request("/v1/runs", {"seconds": 30})
    if status != 200:
        raise RuntimeError(f"the run ended with {status}")
    return _cpu(agent.process.pid) - before


def _idle(agent: Agent, seconds: float) -> list[Row]:
    pid = agent.process.pid
    time.sleep(_SETTLES_WITHIN)
    cpu, woken, began = _cpu(pid), _wakeups(pid), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    percent = (_cpu(pid) - cpu) / passed * 100
    resident, proportional = _memory(pid, "Rss"), _memory(pid, "Pss")
    return [
        Row("agent idle: RSS", resident / 1e6, "MB", "45 MB", resident / _AIM_RSS),
        Row("agent idle: PSS", proportional / 1e6, "MB", "45 MB", proportional / _AIM_RSS),
        Row(f"agent idle: CPU over {passed:.0f} s", percent, "% of a core", "0.1 %", percent / _AIM_CPU),
        Row("agent idle: wakeups a second", (_wakeups(pid) - woken) / passed, ""),
    ]


def _tree(pid: int) -> Iterator[int]:
    """A process and all its descendants."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _tree(int(child))


def _cpu(pid: int) -> float:
    """CPU seconds so far: clock_getcpuclockid(3) of each process, and what ended children took (proc(5), stat)."""
    total = 0.0
    for each in _tree(pid):
        ended = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()[13:15]
        total += time.clock_gettime((~each << 3) | 2) + sum(map(int, ended)) / _TICKS
    return total


def _wakeups(pid: int) -> int:
    """How often any of its threads has waited and gone on."""
    lines = (
        line
        for each in _tree(pid)
        for status in Path(f"/proc/{each}/task").glob("*/status")
        for line in status.read_text().splitlines()
    )
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def _memory(pid: int, field: str) -> int:
    """Bytes of one field of smaps_rollup (proc(5))."""
    lines = (line for each in _tree(pid) for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines())
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    """Print the table alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long to look at the idle agent")
    for row in rows(parser.parse_args().seconds):
        beside = "" if row.ratio is None else f"{row.ratio:6.3f} of {row.compared_with}"
        print(f"{row.name:35} {row.median:10,.3f} {row.unit:12} {beside}")


if __name__ == "__main__":
    main()
