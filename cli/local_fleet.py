"""A fleet of real processes on this machine: an aggregator, agents, TLS and tokens of its own, no cluster.

Nothing of it outlives this process, whatever ends that: the kernel kills the processes (PR_SET_PDEATHSIG of
prctl(2)), and a sweeper that waits for the end of a pipe removes the directory.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from common.errors import Code, FleetError, UsageError
from common.nodeset import fold_names

OWN_PROCESS: Final = 16
"""Replayed nodes up to which each has a process of its own; more share a few."""
_SHARED: Final = 8
_STARTS_WITHIN: Final = 60.0
_STOPS_WITHIN: Final = 5.0
_AGGREGATOR: Final = "aggregator"
_LONGEST_MESSAGE: Final = 400
_PR_SET_PDEATHSIG: Final = 1
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a private directory is made in it
_ROOM: Final = 512 << 20

_SWEEPER: Final = """\
import os, shutil, sys, time
sys.stdin.read()
for _ in range(100):
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    if not os.path.exists(sys.argv[1]):
        break
    time.sleep(0.1)  # one of the processes may have written while it died
"""


@dataclass(frozen=True, slots=True)
class LocalNode:
    """A node of the fleet: a directory that is replayed, or this machine (no root)."""

    name: str
    root: Path | None = None


class LocalFleet:
    """A fleet that runs."""

    def __init__(self, directory: Path, processes: "_Processes", api_port: int) -> None:
        self.directory = directory
        self.url = f"https://127.0.0.1:{api_port}"
        self.ca_file = directory / "ca.crt"
        self.token_file = directory / "user-token"
        self._processes = processes

    def check(self) -> None:
        """Raise FleetError when one of its processes has ended."""
        _refuse_ended(self._processes)

    def lost(self) -> list[str]:
        """Agents that have ended since this was asked last, a sentence each. Raises FleetError without aggregator."""
        ended = dict(self._processes.ended())
        if _AGGREGATOR in ended:
            raise _failure(_AGGREGATOR, ended[_AGGREGATOR])
        return [f"the {name} {how}" for name, how in ended.items()]


@contextmanager
def scratch() -> Iterator[Path]:
    """A private directory, in memory where there is room, that is gone afterwards. Raises UsageError, OSError."""
    if sys.platform != "linux":
        raise UsageError("a fleet on this machine needs Linux")
    roomy = os.access(_SHARED_MEMORY, os.W_OK) and shutil.disk_usage(_SHARED_MEMORY).free >= _ROOM
    directory = Path(tempfile.mkdtemp(prefix="eidos-fleet-", dir=_SHARED_MEMORY if roomy else None))
    sweeper = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _SWEEPER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us
    )
    try:
        yield directory
    finally:
        sweeper.communicate()


@contextmanager
def local_fleet(directory: Path, nodes: Sequence[LocalNode]) -> Iterator[LocalFleet]:
    """A fleet of these nodes, with its files in the directory. Raises FleetError when it does not start."""
    with ExitStack() as stack:
        processes = stack.enter_context(_Processes(directory / "logs"))
        home = directory / "fleet"
        names = fold_names(node.name for node in nodes)
        aggregator = processes.start(_AGGREGATOR, "aggregator", "--local", str(home), "--nodes", names)
        ports = _ports(aggregator, processes)
        links = ("--aggregator", f"https://127.0.0.1:{ports['link_port']}", "--ca-file", str(home / "ca.crt"))
        for node in nodes:
            if node.root is None:
                token = ("--token-file", str(home / "tokens" / node.name))
                processes.start(_agents([node]), "agent", *links, *token, "--node", node.name, "--health-port", "0")
        for mine in shares([node for node in nodes if node.root is not None]):
            roots = [f"{node.name}={node.root}" for node in mine]
            processes.start(_agents(mine), "agent.replay", *links, "--tokens", str(home / "tokens"), *roots)
        yield LocalFleet(home, processes, ports["api_port"])


def shares(replayed: Sequence[LocalNode]) -> list[Sequence[LocalNode]]:
    """Which replayed nodes are in one process: a process each, or where they are many a few processes."""
    processes = len(replayed) if len(replayed) <= OWN_PROCESS else _SHARED
    return [replayed[number::processes] for number in range(processes)]


def _agents(nodes: Sequence[LocalNode]) -> str:
    """What their process is called."""
    return f"agent{'s' if len(nodes) > 1 else ''} of {fold_names(node.name for node in nodes)}"


def _ports(aggregator: "subprocess.Popen[bytes]", processes: "_Processes") -> dict[str, int]:
    """What the aggregator says on its first line."""
    stream = aggregator.stdout
    assert stream is not None  # noqa: S101 - it was started with a pipe
    ready, _, _ = select.select([stream], [], [], _STARTS_WITHIN)
    line = stream.readline() if ready else b""
    if not line:
        with suppress(subprocess.TimeoutExpired):
            aggregator.wait(_STOPS_WITHIN if ready else 0.0)
        _refuse_ended(processes)
        raise FleetError(Code.DEADLINE, f"the aggregator did not start within {_STARTS_WITHIN:g} s")
    ports: dict[str, int] = json.loads(line)
    return ports


def _refuse_ended(processes: "_Processes") -> None:
    for name, how in processes.ended():
        raise _failure(name, how)


def _failure(name: str, how: str) -> FleetError:
    return FleetError(Code.FLEET_FAILED, f"the {name} {how}")


class _Processes:
    """Modules of Eidos run as processes of their own, none of which outlives this one."""

    def __init__(self, logs: Path) -> None:
        self.started: dict[tuple[str, Path], subprocess.Popen[bytes]] = {}
        """By name and log."""
        self._told: set[str] = set()
        self._logs = logs
        self._files: list[IO[bytes]] = []
        self._libc = ctypes.CDLL(None, use_errno=True)  # loaded here: after fork() only little is allowed
        self._parent = os.getpid()

    def __enter__(self) -> "_Processes":
        self._logs.mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.started.values():
            process.terminate()
        for process in self.started.values():
            try:
                process.wait(_STOPS_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        for file in self._files:
            file.close()

    def start(self, name: str, module: str, *arguments: str) -> "subprocess.Popen[bytes]":
        """`python -m module`; `name` is what it is called when it ends."""
        path = self._logs / f"{len(self.started)}.{module}.log"
        log = path.open("wb")
        self._files.append(log)
        process = subprocess.Popen(
            # -P: what lies in the current directory is not ours.
            [sys.executable, "-P", "-m", module, *arguments, "--log-level", "warning"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if module == "aggregator" else log,
            stderr=log,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for us: we end them in order
            preexec_fn=self._die_with_parent,  # noqa: PLW1509 - there are no other threads yet
        )
        self.started[name, path] = process
        return process

    def _die_with_parent(self) -> None:
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._parent:  # it ended before we asked
            os._exit(1)

    def ended(self) -> Iterator[tuple[str, str]]:
        """The name of each that has ended, and how in a few words. Each is told once."""
        from cli.text import visible

        for (name, log), process in self.started.items():
            if name not in self._told and (status := process.poll()) is not None:
                self._told.add(name)
                message = _last_message(log.read_text("utf-8", "replace"))
                yield name, _fate(status) + (f"; its log ends with: {visible(message)}" if message else "")


def _fate(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:  # real-time signals have no names
        return f"was killed by signal {-status}"


def _last_message(log: str) -> str:
    """What the last line says, without what is beside it; the line itself where it is no record."""
    line = log.strip().rpartition("\n")[2]
    with suppress(ValueError):
        record = json.loads(line)
        if isinstance(record, dict):
            said = (record.get("message"), record.get("detail"))
            line = ": ".join(text for text in said if isinstance(text, str))
    return line[:_LONGEST_MESSAGE]


def _environment() -> dict[str, str]:
    """Ours, but for what would tell an agent where to dial and which node it is."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("EIDOS_") and name not in ("NODE_NAME", "KUBERNETES_NODE_NAME")
    }
