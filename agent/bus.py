"""One conversation with a host's systemd over D-Bus: the units asked for, as they are, told line by line on stdout.

The only module that imports pystemd. It runs as a process of its own, started by agent/bus_process.py, because
pystemd keeps the interpreter's lock during a call: with a bus that never answers, sd-bus waits 90 s for the
handshake, and no other thread of the process runs meanwhile (docs/decisions/003-systemd-properties.md). So only the
standard library is imported here.

Source: org.freedesktop.systemd1(5). One JSON array a line, told as soon as it is known:

    ["types", KIND, {PROPERTY: D-Bus signature}]      once per kind of unit (service, timer, …)
    ["unit", NAME, KIND, {PROPERTY: value}]
    ["not-installed", NAME]
    ["not-matched", PATTERN]                          nothing loaded or installed has such a name
    ["unread", NAME, ERRNO]
    ["unreachable", [ERRNO, …]]                       no socket could be spoken through: why, for each
    ["too-many", LIMIT]                               the patterns match more units than that
    ["no-library", TEXT]                              pystemd is missing or does not load
    ["broken", TEXT]                                  a defect here
    ["end"]                                           always last, unless the time is up
"""

import errno
import importlib.util
import json
import os
import re
import resource
import signal
import sys
from fnmatch import fnmatchcase
from typing import Any, Final

MOST_UNITS: Final = 500
_MOST_MEMORY: Final = 1 << 29  # bytes of address space; a message may claim 128 MiB, and is copied once
_DESTINATION: Final = b"org.freedesktop.systemd1"
_MANAGER_PATH: Final = b"/org/freedesktop/systemd1"
_UNIT_PATH: Final = b"/org/freedesktop/systemd1/unit"
_MANAGER: Final = b"org.freedesktop.systemd1.Manager"
_PROPERTIES: Final = b"org.freedesktop.DBus.Properties"
_INTROSPECTABLE: Final = b"org.freedesktop.DBus.Introspectable"
_PEER: Final = b"org.freedesktop.DBus.Peer"
_DECLARATION: Final = re.compile(r'<property name="(\w+)" type="([^"]{1,255})"')


def converse(sockets: list[tuple[str, bool]], units: list[str], seconds: float) -> None:
    """Tell what systemd knows of `units`, names or shell patterns, then end; killed by SIGALRM after `seconds`.

    `sockets` are tried in turn: path, and whether systemd itself listens there rather than a message bus.
    """
    try:
        _limit(seconds)
        bus = _open(sockets)
        if bus is not None:
            _tell_units(bus, units)
    except ImportError as error:
        _tell("no-library", str(error))
    except Exception as error:  # nobody sees this process's stderr: its caller is told instead
        _tell("broken", f"{type(error).__name__}: {error}")
    _tell("end")


def _limit(seconds: float) -> None:
    """An alarm left to its default action ends the process whatever C code it is in, and whether it has a parent."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, seconds)
    _, hardest = resource.getrlimit(resource.RLIMIT_AS)
    memory = _MOST_MEMORY if hardest == resource.RLIM_INFINITY else min(_MOST_MEMORY, hardest)
    resource.setrlimit(resource.RLIMIT_AS, (memory, hardest))


def _tell(*line: object) -> None:
    sys.stdout.buffer.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    sys.stdout.buffer.flush()


def _dbuslib() -> Any:
    """pystemd's D-Bus module. Its package imports lxml for conveniences unused here: 30 ms and 4 MB, so skipped."""
    if "pystemd" not in sys.modules:
        spec = importlib.util.find_spec("pystemd")
        if spec is None:
            raise ImportError("pystemd is not installed")
        sys.modules["pystemd"] = importlib.util.module_from_spec(spec)
    import pystemd.dbuslib

    return pystemd.dbuslib


