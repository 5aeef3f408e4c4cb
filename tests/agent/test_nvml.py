"""The child process: what it answers, how it ends, and that nothing it does harms whoever asked."""

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.nvml import NvmlChild, decode_reading, frame_length
from agent.nvml_child import INFORMATION_LIMIT, read_information
from agent.nvml_reading import ANSWER_LIMIT, Gpu, Reading, Refusal
from common.model import FailureCode
from tests.nvml.node import children
from tests.nvml.standin import install, write_scenario

Make = Callable[..., NvmlChild]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes children for the stand-in; whatever they left behind is ended afterwards, by its process id."""
    made = []

    def child(name: str, changes: str = "", old: bool = False, **options: str) -> NvmlChild:
        library = install(tmp_path / "lib", name, changes, old)
        made.append(NvmlChild(str(library), str(tmp_path / "gpus"), [str(tmp_path / "lease")], **options))
        return made[-1]

    yield child
    for one in made:
        one.release()
    end_children(tmp_path)


def end_children(root: Path) -> None:
    for pid in children(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def soon() -> float:
    """A deadline that something on a busy machine keeps."""
    return time.monotonic() + 60


def wait_for_death(pid: int) -> None:
    """Returns when the process has ended, reaped or not."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll()
    os.close(descriptor)


def read(child: NvmlChild, volatile: bool = False) -> Reading:
    reading = child.request(volatile, soon())
    assert isinstance(reading, Reading)
    return reading


def refused(child: NvmlChild, deadline: float | None = None) -> Refusal:
    refusal = child.request(False, soon() if deadline is None else deadline)
    assert isinstance(refusal, Refusal)
    return refusal


def test_one_child_answers_again_and_again(make: Make) -> None:
    child = make("h100x8")
    first = read(child)
    pid = child.pid
    assert [gpu.values["name"] for gpu in first.gpus] == ["NVIDIA H100 80GB HBM3"] * 8
    assert read(child) == first
    assert child.pid == pid is not None


def test_live_readings_come_only_when_they_are_wanted(make: Make) -> None:
    child = make("h100x8")
    assert "temperature" not in read(child).gpus[0].values
    assert read(child, volatile=True).gpus[0].values["temperature"] == 31
    assert "memory-used" not in read(child).gpus[0].values


def test_a_child_that_is_let_go_ends_by_itself(make: Make) -> None:
    child = make("h100x8")
    read(child)
    pid = child.pid
    assert pid
    child.release()
    wait_for_death(pid)
    assert child.pid is None
    assert len(read(child).gpus) == 8


def test_what_the_library_prints_is_neither_seen_nor_taken_for_an_answer(
    make: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(read(make("noise")).gpus) == 8
    assert capfd.readouterr() == ("", "")


def test_an_old_driver_answers_what_it_can(make: Make) -> None:
    reading = read(make("old-driver", old=True), volatile=True)
    (gpu,) = reading.gpus
    assert reading.is_clean
    assert reading.values["driver"] == "470.256.02"
    assert gpu.values["memory-total"] == 15843721216
    assert gpu.values["temperature"] == 28
    assert gpu.values["clock-event-reasons"] == 1
    assert not gpu.values.keys() & {"gsp-version", "memory-reserved", "fabric", "addressing-mode"}


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ("nvmlInitWithFlags = !18", FailureCode.DRIVER_MISMATCH, "another version"),
        ("nvmlInitWithFlags = !4", FailureCode.PERMISSION_DENIED, "denies permission"),
        ("nvmlInitWithFlags = !9", FailureCode.DRIVER_NOT_LOADED, "not loaded"),
        ("nvmlInitWithFlags = !15", FailureCode.GPU_LOST, "fallen off the bus"),
        ("nvmlInitWithFlags = !999", FailureCode.DRIVER_ERROR, "unknown error (nvmlInitWithFlags)"),
        ("nvmlInitWithFlags = !77", FailureCode.DRIVER_ERROR, "error 77"),
        ("nvmlDeviceGetCount_v2 = !17", FailureCode.DRIVER_ERROR, "(nvmlDeviceGetCount_v2)"),
    ],
)
def test_a_driver_that_refuses_says_why(make: Make, changes: str, code: FailureCode, words: str) -> None:
    child = make("h100x8", changes)
    refusal = refused(child)
    assert refusal.code is code
    assert words in refusal.reason
    assert child.pid is None  # the next one initialises anew, and sees when the trouble is over
    write_scenario(Path(child.library), "h100x8")
    assert len(read(child).gpus) == 8


def test_a_library_that_cannot_be_loaded_is_named(make: Make, tmp_path: Path) -> None:
    child = make("h100x8")
    Path(child.library).write_bytes(b"\x7fELF, but no more")
    refusal = refused(child)
    assert refusal.code is FailureCode.LIBRARY_MISSING
    assert child.library in refusal.reason


def test_a_gpu_that_is_lost_midway_is_asked_no_more(make: Make) -> None:
    child = make("gpu-lost-midway")
    reading = read(child)
    assert reading.gpus[3].errors == {"nvmlDeviceGetVbiosVersion": 15}
    assert "name" in reading.gpus[3].values
    assert "ecc-mode" not in reading.gpus[3].values
    assert "ecc-mode" in reading.gpus[4].values
    assert child.pid is None


def test_text_that_is_none_is_an_error_of_that_call(make: Make) -> None:
    child = make("h100x8")
    scenario = Path(f"{child.library}.scenario")
    scenario.write_bytes(scenario.read_bytes() + b"[2]\nserial = \xff\xfe\n")
    reading = read(child)
    assert reading.gpus[2].errors == {"nvmlDeviceGetSerial": -1}
    assert reading.gpus[2].values["ecc-mode"] == [1, 1]


