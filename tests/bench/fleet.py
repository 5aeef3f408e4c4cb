"""The fleet at 1,000 and 10,000 simulated agents, both ends on this machine, beside the naive way and the floor.

python -m tests.bench.fleet [COUNT ...] [--rounds 5]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL

from aggregator.document import fleet_snapshot
from aggregator.fold import fold
from aggregator.ledger import Entry
from aggregator.names import NodeNames
from common.fleet import FleetMetadata, NodeState
from common.formats import Format, dump_plain
from common.nodeset import fold_names
from tests.bench.measure import Row
from tests.fleet.contents import MemoryContents
from tests.fleet.hosts import hosts
from tests.fleet.naming import NAMINGS
from tests.fleet.processes import Aggregator, Process

_CONFIG_MAP = 900 * 1024


def rows(rounds: int, counts: tuple[int, ...] = (1000, 10_000)) -> list[Row]:
    """Measure and return the table's rows."""
    found = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            found += _floor_and_naive(Path(folder), count, rounds)
        with tempfile.TemporaryDirectory() as folder:
            found += _fleet(Path(folder), count, rounds, found[-2].median)
        found += _fold_alone(count, rounds)
    return found


@contextmanager
def _running(*arguments: str, log: Path) -> Iterator[Process]:
    process = Process(arguments, log, stdin=True)
    try:
        yield process
    finally:
        process.end(SIGKILL)


def _floor_and_naive(folder: Path, count: int, rounds: int) -> list[Row]:
    name = f"fleet {count}"
    with _running("tests.fleet.floor", "serve", str(folder), str(count), log=folder / "floor") as server:
        port = str(server.read_line()["port"])
        with _running("tests.fleet.floor", "dial", str(folder), str(count), port, log=folder / "dial") as peers:
            peers.read_line()
            server.command("go")
            floor = statistics.median(server.command("go")["seconds"] for _ in range(rounds))
    with _running("tests.fleet.naive", "serve", str(folder), log=folder / "naive") as server:
        port = str(server.read_line()["port"])
        with _running("tests.fleet.naive", "fetch", str(folder), str(count), port, log=folder / "fetch") as client:
            naive = client.read_line()
    return [
        Row(f"{name}: floor, the same frames and no work", floor * 1e3, "ms"),
        Row(f"{name}: naive, HTTPS GET of every snapshot", naive["seconds"] * 1e3, "ms"),
        Row(f"{name}: naive, bytes per node", naive["bytes"] / count, "B"),
    ]


class _Fleet:
    """An aggregator and its simulated agents, and what a run costs."""

    def __init__(self, aggregator: Aggregator, simulator: Process, count: int) -> None:
        self.aggregator = aggregator
        self.simulator = simulator
        self.count = count
        self.document = b""

    def run(self) -> dict[str, float]:
        """From request to folded document: seconds, bytes each way per node, CPU of the aggregator."""
        before, cpu = self._bytes(), self.aggregator.status()["cpu"]
        began = time.perf_counter()
        status, self.document, _ = self.aggregator.client.request("/v1/runs", {"seconds": 100})
        seconds = time.perf_counter() - began
        states = json.loads(self.document)["summary"]["states"]
        if status != 200 or states != {"ok": self.count}:
            raise RuntimeError(f"the run ended with {status}, {states}")
        after = self._bytes()
        return {
            "seconds": seconds,
            "in": (after[0] - before[0]) / self.count,
            "out": (after[1] - before[1]) / self.count,
            "cpu": (self.aggregator.status()["cpu"] - cpu) / 1e3,
        }

    def _bytes(self) -> tuple[float, float]:
        metric = self.aggregator.client.metric
        return metric('eidos_link_bytes_total{direction="in"}'), metric('eidos_link_bytes_total{direction="out"}')


def _fleet(folder: Path, count: int, rounds: int, naive_ms: float) -> list[Row]:
    directory = folder / "fleet"
    directory.mkdir()
    aggregator = Aggregator(directory, fold_names(map(NAMINGS["counted"], range(count))))
    arguments = ["--port", str(aggregator.link_port), "--directory", str(directory), "--count", str(count)]
    try:
        with _running("tests.fleet.simulator", *arguments, log=folder / "simulator") as simulator:
            simulator.read_line()
            fleet = _Fleet(aggregator, simulator, count)
            began = time.perf_counter()
            simulator.command("connect")
            aggregator.client.wait_for("eidos_links", count)
            storm = time.perf_counter() - began
            cold = fleet.run()
            warm = [fleet.run() for _ in range(rounds)]
            changed = [_changed(fleet, number) for number in range(rounds)]
            memory = aggregator.status()
    finally:
        aggregator.end(SIGKILL)
    name = f"fleet {count}"
    cold_ms, warm_ms, changed_ms = cold["seconds"] * 1e3, _of(warm, "seconds") * 1e3, _of(changed, "seconds") * 1e3
    # WebSocket payloads. On the wire each frame has 6 (from agents) or 2 bytes of WebSocket, 22 of TLS, 52 of TCP/IP.
    received, sent = _of(warm, "in"), _of(warm, "out")
    return [
        Row(f"{name}: connect storm", storm * 1e3, "ms"),
        Row(f"{name}: cold run, request to document", cold_ms, "ms", "naive", cold_ms / naive_ms),
        Row(f"{name}: warm run, request to document", warm_ms, "ms", "naive", warm_ms / naive_ms),
        Row(f"{name}: warm run, aggregator CPU", _of(warm, "cpu") * 1e3, "ms"),
        Row(f"{name}: one node changed", changed_ms, "ms", "warm run", changed_ms / warm_ms),
        Row(f"{name}: cold, from each node", cold["in"], "B"),
        Row(f"{name}: warm, from each node", received, "B", "300 B", received / 300),
        Row(f"{name}: warm, to each node", sent, "B", "300 B", sent / 300),
        Row(f"{name}: aggregator RSS", memory["rss"] / 1e6, "MB", "500 MB", memory["rss"] / 5e8),
    ]


def _of(runs: list[dict[str, float]], what: str) -> float:
    return statistics.median(run[what] for run in runs)


def _changed(fleet: _Fleet, number: int) -> dict[str, float]:
    fleet.simulator.command(f"change 7 {number + 1000}")
    return fleet.run()


def _fold_alone(count: int, rounds: int) -> list[Row]:
    contents = MemoryContents()
    templates = [contents.add(host.snapshot(f"template-{host.name}")) for host in hosts()]
    nodes = {NAMINGS["counted"](number): templates[number % 5] for number in range(count)}
    names = NodeNames(nodes)
    entries = [Entry(node, NodeState.OK, fresh=True) for node in nodes]
    metadata = FleetMetadata("", "", "")
    seconds = _median(lambda: fold(nodes, contents, names), rounds)
    document = fleet_snapshot(metadata, entries, fold(nodes, contents, names), names)
    size = len(dump_plain(document, Format.YAML))
    return [
        Row(f"fleet {count}: fold alone", seconds * 1e3, "ms"),
        Row(f"fleet {count}: document, YAML", size / 1024, "KiB", "900 KiB of a ConfigMap", size / _CONFIG_MAP),
    ]


def _median(act: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    """Print the table alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("counts", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for row in rows(options.rounds, tuple(options.counts)):
        ratio = "" if row.ratio is None else f"{row.ratio:6.3f} of {row.compared_with}"
        print(f"{row.name:55} {row.median:12,.1f} {row.unit:4} {ratio}")


if __name__ == "__main__":
    main()
