"""Whatever the bus does, the caller has an outcome in time, and no process is left."""

import ctypes
import importlib.machinery
import importlib.util
import json
import os
import queue
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.bus import MOST_UNITS
from agent.bus_process import NO_PYSTEMD, Reading, Socket, UnitProperties, parse, read_units
from common.model import Absent, Failed, FailureCode
from tests.agent import fake_pystemd
from tests.conftest import cannot_run_here

SOCKETS = [Socket("/run/systemd/private", "/a", True), Socket("/run/dbus/system_bus_socket", "/b", False)]
LONG = 60.0
SHORT = 3.0  # enough for the process to start on a busy machine

# What a D-Bus server says until both sides are content (specification, "Authentication Protocol").
AUTHENTICATED = b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\nAGREE_UNIX_FD\r\n"

Converse = Callable[[socket.socket], None]


@pytest.fixture(autouse=True)
def _pystemd_is_there(request: pytest.FixtureRequest) -> None:
    if "fake" not in request.fixturenames and importlib.util.find_spec("pystemd") is None:
        cannot_run_here(NO_PYSTEMD)


def peer(path: Path) -> Socket:
    return Socket("/run/systemd/private", str(path), True)


class Bus:
    """A socket on which a test plays systemd: each connection is given to `converse` in a thread."""

    def __init__(self, path: Path, converse: Converse) -> None:
        self.path = path
        self.ended: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._converse = converse
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            try:
                self._converse(connection)
                while connection.recv(65536):
                    pass
            except ConnectionError:
                pass
        self.ended.put(b"")

    def close(self) -> None:
        self._thread.join(timeout=LONG)
        self._listener.close()


@pytest.mark.parametrize(
    "said", [b"", b"OK", AUTHENTICATED], ids=["silent", "in the handshake", "after the handshake"]
)
def test_a_hung_bus_costs_the_deadline_and_nothing_else(tmp_path: Path, said: bytes) -> None:
    # The bus is played by a thread of this process: it would not run, did the waiting hold up other threads.
    bus = Bus(tmp_path / "bus", lambda connection: connection.sendall(said))
    reading = read_units([peer(bus.path)], ["a.service"], SHORT)
    assert reading == Reading(ending=Failed(FailureCode.TIMEOUT, "systemd did not answer in time"))
    assert bus.ended.get(timeout=LONG) == b""  # its end of the connection is closed: the process is gone
    bus.close()


def test_a_bus_that_never_accepts_is_hung_too(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "bus"))
        listener.listen(1)
        reading = read_units([peer(tmp_path / "bus")], ["a.service"], SHORT)
    assert reading.ending == Failed(FailureCode.TIMEOUT, "systemd did not answer in time")


NONSENSE = {
    "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "rejection": b"DATA\r\nREJECTED EXTERNAL\r\n",
    "zeros": bytes(4096),
    "bytes": bytes(range(256)) * 300,
    "endless line": b"OK " + b"a" * 1_000_000,
    "a message too long": AUTHENTICATED + struct.pack("<BBBBIII", ord("l"), 2, 0, 1, 0xFFFFFFFF, 1, 0xFFFFFFFF),
    "a message of nothing": AUTHENTICATED + bytes(64),
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_bus_that_talks_nonsense_is_unreachable(tmp_path: Path, nonsense: bytes) -> None:
    def converse(connection: socket.socket) -> None:
        connection.sendall(nonsense)
        connection.shutdown(socket.SHUT_WR)

    bus = Bus(tmp_path / "bus", converse)
    ending = read_units([peer(bus.path)], ["a.service"], LONG).ending
    assert isinstance(ending, Failed)
    assert ending.code in (FailureCode.BUS_UNREACHABLE, FailureCode.PERMISSION_DENIED)
    assert ending.reason.startswith("systemd cannot be reached: /run/systemd/private: ")
    bus.close()


def test_no_socket_a_closed_one_and_a_file_are_unreachable(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "closed"))
    (tmp_path / "file").touch()
    names = ["none", "missing/none", "closed", "file"]
    reading = read_units([Socket(f"/{name}", str(tmp_path / name), True) for name in names], ["a.service"], LONG)
    assert reading.ending == Failed(
        FailureCode.BUS_UNREACHABLE,
        "systemd cannot be reached: /none: No such file or directory; /missing/none: No such file or directory; "
        "/closed: Connection refused; /file: Connection refused",
    )


