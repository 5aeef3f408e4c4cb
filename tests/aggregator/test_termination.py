"""SIGTERM to a container's process 1 that is still starting: what has no handler for it is never told."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest

from tests.conftest import cannot_run_here

WITHIN = 60.0


@pytest.fixture
def as_first() -> list[str]:
    """Puts a program in a process namespace of its own, as its first."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        cannot_run_here("a process namespace needs root and unshare(1)")
    return ["unshare", "--pid", "--fork", "--kill-child"]


@pytest.fixture(params=["aggregator", "agent"])
def starting(
    request: pytest.FixtureRequest, as_first: list[str], tmp_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    flags = {
        "aggregator": ["--local", str(tmp_path), "--nodes", "n1"],
        "agent": ["--aggregator", "https://127.0.0.1:1", "--node", "n1", "--health-port", "0"],
    }[request.param]
    if request.param == "agent":
        for flag in ("ca", "token"):
            (tmp_path / flag).write_text("none")
            flags += [f"--{flag}-file", str(tmp_path / flag)]
    with (tmp_path / "log").open("wb") as log:
        program = subprocess.Popen(
            [*as_first, sys.executable, "-m", request.param, *flags],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[2],
        )
    yield program
    program.send_signal(SIGKILL)
    program.wait(10)


def test_what_is_told_to_end_before_it_is_ready_never_is(starting: subprocess.Popen[bytes], tmp_path: Path) -> None:
    until = time.monotonic() + WITHIN
    while starting.poll() is None:
        assert time.monotonic() < until, "it was told all the time"
        for child in _children(starting.pid):
            os.kill(child, SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            starting.wait(0.005)
    assert (tmp_path / "log").read_text() == "", "nobody has heard of it"


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
