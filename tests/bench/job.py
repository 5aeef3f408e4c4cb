"""`eidos snapshot --deploy-agent` beside the same Job applied by hand with kubectl, on the real cluster."""

import os
import pty
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.bench.measure import Row
from tests.cluster.binaries import binaries_directory
from tests.cluster.cluster import Cluster, prepare
from tests.cluster.furnish import put_nvml
from tests.cluster.images import AGENT_IMAGE, CHECKOUT, agent_archive
from tests.cluster.node import DEFAULT_NODES
from tests.cluster.orphans import own_name, remove_orphans
from tests.cluster.requirements import ClusterUnavailableError

NAMESPACE: Final = "gpu-operator"
_ALLOWED: Final = 0.5
"""Seconds that one command may take longer than the commands by hand."""
_PHASES: Final = ("permissions", "rbac", "job", "pod", "collect", "retrieve", "cleanup")

Times = dict[str, float]


class Bench:
    """A running cluster, and the two ways to a snapshot of its GPU node."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._folder = folder
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._environment = {**kept, "KUBECONFIG": str(cluster.kubeconfig), "TERM": "xterm", "COLUMNS": "200"}
        self._kubectl = str(binaries_directory() / "kubectl")
        for name in ("1-deps.yaml", "2-job.yaml"):
            text = (CHECKOUT / "manifests/job" / name).read_text()
            (folder / name).write_text(re.sub(r"ghcr\.io/nvidia/eidos:\w+", AGENT_IMAGE, text))

    def _run(self, *command: str) -> float:
        started = time.perf_counter()
        subprocess.run(command, env=self._environment, cwd=self._folder, check=True, capture_output=True)
        return time.perf_counter() - started

    def by_hand(self) -> Times:
        """The documented commands, one after the other; what removes the Job comes after the snapshot is there."""
        in_namespace = ("-n", NAMESPACE)
        fetch = ("get", "configmap", "eidos-snapshot", *in_namespace, "-o", r"jsonpath={.data.snapshot\.yaml}")
        times = {
            "apply": self._run(self._kubectl, "apply", "-f", "1-deps.yaml", "-f", "2-job.yaml"),
            "wait": self._run(
                self._kubectl, "wait", "--for=condition=complete", "--timeout=60s", "job/eidos", *in_namespace
            ),
            "get": self._run(self._kubectl, *fetch),
        }
        times["whole"] = sum(times.values())
        self._run(self._kubectl, "delete", "job", "eidos", *in_namespace)
        return times

    def _command(self) -> list[str]:
        eidos = str(Path(sys.executable).with_name("eidos"))
        flags = ("--node-selector", "nvidia.com/gpu.present=true", "--image", AGENT_IMAGE, "--output", "snap.yaml")
        return [eidos, "snapshot", "--deploy-agent", *flags]

    def one_command(self) -> Times:
        """As in a script: nothing is shown."""
        return {"whole": self._run(*self._command())}

    def on_a_terminal(self) -> Times:
        """As a person runs it: progress is shown, and at the end where the time went."""
        ours, theirs = pty.openpty()
        started = time.perf_counter()
        process = subprocess.Popen(
            self._command(), env=self._environment, cwd=self._folder, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        shown = _all_of(ours)
        status = process.wait()
        times = {"whole": time.perf_counter() - started}
        if status:
            raise subprocess.CalledProcessError(status, self._command(), shown)
        times |= {name: float(re.findall(rf"{name} ([\d.]+) s", shown)[-1]) for name in _PHASES}
        times["start and end"] = times["whole"] - sum(times[name] for name in _PHASES)
        return times


def _all_of(terminal: int) -> str:
    shown = b""
    try:
        while chunk := os.read(terminal, 65536):
            shown += chunk
    except OSError:  # EIO: nobody has it open any more
        pass
    os.close(terminal)
    return shown.decode()


def _medians(ways: dict[str, Callable[[], Times]], rounds: int) -> dict[str, Times]:
    """The ways take turns, so that the machine's moods meet all of them alike."""
    taken: dict[str, list[Times]] = {name: [] for name in ways}
    for warm in ways.values():
        warm()
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(way())
    return {
        name: {part: statistics.median(times[part] for times in runs) for part in runs[0]}
        for name, runs in taken.items()
    }


def rows(rounds: int) -> list[Row]:
    """Measure and return the table's rows; none, loudly, where the cluster cannot run."""
    try:
        prepare()
    except ClusterUnavailableError as reason:
        print(f"JOB MODE NOT MEASURED: {reason}", file=sys.stderr)
        return []
    archive = agent_archive()
    remove_orphans()
    with tempfile.TemporaryDirectory() as folder, Cluster(own_name(), DEFAULT_NODES, bound=True) as cluster:
        cluster.start()
        cluster.load_image(archive)
        put_nvml(cluster)
        bench = Bench(cluster, Path(folder))
        ways = {"hand": bench.by_hand, "command": bench.one_command, "terminal": bench.on_a_terminal}
        medians = _medians(ways, rounds)
    return _rows(medians["hand"], medians["command"], medians["terminal"])


def _rows(hand: Times, command: Times, terminal: Times) -> list[Row]:
    def row(name: str, seconds: float, beside: str = "", of: float | None = None) -> Row:
        return Row(name, seconds * 1e3, "ms", beside, None if of is None else seconds / of)

    allowed = hand["whole"] + _ALLOWED
    return [
        row("Job by hand: apply, wait, get", hand["whole"]),
        *(row(f"  {part}", hand[part]) for part in ("apply", "wait", "get")),
        row("eidos snapshot --deploy-agent", command["whole"], "by hand + 0.5 s", allowed),
        row("the same, on a terminal", terminal["whole"], "by hand + 0.5 s", allowed),
        *(row(f"  {part}", terminal[part]) for part in (*_PHASES, "start and end")),
    ]


if __name__ == "__main__":
    for each in rows(5):
        print(f"{each.name:40} {each.median:8.0f} {each.unit} {each.compared_with} {each.ratio or ''}")
