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
from common.kube.sharding import split
from common.nodeset import fold_names
from tests.bench.measure import Row
from tests.fleet.contents import MemoryContents
from tests.fleet.hosts import hosts
from tests.fleet.naming import NAMINGS
from tests.fleet.processes import Aggregator, Process

_CONFIG_MAP = 900 * 1024
_NAIVE_REPEATED = 1000
_FEW = 3
"""Rounds of what takes most of a minute with 10,000 nodes."""
_DEADLINE = 110
_IDLE_SECONDS = 30
_QUERIES = {
    "facts that nodes share": 'OS.release.ID == "ubuntu" && semver(OS.release.VERSION_ID) < semver("24.04")',
    "a fact that differs": 'int(OS.sysctl["/proc/sys/vm/swappiness"]) > 60',
    "each node's own fact": 'OS.firmware["dmi.product_serial"] != ""',
    "a whole subtype": 'OS.kmod.exists(name, name.startsWith("nvidia"))',
}


def rows(rounds: int, counts: tuple[int, ...] = (1000, 10_000)) -> Iterator[Row]:
    """Measure, and give the table's rows as they are known."""
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            floor_and_naive = _floor_and_naive(Path(folder), count, rounds)
        yield from floor_and_naive
        yield from _fleet(count, rounds, floor_and_naive[0].median, floor_and_naive[1].median)
        yield from _fold_alone(count, rounds)
    yield from _contents(max(counts), rounds)


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
    # The naive way takes most of a minute for 10,000 nodes: beyond 1,000 once must do.
    times = rounds if count <= _NAIVE_REPEATED else 1
    taken = []
    with _running("tests.fleet.naive", "serve", str(folder), log=folder / "naive") as server:
        port = str(server.read_line()["port"])
        for _ in range(times):
            with _running(
                "tests.fleet.naive", "fetch", str(folder), str(count), port, log=folder / "fetch"
            ) as client:
                taken.append(client.read_line())
    naive = statistics.median(one["seconds"] for one in taken)
    return [
        Row(f"{name}: floor, the same frames and no work", floor * 1e3, "ms"),
        Row(f"{name}: naive, HTTPS GET of every snapshot{'' if times > 1 else ' (once)'}", naive * 1e3, "ms"),
        Row(f"{name}: naive, from each node", taken[0]["bytes"] / count, "B"),
    ]


class _Fleet:
    """An aggregator and its simulated agents, and what a run costs."""

    def __init__(self, aggregator: Aggregator, simulator: Process, count: int) -> None:
        self.aggregator = aggregator
        self.simulator = simulator
        self.count = count
        self.document = b""

    def connect(self) -> dict[str, float]:
        """All dial at once: seconds until all are linked, and what a link costs in bytes of memory."""
        alone = self.aggregator.status()["rss"]
        began = time.perf_counter()
        self.simulator.command("connect")
        self.aggregator.client.wait_for("eidos_links", self.count)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "memory": (self.aggregator.status()["rss"] - alone) / self.count}

    def run(self) -> dict[str, float]:
        """From request to folded document: seconds, bytes each way per node, CPU of the aggregator."""
        before, cpu = self._bytes(), self.aggregator.status()["cpu"]
        began = time.perf_counter()
        status, self.document, _ = self.aggregator.client.request("/v1/runs", {"seconds": _DEADLINE})
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

    def changed(self, number: int) -> dict[str, float]:
        """A run after one node has changed."""
        self.simulator.command(f"change 7 {number + 1000}")
        return self.run()

    def query(self, expression: str) -> float:
        """Seconds until the answer to a query is here."""
        began = time.perf_counter()
        status, body, _ = self.aggregator.client.request("/v1/query", {"expression": expression, "limit": 1000})
        seconds = time.perf_counter() - began
        if status != 200 or json.loads(body)["undecided"]:
            raise RuntimeError(f"the query ended with {status}, {body[:500]!r}")
        return seconds

    def idle(self) -> float:
        """Percent of a core that the links cost while nothing is asked, pings included."""
        before = self.aggregator.status()["cpu"]
        time.sleep(_IDLE_SECONDS)
        return (self.aggregator.status()["cpu"] - before) / 10 / _IDLE_SECONDS

    def _bytes(self) -> tuple[float, float]:
        metric = self.aggregator.client.metric
        return metric('eidos_link_bytes_total{direction="in"}'), metric('eidos_link_bytes_total{direction="out"}')