class _BusError(Exception):
    """A call failed; `number` is the errno sd-bus made of the reason."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class _Bus:
    """A connection on which systemd has answered once."""

    def __init__(self, path: str, is_peer: bool) -> None:
        self._lib = _dbuslib()
        from pystemd.dbusexc import DBusBaseError

        self._error: type[Exception] = DBusBaseError
        # A D-Bus address has escapes of its own and a socket's path at most 107 bytes: a bare name avoids both.
        directory, name = os.path.split(path)
        try:
            os.chdir(directory)
        except OSError as error:
            raise _BusError(error.errno or errno.EIO) from error
        self._bus = self._lib.DBusAddress(f"unix:path={name}".encode(), is_peer)
        try:
            self._bus.open()
        except self._error as error:
            raise _BusError(_number(error)) from error
        self._call(_MANAGER_PATH, _PEER, b"Ping", b"", [])  # opening does not wait for the handshake

    def _call(self, path: bytes, interface: bytes, method: bytes, signature: bytes, arguments: list[Any]) -> Any:
        try:
            prepared = self._lib.apply_signature(signature, arguments) if signature else []
            return self._bus.call_method(_DESTINATION, path, interface, method, prepared).body
        except self._error as error:
            raise _BusError(_number(error)) from error

    def _unit(self, name: str) -> bytes:
        return bytes(self._lib.path_encode(_UNIT_PATH, name.encode()))

    def loaded(self, patterns: list[str]) -> list[str]:
        """Names of the units systemd has loaded; those it knows only because others name them are left out."""
        arguments = [[], [pattern.encode() for pattern in patterns]]
        rows = self._call(_MANAGER_PATH, _MANAGER, b"ListUnitsByPatterns", b"asas", arguments)
        return [row[0].decode() for row in rows if row[2] != b"not-found"]

    def installed(self, patterns: list[str]) -> list[str]:
        """Names of the unit files there are, without templates and without second names of others."""
        arguments = [[], [pattern.encode() for pattern in patterns]]
        rows = self._call(_MANAGER_PATH, _MANAGER, b"ListUnitFilesByPatterns", b"asas", arguments)
        names = [os.path.basename(row[0].decode()) for row in rows if row[1] != b"alias"]
        return [name for name in names if "@." not in name]

    def properties(self, name: str) -> dict[str, Any]:
        """Every property of the unit's interfaces; an empty interface name means all of them."""
        answer = self._call(self._unit(name), _PROPERTIES, b"GetAll", b"s", [b""])
        return dict(_plain(answer)) if isinstance(answer, dict) else {}

    def types(self, name: str) -> dict[str, str]:
        """The D-Bus signature of each property, which pystemd's values no longer show."""
        answer = self._call(self._unit(name), _INTROSPECTABLE, b"Introspect", b"", [])
        return dict(_DECLARATION.findall(_plain(answer)))


def _number(error: Any) -> int:
    return abs(int(error.errno)) or errno.EIO


def _plain(value: Any) -> Any:
    """The value as JSON has it: text instead of bytes, no number JSON cannot write."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def _open(sockets: list[tuple[str, bool]]) -> _Bus | None:
    troubles: list[int] = []
    for path, is_peer in sockets:
        try:
            return _Bus(path, is_peer)
        except _BusError as error:
            troubles.append(error.number)
    _tell("unreachable", troubles)
    return None


def _tell_units(bus: _Bus, units: list[str]) -> None:
    patterns = [unit for unit in units if is_pattern(unit)]
    names = {unit for unit in units if not is_pattern(unit)}
    if patterns:
        names |= _matching(bus, patterns)
    if len(names) > MOST_UNITS:
        _tell("too-many", MOST_UNITS)
        return
    typed: set[str] = set()
    for name in sorted(names):
        try:
            _tell_unit(bus, name, typed)
        except _BusError as error:
            _tell("unread", name, error.number)


def _matching(bus: _Bus, patterns: list[str]) -> set[str]:
    try:
        matched = {*bus.loaded(patterns), *bus.installed(patterns)}
    except _BusError as error:
        for pattern in patterns:
            _tell("unread", pattern, error.number)
        return set()
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in matched):
            _tell("not-matched", pattern)
    return matched


def _tell_unit(bus: _Bus, name: str, typed: set[str]) -> None:
    properties = bus.properties(name)
    if properties.get("LoadState") == "not-found":
        _tell("not-installed", name)
        return
    kind = name.rpartition(".")[2]
    if kind not in typed:
        _tell("types", kind, bus.types(name))
        typed.add(kind)
    _tell("unit", name, kind, properties)


def is_pattern(unit: str) -> bool:
    """Whether a unit's name is a shell pattern, as systemctl sees it."""
    return any(sign in unit for sign in "*?[")
