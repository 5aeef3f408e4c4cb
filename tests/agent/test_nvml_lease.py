"""The lease: one process asks the driver at a time, and all know when it hangs."""

import fcntl
import json
import math
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.host import Host
from agent.nvml_lease import FILE_NAME, Holder, Lease, Record, open_lease, parse_record
from agent.nvml_source import lease_directories

LATER = time.monotonic() + 3600


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    return [str(tmp_path / "eidos")]


def opened(places: list[str]) -> Lease:
    lease = open_lease(places)
    assert lease is not None
    return lease


def test_it_is_free_again_once_the_holder_lets_go(places: list[str]) -> None:
    first, second = opened(places), opened(places)
    assert first.acquire(LATER)
    assert not second.acquire(time.monotonic())
    Holder(first.descriptor).end()
    assert second.acquire(LATER)
    first.close()
    second.close()


def test_the_child_keeps_it_when_its_parent_goes(places: list[str]) -> None:
    parent, other = opened(places), opened(places)
    assert parent.acquire(LATER)
    child = os.dup(parent.descriptor)
    parent.close()
    assert not other.acquire(time.monotonic())
    os.close(child)
    assert other.acquire(LATER)
    other.close()


def test_what_the_holder_does_can_be_read(places: list[str]) -> None:
    lease = opened(places)
    assert lease.acquire(LATER)
    assert lease.record() == Record(round(LATER, 3), "start", None, {})
    holder = Holder(lease.descriptor)
    holder.begin(LATER)
    holder.note("information", None)
    holder.keep({"0000:1b:00.0": "Model: \t\t NVIDIA H100\n"})
    holder.note("nvmlDeviceGetMemoryInfo_v2", 3)
    expected = Record(round(LATER, 3), "nvmlDeviceGetMemoryInfo_v2", 3, {"0000:1b:00.0": "Model: \t\t NVIDIA H100\n"})
    assert lease.record() == expected
    lease.close()
    assert lease.record() == expected
    holder = Holder(-1)
    holder.begin(LATER)
    holder.note("nvmlInitWithFlags", None)
    holder.keep({})
    holder.end()


def test_one_that_is_overdue_is_not_waited_for(places: list[str]) -> None:
    hung, other = opened(places), opened(places)
    assert hung.acquire(time.monotonic() - 1)
    assert not other.acquire(math.inf)  # would never return if it waited
    assert other.record().call == "start"
    hung.close()
    other.close()


def test_one_that_is_not_overdue_is_waited_for(places: list[str]) -> None:
    busy, other = opened(places), opened(places)
    assert busy.acquire(LATER)
    acquired = threading.Event()

    def wait() -> None:
        assert other.acquire(LATER)
        acquired.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not acquired.is_set()
    Holder(busy.descriptor).end()
    thread.join()
    assert acquired.is_set()
    busy.close()
    other.close()


def test_a_lock_that_says_nothing_is_waited_for(places: list[str]) -> None:
    """Between taking the lock and writing there is a moment; an old record must not be taken for the holder's."""
    silent, other = opened(places), opened(places)
    fcntl.flock(silent.descriptor, fcntl.LOCK_EX)
    assert not other.acquire(time.monotonic() + 0.05)
    silent.close()
    assert other.acquire(LATER)
    other.close()


def test_the_first_place_that_can_be_used_is_used(tmp_path: Path) -> None:
    foreign = tmp_path / "writable-for-all"
    foreign.mkdir()
    foreign.chmod(0o777)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    (tmp_path / "file").touch()
    places = [str(tmp_path / "missing/eidos"), str(foreign), str(link), str(tmp_path / "file")]
    assert open_lease(places) is None
    lease = opened([*places, str(tmp_path / "good")])
    lease.close()
    assert (tmp_path / "good" / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert list(foreign.iterdir()) == []


def test_a_link_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "eidos").mkdir(mode=0o700)
    (tmp_path / "eidos" / FILE_NAME).symlink_to(tmp_path / "target")
    assert open_lease([str(tmp_path / "eidos")]) is None
    assert not (tmp_path / "target").exists()


@given(st.binary(max_size=600))
@example(b"")
@example(b"nan start")
@example(b"inf start")
@example(b"-1 start")
@example(b"1 start x")
@example(b"1.5 start 3".ljust(128) + b"[]")
@example(b"1.5 start 3".ljust(128) + b'{"a": 1}')
@example(b"1.5 start 3".ljust(128) + b"[" * 400)
@example(b"1.5 start " + b"9" * 100)
def test_any_file_is_read_or_counts_as_empty(content: bytes) -> None:
    record = parse_record(content)
    assert record.deadline >= 0
    assert math.isfinite(record.deadline)
    assert all(isinstance(text, str) for text in record.information.values())


@given(
    st.floats(min_value=0.001, max_value=1e9),
    st.from_regex(r"nvml[A-Za-z0-9_]{1,40}", fullmatch=True),
    st.none() | st.integers(0, 63),
    st.dictionaries(st.text(max_size=20), st.text(max_size=200), max_size=8),
)
def test_what_is_written_is_read(deadline: float, call: str, gpu: int | None, information: dict[str, str]) -> None:
    with open(os.memfd_create("lease"), "r+b") as file:
        holder = Holder(file.fileno())
        holder.begin(deadline)
        holder.keep(information)
        holder.note(call, gpu)
        record = parse_record(file.read())
    assert record == Record(float(f"{deadline:.3f}"), call, gpu, json.loads(json.dumps(information)))


def test_a_container_without_any_writable_place_still_has_places_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """The read-only root file system of the Job has no /tmp to write to."""

    def nowhere() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert lease_directories(Host("/host"), {}) == ["/host/run/eidos", "/run/eidos"]