@contextmanager
def _started(count: int, contents: int = 0) -> Iterator[_Fleet]:
    """A new aggregator that knows nothing yet, and agents that have not dialled yet."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "fleet"
        directory.mkdir()
        aggregator = Aggregator(directory, fold_names(map(NAMINGS["counted"], range(count))))
        arguments = ["--port", str(aggregator.link_port), "--directory", str(directory), "--count", str(count)]
        arguments += ["--contents", str(contents)]
        try:
            with _running("tests.fleet.simulator", *arguments, log=Path(folder) / "simulator") as simulator:
                simulator.read_line()
                yield _Fleet(aggregator, simulator, count)
        finally:
            aggregator.end(SIGKILL)


def _fleet(count: int, rounds: int, floor_ms: float, naive_ms: float) -> list[Row]:
    times = rounds if count <= _NAIVE_REPEATED else min(rounds, _FEW)
    storms, colds, peaks = [], [], []
    warm: list[dict[str, float]] = []
    changed: list[dict[str, float]] = []
    for number in range(times):
        with _started(count) as fleet:
            storms.append(fleet.connect())
            colds.append(fleet.run())
            if number == times - 1:
                warm = [fleet.run() for _ in range(rounds)]
                changed = [fleet.changed(number) for number in range(rounds)]
                idle = fleet.idle()
            peaks.append(float(fleet.aggregator.status()["peak"]))
    name = f"fleet {count}"
    cold_ms, warm_ms, changed_ms = (_of(runs, "seconds") * 1e3 for runs in (colds, warm, changed))
    memory = statistics.median(peaks)
    # WebSocket payloads. On the wire each frame has 6 (from agents) or 2 bytes of WebSocket, 22 of TLS, 52 of TCP/IP.
    received, sent = _of(warm, "in"), _of(warm, "out")
    return [
        Row(f"{name}: connect storm", _of(storms, "seconds") * 1e3, "ms"),
        Row(f"{name}: aggregator memory per link", _of(storms, "memory") / 1024, "KiB"),
        Row(f"{name}: aggregator CPU when idle", idle, "% of a core"),
        Row(f"{name}: cold run, request to document", cold_ms, "ms", "naive", cold_ms / naive_ms),
        Row(f"{name}: warm run, request to document", warm_ms, "ms", "naive", warm_ms / naive_ms),
        Row(f"{name}: warm run beside the floor", warm_ms, "ms", "floor", warm_ms / floor_ms),
        Row(f"{name}: warm run, aggregator CPU", _of(warm, "cpu") * 1e3, "ms"),
        Row(f"{name}: one node changed", changed_ms, "ms", "warm run", changed_ms / warm_ms),
        Row(f"{name}: cold, from each node", _of(colds, "in"), "B"),
        Row(f"{name}: warm, from each node", received, "B", "300 B", received / 300),
        Row(f"{name}: warm, to each node", sent, "B", "300 B", sent / 300),
        Row(f"{name}: aggregator peak RSS", memory / 1e6, "MB", "500 MB", memory / 5e8),
    ]


def _contents(count: int, rounds: int) -> Iterator[Row]:
    """What more distinct contents cost at the same number of nodes; in the end all differ from all others."""
    first, rounds = 0.0, min(rounds, _FEW)
    for contents in sorted({5, 50, min(500, count), count}):
        with _started(count, contents) as fleet:
            fleet.connect()
            cold = fleet.run()
            warm_ms = _of([fleet.run() for _ in range(rounds)], "seconds") * 1e3
            peak = fleet.aggregator.status()["peak"]
            queries = {
                what: statistics.median(fleet.query(expression) for _ in range(rounds)) * 1e3
                for what, expression in (_QUERIES.items() if contents in (5, count) else ())
            }
        name = f"fleet {count}, {'all' if contents == count else contents} different"
        cold_ms = cold["seconds"] * 1e3
        first = first or cold_ms
        yield from (
            Row(f"{name}: cold run", cold_ms, "ms", "5 different", cold_ms / first),
            Row(f"{name}: warm run", warm_ms, "ms"),
            Row(f"{name}: aggregator peak RSS", peak / 1e6, "MB"),
            Row(f"{name}: document, JSON", len(fleet.document) / 1024, "KiB"),
            *(Row(f"{name}: query of {what}", milliseconds, "ms") for what, milliseconds in queries.items()),
        )


def _of(runs: list[dict[str, float]], what: str) -> float:
    return statistics.median(run[what] for run in runs)


def _fold_alone(count: int, rounds: int) -> list[Row]:
    contents = MemoryContents()
    templates = [contents.add(host.snapshot(f"template-{host.name}")) for host in hosts()]
    nodes = {NAMINGS["counted"](number): templates[number % 5] for number in range(count)}
    names = NodeNames(nodes)
    entries = [Entry(node, NodeState.OK, fresh=True) for node in nodes]
    metadata = FleetMetadata("", "", "")
    seconds = _median(lambda: fold(nodes, contents, names), rounds)
    document = fleet_snapshot(metadata, entries, fold(nodes, contents, names), names)
    content = dump_plain(document, Format.YAML)
    size = len(content)
    packed = sum(map(len, split(content, "eidos-fleet")[1].values()))
    return [
        Row(f"fleet {count}: fold alone", seconds * 1e3, "ms"),
        Row(f"fleet {count}: document, YAML", size / 1024, "KiB", "900 KiB of a ConfigMap", size / _CONFIG_MAP),
        Row(f"fleet {count}: document in shards, zstd", packed / 1024, "KiB", "the YAML", packed / size),
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
        print(f"{row.name:55} {row.median:12,.1f} {row.unit:4} {ratio}", flush=True)


if __name__ == "__main__":
    main()