def test_a_socket_that_may_not_be_opened_is_permission_denied(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "bus"))
        listener.listen()
        os.chmod(tmp_path / "bus", 0)
        if os.geteuid() == 0:
            os.chown(tmp_path / "bus", 65534, 65534)
        reading = without_root_powers(lambda: read_units([peer(tmp_path / "bus")], ["a.service"], LONG))
    assert reading.ending == Failed(
        FailureCode.PERMISSION_DENIED, "systemd cannot be reached: /run/systemd/private: Permission denied"
    )


def without_root_powers(call: Callable[[], Reading]) -> Reading:
    """Call in a thread whose child processes cannot pass over file permissions, even as root (capabilities(7))."""
    readings: queue.SimpleQueue[Reading] = queue.SimpleQueue()

    def run() -> None:
        if os.geteuid() == 0:
            libc = ctypes.CDLL(None)
            for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
                assert libc.prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP, of this thread alone
        readings.put(call())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return readings.get_nowait()


def test_without_pystemd_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    reading = read_units(SOCKETS, ["a.service"], LONG)
    assert reading == Reading(ending=Absent(NO_PYSTEMD))
    assert "libsystemd-dev" in NO_PYSTEMD


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Reading]:
    """Ask a stand-in for pystemd for some units."""

    def ask(behaviour: str, *units: str, seconds: float = LONG) -> Reading:
        fake_pystemd.install(tmp_path, behaviour)
        spec = importlib.machinery.PathFinder.find_spec("pystemd", [str(tmp_path)])
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
        return read_units([peer(tmp_path / "bus")], units or ["a.service"], seconds)

    return ask


def test_pystemd_that_does_not_load_is_absent_with_the_reason(fake: Callable[..., Reading]) -> None:
    reading = fake("raise ImportError('libsystemd.so.0: cannot open shared object file')")
    assert reading.ending == Absent("pystemd does not load: libsystemd.so.0: cannot open shared object file")


def test_names_patterns_and_errors_each_have_their_outcome(fake: Callable[..., Reading]) -> None:
    reading = fake(
        """
def answer(method, name, arguments):
    if method == b"ListUnitsByPatterns":
        return [(b"x-1.service", b"", b"loaded"), (b"x-gone.service", b"", b"not-found")]
    if method == b"ListUnitFilesByPatterns":
        states = {b"x-2": b"disabled", b"x-t@": b"static", b"x-a": b"alias"}
        return [(b"/lib/" + file + b".service", state) for file, state in states.items()]
    if name == b"refused.service":
        raise DBusBaseError(-13)
    state = b"not-found" if name == b"gone.service" else b"loaded"
    return {b"LoadState": state, b"MainPID": 7, b"Float": float("nan"), b"Nested": [(b"\\xff", {b"k": b"v"})]}
""",
        "x-*", "y-*", "a.service", "gone.service", "refused.service",
    )  # fmt: skip
    properties = {"LoadState": "loaded", "MainPID": 7, "Float": "nan", "Nested": [["\ufffd", {"k": "v"}]]}
    assert reading.ending is None
    assert reading.units == dict.fromkeys(
        ["a.service", "x-1.service", "x-2.service"], UnitProperties("service", properties)
    )
    assert reading.others == {
        "gone.service": Absent("the unit is not installed"),
        "y-*": Absent("no unit has such a name"),
        "refused.service": Failed(FailureCode.PERMISSION_DENIED, "systemd did not show the unit: Permission denied"),
    }
    assert reading.signatures == {"service": {"LoadState": "s", "MainPID": "u"}}


def test_patterns_that_cannot_be_expanded_do_not_cost_the_named_units(fake: Callable[..., Reading]) -> None:
    reading = fake(
        """
def answer(method, name, arguments):
    if method.startswith(b"List"):
        raise DBusBaseError(-110)
    return {b"LoadState": b"loaded"}
""",
        "x-*", "a.service",
    )  # fmt: skip
    assert list(reading.units) == ["a.service"]
    assert reading.others == {
        "x-*": Failed(FailureCode.TIMEOUT, "systemd did not show the unit: Connection timed out")
    }


