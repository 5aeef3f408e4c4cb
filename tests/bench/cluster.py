"""The fleet in a real cluster: what users, the API server and the aggregator's pod pay for thousands of nodes.

python -m tests.bench.cluster [SIZE ...] [--rounds 20] [--idle 60]
"""

import argparse
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

from tests.bench.cluster_fleet import ClusterFleet, cluster_fleet
from tests.bench.measure import Cost, Row, run_cost
from tests.cluster.audit import Asked, AuditLog
from tests.cluster.binaries import binaries_directory
from tests.cluster.cluster import prepare
from tests.cluster.fleetrequests import AGENT, AGGREGATOR, audit_log, of_runs, run_and_publish
from tests.cluster.requirements import ClusterUnavailableError

_RUNS: Final = 5
_LIMIT: Final = 2 << 30
"""Bytes that manifests/fleet gives its pod."""
_FEW: Final = 100
"""Nodes up to which kubectl's own start is all there is to see."""
_ASKED: Final = (
    ("nodes", "nodesnapshots", 20),
    ("nodes -o wide", "nodesnapshots -o wide", 5),
    ("node gpu-1 -o yaml", "nodesnapshot gpu-1 -o yaml", 5),
)
"""Of Nodes, of ours beside it, and how often at most."""


def rows(sizes: tuple[int, ...] = (10, 1000, 5000), rounds: int = 20, idle: float = 60) -> Iterator[Row]:
    """Measure, and give the table's rows as they are known; none, loudly, where the cluster cannot run."""
    try:
        prepare()
    except ClusterUnavailableError as reason:
        print(f"FLEET IN A CLUSTER NOT MEASURED: {reason}", file=sys.stderr)
        return
    for size in sizes:
        with cluster_fleet(size) as fleet:
            alone = fleet.aggregator.memory()
            yield Row("cluster 2: aggregator's cgroup, anonymous", alone.anonymous / 1e6, "MB")
            fleet.crowd()
            yield from _measured(fleet, f"cluster {size}, without agents", rounds)
            with fleet.linked():
                yield from _idle(fleet, f"cluster {size}", idle)
                yield from _measured(fleet, f"cluster {size}", rounds)


def _measured(fleet: ClusterFleet, name: str, rounds: int) -> Iterator[Row]:
    run_and_publish(fleet.fleet)  # knows nothing yet
    yield from _runs(fleet, name)
    memory = fleet.aggregator.memory()
    published = fleet.published()["data"]["snapshot.yaml"]
    yield from (
        Row(f"{name}: ConfigMap eidos-fleet", len(published.encode()) / 1024, "KiB"),
        Row(f"{name}: aggregator's process, resident", memory.resident / 1e6, "MB"),
        Row(f"{name}: aggregator's cgroup, anonymous", memory.anonymous / 1e6, "MB"),
        Row(f"{name}: aggregator's cgroup, all", memory.cgroup / 1e6, "MB"),
    )
    if fleet.size > _FEW:
        yield from _kubectl(fleet, name, rounds)
        yield from _command(fleet, name)
    peak = fleet.aggregator.memory().peak
    yield Row(f"{name}: aggregator's cgroup, peak", peak / 1e6, "MB", "limit", peak / _LIMIT)


def _runs(fleet: ClusterFleet, name: str) -> Iterator[Row]:
    """Runs as kubectl starts them, each published before the next begins."""
    taken, cpu = [], []
    for _ in range(_RUNS):
        before = fleet.aggregator.cpu()
        taken.append(run_and_publish(fleet.fleet))
        cpu.append(fleet.aggregator.cpu() - before)
    asked = of_runs(fleet.fleet, _RUNS)
    agents = AuditLog(fleet.cluster.control_plane.audit_log).asked(AGENT)
    yield Row(f"{name}: run, kubectl to document", statistics.median(taken) * 1e3, "ms")
    yield Row(f"{name}: run, CPU of the aggregator's pod", statistics.median(cpu) * 1e3, "ms")
    yield Row(f"{name}: API requests per run, aggregator", asked.total() / _RUNS, "", _split(asked, _RUNS))
    yield Row(f"{name}: API requests of agents, ever", agents.total(), "")


