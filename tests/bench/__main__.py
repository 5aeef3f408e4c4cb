"""`make bench`: measure, print a table, write build/bench.json.

One part alone: `python -m tests.bench --only fleet`.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench import cluster, fleet, idle, job, snapshot
from tests.bench.measure import Row

TARGET = Path("build/bench.json")


def table(rows: list[Row]) -> Table:
    """The rows for a person."""
    drawn = Table("benchmark", "median", "unit", "compared with", "ratio")
    for column in (1, 4):
        drawn.columns[column].justify = "right"
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        drawn.add_row(row.name, f"{row.median:,.{1 if row.median >= 1 else 3}f}", row.unit, row.compared_with, ratio)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the benchmarks.")
    parser.add_argument("--rounds", type=int, default=11, help="how often each command is run (median is taken)")
    parser.add_argument("--fleet", type=int, nargs="*", default=[1000, 10_000], help="sizes of fleets to simulate")
    parser.add_argument("--cluster", type=int, nargs="*", default=[10, 1000, 5000], help="nodes of real clusters")
    parser.add_argument("--idle", type=float, default=idle.SECONDS, help="seconds to look at what idles")
    parser.add_argument("--jobs", type=int, default=5, help="how often a Job is run each way on the real cluster")
    parts: dict[str, Callable[[], Iterable[Row]]] = {
        "snapshot": lambda: snapshot.rows(options.rounds),
        "idle": lambda: idle.rows(options.idle),
        "job": lambda: job.rows(options.jobs),
        "cluster": lambda: cluster.rows(tuple(options.cluster), idle=options.idle),
        "fleet": lambda: fleet.rows(5, tuple(options.fleet)),
    }
    parser.add_argument("--only", choices=parts, nargs="+", default=list(parts), help="these parts")
    options = parser.parse_args()
    rows: list[Row] = []
    failed = ""
    for name in options.only:
        began, load = time.monotonic(), os.getloadavg()[0]
        try:
            for row in parts[name]():
                rows.append(row)
                print(f"{row.name}: {row.median:,.3g} {row.unit}", file=sys.stderr, flush=True)
        except (RuntimeError, AssertionError, OSError, subprocess.SubprocessError) as error:
            # What was measured is not lost because a machine was too busy for the rest.
            failed += f"\n{name}: stopped: {error}"
        # Whoever compares figures should know how busy the machine was.
        rows.append(Row(f"part {name} took", time.monotonic() - began, "s", f"load {load:.1f} before"))
        _write(rows)
    Console().print(table(rows))
    print(f"written to {TARGET}{failed}")
    raise SystemExit(1 if failed else 0)


def _write(rows: list[Row]) -> None:
    """After each part: an interrupted run has given something, too."""
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(msgspec.json.format(msgspec.json.encode(rows)) + b"\n")


if __name__ == "__main__":
    main()