def test_what_was_read_before_the_bus_hung_is_kept(fake: Callable[..., Reading]) -> None:
    reading = fake(
        """
def answer(method, name, arguments):
    if name == b"b.service":
        import signal
        signal.pause()
    return {b"LoadState": b"loaded"}
""",
        "a.service", "b.service", seconds=2 * SHORT,
    )  # fmt: skip
    assert list(reading.units) == ["a.service"]
    assert reading.ending == Failed(FailureCode.TIMEOUT, "systemd did not answer in time")


@pytest.mark.parametrize(
    ("behaviour", "code", "reason"),
    [
        ("def answer(*_): os._exit(1)", FailureCode.INTERNAL, "ended before it was done"),
        ("def answer(*_): os.abort()", FailureCode.INTERNAL, "ended before it was done"),
        ("def answer(*_): raise KeyError('x')", FailureCode.INTERNAL, "broke: KeyError: 'x'"),
        ("def answer(*_): os.write(1, b'no JSON\\n')", FailureCode.INTERNAL, "told nonsense"),
        ("def answer(*_): return {b'LoadState': b'x' * 40_000_000}", FailureCode.TOO_LARGE, "longer than 16 MiB"),
        ("def answer(*_): return {b'LoadState': bytes(1 << 30)}", FailureCode.INTERNAL, "broke: MemoryError: "),
    ],
)
def test_a_process_that_goes_wrong_is_a_failure(
    fake: Callable[..., Reading], behaviour: str, code: FailureCode, reason: str
) -> None:
    ending = fake(behaviour).ending
    assert isinstance(ending, Failed)
    assert (ending.code, reason in ending.reason) == (code, True), ending


def test_a_pattern_that_matches_too_many_units_is_refused(fake: Callable[..., Reading]) -> None:
    rows = f"[(b'x-%d.service' % number, b'', b'loaded') for number in range({MOST_UNITS + 1})]"
    reading = fake(f"def answer(method, *_): return {rows} if method.startswith(b'ListUnitsBy') else []", "x-*")
    assert reading.ending == Failed(FailureCode.TOO_LARGE, f"more than {MOST_UNITS} units match: ask for fewer")


def test_a_process_that_cannot_be_started_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert read_units(SOCKETS, ["a.service"], LONG).ending == Failed(
        FailureCode.INTERNAL, "the process that speaks to systemd could not be started: No such file or directory"
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["unreachable", [2, 2]], FailureCode.BUS_UNREACHABLE),
        (["unreachable", [13, 2]], FailureCode.PERMISSION_DENIED),
        (["unreachable", [107, 111]], FailureCode.BUS_UNREACHABLE),
        (["unreachable", [2, 110]], FailureCode.TIMEOUT),
    ],
)
def test_why_no_socket_could_be_used_decides_the_code(line: list[object], expected: FailureCode) -> None:
    ending = parse(json.dumps(line).encode() + b'\n["end"]\n', SOCKETS).ending
    assert isinstance(ending, Failed)
    assert ending.code is expected


tags = st.sampled_from(["types", "unit", "not-installed", "unread", "unreachable", "too-many", "broken", "end", "?"])
parts: st.SearchStrategy[object] = st.one_of(
    st.none(), st.integers(0, 200), st.text(max_size=5), st.just({}), st.lists(st.integers(0, 200), max_size=3)
)
told = st.tuples(tags, parts, parts, parts).map(lambda line: json.dumps(line).encode())


@given(st.lists(st.binary(max_size=40) | told))
def test_any_answer_is_taken(answer: list[bytes]) -> None:
    parse(b"\n".join(answer) + b"\n", SOCKETS)


@given(st.integers(0, 60))
def test_a_line_cut_off_is_dropped(length: int) -> None:
    text = b'["unit","a.service","service",{"LoadState":"loaded"}]\n'
    reading = parse(text[:length], SOCKETS)
    assert reading.ending is None
    assert set(reading.units) == ({"a.service"} if length >= len(text) else set())
