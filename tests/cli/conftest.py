"""A local fleet, started once: real processes, TLS and tokens, as `eidos fleet demo --keep` leaves it running."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import pytest

EIDOS: Final = str(Path(sys.executable).with_name("eidos"))
READY: Final = "Ctrl-C ends it."
_WITHIN: Final = 60.0


@dataclass(frozen=True)
class Demo:
    """`eidos fleet demo --keep` as a process, and what it printed until it was ready."""

    process: "subprocess.Popen[str]"
    output: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables it says to set."""
        lines = (line.split() for line in self.output.splitlines())
        return dict(words[1].split("=", 1) for words in lines if words[:1] == ["export"])

    @property
    def directory(self) -> Path:
        """Where all its files are."""
        return Path(self.environment["EIDOS_CA_FILE"]).parents[1]

    def children(self) -> dict[int, str]:
        """Its processes by id, with their command lines."""
        ids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(one): Path(f"/proc/{one}/cmdline").read_text().replace("\0", " ") for one in ids}

    def child(self, part: str) -> int:
        """The one process whose command line has this part."""
        (found,) = (one for one, line in self.children().items() if part in line)
        return found


def start_demo(*arguments: str, until: str = READY, environment: Mapping[str, str] | None = None) -> Demo:
    """Start it, and wait until it says that it is ready, or ends."""
    process = subprocess.Popen(
        [EIDOS, "fleet", "demo", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
    )
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if until in line:
            break
    return Demo(process, "".join(lines))


def end(demo: Demo, number: signal.Signals) -> int:
    """Send the signal; its status when it, and every process it had, has ended. Fails when one stays."""
    handles = [os.pidfd_open(one) for one in demo.children()]
    try:
        demo.process.send_signal(number)
        status = demo.process.wait(_WITHIN)
        for handle in handles:
            assert select.select([handle], [], [], _WITHIN)[0], "a process stayed"
    finally:
        demo.process.kill()  # one that heard no signal must not stay
        demo.process.wait()
        for handle in handles:
            os.close(handle)
        _close(demo.process.stdout)
    return status


def _close(stream: "IO[str] | None") -> None:
    if stream is not None:
        stream.close()


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """The fleet, of this machine and two kinds of three nodes."""
    running = start_demo("--nodes", "7", "--keep")
    yield running
    directory = running.directory
    assert end(running, signal.SIGINT) == 0
    assert not directory.exists()


@pytest.fixture
def fleet(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> Demo:
    """The fleet as the one the command asks unless told otherwise."""
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")  # whoever runs the tests may have a cluster
    for name, value in demo.environment.items():
        monkeypatch.setenv(name, value)
    return demo