def _kubectl(fleet: ClusterFleet, name: str, rounds: int) -> Iterator[Row]:
    """kubectl on our objects and on Nodes, in turn."""
    for of_nodes, of_ours, times in _ASKED:
        asked = {of_nodes: f"get {of_nodes}".split(), of_ours: f"get {of_ours}".split()}
        costs: dict[str, list[Cost]] = {what: [] for what in asked}
        used: list[float] = []
        for _ in range(min(rounds, times)):
            for what, arguments in asked.items():
                before = fleet.aggregator.cpu()
                costs[what].append(run_cost([*_command_line(fleet), *arguments]))
            used.append(fleet.aggregator.cpu() - before)
        printed = [len(fleet.cluster.kubectl(*arguments).encode()) for arguments in asked.values()]
        peer, ours = f"get {of_nodes}", f"{name}: kubectl get {of_ours}"
        for part in (0.5, 0.95):
            beside, wall = (_percentile([cost.wall_ms for cost in costs[what]], part) for what in asked)
            yield Row(f"{name}: kubectl {peer}, p{part * 100:.0f} of {len(used)}", beside, "ms")
            yield Row(f"{ours}, p{part * 100:.0f} of {len(used)}", wall, "ms", peer, wall / beside)
        beside, own = (statistics.median(cost.cpu_ms for cost in costs[what]) for what in asked)
        yield Row(f"{ours}, CPU of kubectl", own, "ms", peer, own / beside)
        yield Row(f"{ours}, CPU of our pod", statistics.median(used) * 1e3, "ms")
        yield Row(f"{ours}, printed", printed[1] / 1024, "KiB", peer, printed[1] / printed[0])


def _command_line(fleet: ClusterFleet) -> list[str]:
    return [str(binaries_directory() / "kubectl"), f"--kubeconfig={fleet.cluster.kubeconfig}"]


def _command(fleet: ClusterFleet, name: str) -> Iterator[Row]:
    target = ["--kubeconfig", str(fleet.cluster.kubeconfig), "--output", str(fleet.fleet.folder / "fleet.yaml")]
    command = [sys.executable, "-m", "cli", "fleet", "snapshot", *target]
    taken = [run_cost(command) for _ in range(_RUNS)]
    yield Row(f"{name}: eidos fleet snapshot", statistics.median(cost.wall_ms for cost in taken), "ms")
    yield Row(f"{name}: eidos fleet snapshot, CPU of the command", statistics.median(c.cpu_ms for c in taken), "ms")


def _idle(fleet: ClusterFleet, name: str, seconds: float) -> Iterator[Row]:
    log, before, began = audit_log(fleet.fleet), fleet.aggregator.cpu(), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    percent, asked = (fleet.aggregator.cpu() - before) / passed * 100, log.asked(AGGREGATOR)
    yield Row(f"{name}: aggregator's pod, idle", percent, "% of a core")
    yield Row(f"{name}: API requests a minute, idle", asked.total() / passed * 60, "", _split(asked, passed / 60))


def _split(asked: Counter[Asked], of: float) -> str:
    """By verb and resource."""
    by: Counter[str] = Counter()
    for each, count in asked.items():
        by[f"{each.verb} {each.resource}"] += count
    return ", ".join(f"{what} {count / of:.2g}" for what, count in sorted(by.items()))


def _percentile(values: list[float], part: float) -> float:
    """By nearest rank."""
    return sorted(values)[math.ceil(part * len(values)) - 1]


def main() -> None:
    """Print the table alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sizes", type=int, nargs="*", default=[10, 1000, 5000])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--idle", type=float, default=60)
    options = parser.parse_args()
    for row in rows(tuple(options.sizes), options.rounds, options.idle):
        ratio = row.compared_with if row.ratio is None else f"{row.ratio:6.3f} of {row.compared_with}"
        print(f"{row.name:75} {row.median:12,.1f} {row.unit:4} {ratio}", flush=True)


if __name__ == "__main__":
    main()
