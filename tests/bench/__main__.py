"""`make bench`: measure, print a table, write build/bench.json."""

import argparse
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench import fleet, idle, job, snapshot
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
    parser.add_argument("--idle", type=float, default=idle.SECONDS, help="seconds to look at an idle agent")
    parser.add_argument("--jobs", type=int, default=5, help="how often a Job is run each way on the real cluster")
    options = parser.parse_args()
    rows: list[Row] = []
    failed = ""
    parts: dict[str, Callable[[], Iterable[Row]]] = {
        "snapshot": lambda: snapshot.rows(options.rounds),
        "idle agent": lambda: idle.rows(options.idle),
        "Job": lambda: job.rows(options.jobs),
        "fleet": lambda: fleet.rows(5, tuple(options.fleet)),
    }
    for name, part in parts.items():
        try:
            rows.extend(part())
        except (RuntimeError, AssertionError, OSError, subprocess.SubprocessError) as error:
            # What was measured is not lost because a machine was too busy for the rest.
            failed += f"\n{name}: stopped: {error}"
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(msgspec.json.format(msgspec.json.encode(rows)) + b"\n")
    Console().print(table(rows))
    print(f"written to {TARGET}{failed}")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
