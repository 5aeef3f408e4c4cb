"""Starts agent/bus.py as a process of its own, gives it a deadline, and turns what it tells into outcomes.

The process ends itself when its time is up; it is also killed from here, which a process that only polls a socket
always obeys. What it told until then is kept.
"""

import errno
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from common.model import Absent, Failed, FailureCode

NO_PYSTEMD: Final = (
    "pystemd is not installed: install the headers of libsystemd (libsystemd-dev or systemd-devel) and a C compiler, "
    "then run: pip install 'eidos[systemd]'"
)
MOST_BYTES: Final = 16 << 20
"""Most that is read of the process's answer; 500 units with 400 properties each are about 7 MiB."""

_GRACE: Final = 0.2  # seconds between the process's own alarm and its being killed
_NOT_IN_TIME: Final = Failed(FailureCode.TIMEOUT, "systemd did not answer in time")
_CODES: Final = {
    errno.EACCES: FailureCode.PERMISSION_DENIED,
    errno.EPERM: FailureCode.PERMISSION_DENIED,
    errno.ETIMEDOUT: FailureCode.TIMEOUT,
}
_START: Final = (
    "import json, sys; request = json.loads(sys.argv[1]); sys.path += request.pop('path'); "
    "from agent.bus import converse; converse(**request)"
)


@dataclass(frozen=True, slots=True)
class Socket:
    """Where systemd can be spoken to: the path as the host calls it and as it is for us.

    `is_peer` is true where systemd itself listens, false for a message bus.
    """

    name: str
    path: str
    is_peer: bool


@dataclass(frozen=True, slots=True)
class UnitProperties:
    """One unit as systemd shows it: its kind (`service`, `timer`, …) and its D-Bus properties, JSON-like."""

    kind: str
    properties: dict[str, Any]


@dataclass(slots=True)
class Reading:
    """What became of a conversation. A unit or pattern asked for is in exactly one of the first two, unless `ending`
    says why the conversation never got to it."""

    units: dict[str, UnitProperties] = field(default_factory=dict)
    others: dict[str, Absent | Failed] = field(default_factory=dict)
    signatures: dict[str, dict[str, str]] = field(default_factory=dict)
    """D-Bus signature of each property, by kind of unit."""
    ending: Absent | Failed | None = None
    """Why it ended before everything was read; None when it did not."""


def read_units(sockets: Sequence[Socket], units: Sequence[str], seconds: float) -> Reading:
    """Ask systemd for units (names or shell patterns) through the first socket that answers, in `seconds` at most."""
    pystemd = importlib.util.find_spec("pystemd")
    if pystemd is None:
        return Reading(ending=Absent(NO_PYSTEMD))
    places = [os.path.dirname(os.path.dirname(file)) for file in (pystemd.origin, __file__) if file]
    request = {
        "path": places,
        "sockets": [(socket.path, socket.is_peer) for socket in sockets],
        "units": list(units),
        "seconds": seconds,
    }
    # -S: no site packages are set up; the two folders that are needed are named instead, which starts faster.
    argv = [sys.executable, "-I", "-S", "-c", _START, json.dumps(request)]
    try:
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            text, ending = _read(process, time.monotonic() + seconds + _GRACE)
    except OSError as error:
        reason = f"the process that speaks to systemd could not be started: {error.strerror}"
        return Reading(ending=Failed(FailureCode.INTERNAL, reason))
    reading = parse(text, sockets)
    if ending is None and reading.ending is None and not text.endswith(b'["end"]\n'):
        alarmed = process.returncode == -signal.SIGALRM
        broke_off = Failed(FailureCode.INTERNAL, "the process that speaks to systemd ended before it was done")
        ending = _NOT_IN_TIME if alarmed else broke_off
    reading.ending = reading.ending or ending
    return reading


def _read(process: "subprocess.Popen[bytes]", until: float) -> tuple[bytes, Failed | None]:
    """All it writes until it ends; it is killed when it is late or writes too much."""
    assert process.stdout is not None  # noqa: S101 - for mypy: it was started with a pipe
    descriptor = process.stdout.fileno()
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    chunks: list[bytes] = []
    size = 0
    while ready.poll(max(0.0, until - time.monotonic()) * 1000):
        chunk = os.read(descriptor, 1 << 18)
        if not chunk:
            return b"".join(chunks), None
        chunks.append(chunk)
        size += len(chunk)
        if size > MOST_BYTES:
            process.kill()
            reason = f"systemd's answer is longer than {MOST_BYTES >> 20} MiB: ask for fewer units"
            return b"".join(chunks), Failed(FailureCode.TOO_LARGE, reason)
    process.kill()
    return b"".join(chunks), _NOT_IN_TIME


def parse(text: bytes, sockets: Sequence[Socket]) -> Reading:
    """What agent/bus.py told; a line cut off at the end is dropped, a line of another form is a failure."""
    reading = Reading()
    for line in _lines(text):
        match line:
            case ["types", str(kind), dict(signatures)]:
                reading.signatures[kind] = signatures
            case ["unit", str(name), str(kind), dict(properties)]:
                reading.units[name] = UnitProperties(kind, properties)
            case ["not-installed", str(name)]:
                reading.others[name] = Absent("the unit is not installed")
            case ["not-matched", str(pattern)]:
                reading.others[pattern] = Absent("no unit has such a name")
            case ["unread", str(name), int(number)]:
                reading.others[name] = failure(number, "systemd did not show the unit")
            case ["unreachable", list(troubles)]:
                reading.ending = _unreachable(troubles, sockets)
            case ["too-many", int(most)]:
                reading.ending = Failed(FailureCode.TOO_LARGE, f"more than {most} units match: ask for fewer")
            case ["no-library", str(error)]:
                reading.ending = Absent(f"pystemd does not load: {error}")
            case ["broken", str(error)]:
                reading.ending = Failed(FailureCode.INTERNAL, f"the process that speaks to systemd broke: {error}")
            case ["end"]:
                pass
            case _:
                reading.ending = Failed(FailureCode.INTERNAL, "the process that speaks to systemd told nonsense")
    return reading


def _lines(text: bytes) -> Iterator[Any]:
    for line in text.split(b"\n")[:-1]:
        try:
            yield msgspec.json.decode(line)
        except msgspec.DecodeError:
            yield None


def failure(number: int, what: str) -> Failed:
    """What an errno of sd-bus means."""
    return Failed(_CODES.get(number, FailureCode.BUS_UNREACHABLE), f"{what}: {os.strerror(number)}")


def _unreachable(troubles: list[Any], sockets: Sequence[Socket]) -> Failed:
    """No socket could be used: told for all of them, by the paths as the host calls them."""
    numbers = [number for number in troubles if isinstance(number, int)]
    told = "; ".join(
        f"{socket.name}: {os.strerror(number)}" for socket, number in zip(sockets, numbers, strict=False)
    )
    code = next((_CODES[number] for number in numbers if number in _CODES), FailureCode.BUS_UNREACHABLE)
    return Failed(code, f"systemd cannot be reached: {told}")