def test_a_crash_of_the_library_is_told(make: Make, tmp_path: Path) -> None:
    child = make("crash")
    refusal = refused(child)
    assert refusal.code is FailureCode.DRIVER_ERROR
    assert "SIGSEGV (nvmlDeviceGetVbiosVersion of GPU 2)" in refusal.reason
    assert child.pid is None
    write_scenario(Path(child.library), "h100x8")
    assert len(read(child).gpus) == 8


def test_a_kept_child_that_ended_while_idle_is_replaced(make: Make) -> None:
    child = make("h100x8")
    read(child)
    first = child.pid
    assert first
    os.kill(first, signal.SIGKILL)
    wait_for_death(first)
    assert len(read(child).gpus) == 8
    assert child.pid not in (first, None)


def test_without_a_place_for_the_lease_it_works_all_the_same(tmp_path: Path) -> None:
    library = install(tmp_path / "lib", "h100x8")
    child = NvmlChild(str(library), str(tmp_path), [])
    try:
        assert len(read(child).gpus) == 8
    finally:
        child.release()


def test_a_hang_without_a_lease_is_still_not_joined_by_a_second_child(tmp_path: Path) -> None:
    started = tmp_path / "started"
    script = tmp_path / "script.py"
    script.write_text(f"import pathlib, signal; pathlib.Path({str(started)!r}).touch(); signal.pause()")
    child = NvmlChild("library", str(tmp_path), [], str(script))
    try:
        refusal = refused(child, time.monotonic() + 0.2)
        assert refusal.code is FailureCode.DRIVER_UNRESPONSIVE
        first = child.pid
        assert first
        assert refused(child) == refusal
        assert child.pid == first
        os.kill(first, signal.SIGKILL)
        wait_for_death(first)
    finally:
        child.release()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("sys.exit(3)", "ended with status 3"),
        ("os.write(1, b'\\xff\\xff\\xff\\xff' + b'x' * 60000)", "something unreadable"),
        ("os.write(1, b'\\0\\0\\0\\5hello')", "something unreadable"),
        ("os.write(1, b'\\0\\0\\0\\7{\"gpus\"')", "something unreadable"),
        ("os.write(1, b'\\0\\0\\0\\x0f{\"gpus\": [{}]}x')", "something unreadable"),
        ("os.write(1, b'\\0\\0\\1\\0{')", "ended with status 0"),
        ("os.write(1, b'\\0')", "ended with status 0"),
        ("os.close(1); os.read(0, 1); signal.pause()", "closed its output"),
    ],
)
def test_a_child_that_talks_nonsense_is_a_failed_driver(tmp_path: Path, body: str, words: str) -> None:
    script = tmp_path / "script.py"
    pid = tmp_path / "pid"
    script.write_text(f"import os, signal, sys\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\n{body}\n")
    child = NvmlChild("library", str(tmp_path), [], str(script))
    refusal = refused(child)
    assert refusal.code is FailureCode.DRIVER_ERROR
    assert words in refusal.reason
    if child.pid:
        assert refused(child).code is FailureCode.DRIVER_UNRESPONSIVE  # not joined by a second one
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_a_missing_binding_is_told(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.nvml.binding_directory", lambda: None)
    refusal = refused(make("h100x8"))
    assert refusal.code is FailureCode.LIBRARY_MISSING
    assert "nvidia-ml-py" in refusal.reason


def test_an_interpreter_that_cannot_be_started_is_told(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    child = make("h100x8")
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert refused(child).code is FailureCode.INTERNAL
    monkeypatch.undo()
    assert len(read(child).gpus) == 8


def test_information_is_read_within_bounds(tmp_path: Path) -> None:
    for name, content in (("0000:1b:00.0", b"Model: \xff"), ("0000:43:00.0", b"x" * 10 * INFORMATION_LIMIT)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "information").write_bytes(content)
    (tmp_path / "0000:52:00.0").mkdir()
    found = read_information(str(tmp_path))
    assert found == {"0000:1b:00.0": "Model: \ufffd", "0000:43:00.0": "x" * INFORMATION_LIMIT}
    assert read_information(str(tmp_path / "missing")) == {}


@given(st.binary(max_size=300))
@example(b"null")
@example(b'{"gpus": 1}')
@example(b'{"gpus": [{"index": 1e400}]}')
@example(b"[" * 300)
@example(b'{"values": {"a": {"b": 1}}}')
@example(b"\xff")
def test_any_frame_is_a_reading_or_refused(frame: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(decode_reading(frame), Reading)


@given(st.binary(max_size=8))
@example((ANSWER_LIMIT + 1).to_bytes(4, "big"))
@example(ANSWER_LIMIT.to_bytes(4, "big"))
def test_any_header_is_a_length_within_the_limit_or_refused(header: bytes) -> None:
    try:
        assert 0 <= frame_length(header) <= ANSWER_LIMIT
    except ValueError:
        assert len(header) != 4 or int.from_bytes(header, "big") > ANSWER_LIMIT


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9) | st.integers(-(1 << 63), (1 << 64) - 1), max_size=9))
def test_what_a_child_says_arrives(values: dict[str, str | int]) -> None:
    frame = json.dumps({"values": values, "gpus": [{"index": 0, "values": values}]}).encode()
    assert decode_reading(frame) == Reading(values=dict(values), gpus=[Gpu(0, dict(values))])
