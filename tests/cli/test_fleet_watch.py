"""`eidos fleet watch` against a real fleet of processes, as a process of its own."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cli.fleet_watch import lines
from cli.main import run
from common.fleet import NodeState
from common.fleet_api import (
    AgentChange,
    Drift,
    DriftFact,
    NodeChange,
    Progress,
    RunChange,
    RunState,
    WatchAlive,
    WatchEvent,
    WatchStart,
)
from common.model import MeasurementType
from tests.cli.conftest import EIDOS, Demo

AT = "2026-01-01T12:34:56Z"


@contextmanager
def watching(demo: Demo, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    environment = {**os.environ, **demo.environment}
    command = [EIDOS, "fleet", "watch", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        process.kill()


def read_until(process: "subprocess.Popen[str]", wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        event: dict[str, Any] = json.loads(line)
        if wanted(event):
            return event
    raise AssertionError(f"it ended: {process.stderr and process.stderr.read()}")


def test_runs_as_they_happen(fleet: Demo) -> None:
    with watching(fleet) as process:
        start = read_until(process, lambda event: event["event"] == "start")
        assert (start["expected"], start["connected"]) == (7, 7)
        assert run(["fleet", "snapshot", "--format", "json"]) == 0
        done = read_until(process, lambda event: event["event"] == "run" and event["progress"]["state"] == "done")
        assert done["progress"]["states"] == {"ok": 7}
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert process.stderr.read() == "", "it is how watching is meant to end"


def test_for_a_time(fleet: Demo) -> None:
    with watching(fleet, "--for", "1s", "--format", "text") as process:
        assert process.wait(60) == 0
        assert process.stdout is not None
        assert "7 of 7 nodes connected" in process.stdout.read()


def test_no_aggregator_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fleet", "watch", "--server", "https://127.0.0.1:1", "--for", "1m"]) == 4
    assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (WatchStart(AT, 5, 3, {"ok": 3}, "r-1"), ["12:34:56  3 of 5 nodes connected; 3 ok"]),
        (WatchStart(AT, 5, 3, {}, ""), ["12:34:56  3 of 5 nodes connected; there is no snapshot yet"]),
        (WatchAlive(AT), []),
        (
            RunChange(AT, Progress("r-2", RunState.COLLECTING, 5, 3, 0.5, {}, [], {})),
            ["12:34:56  run r-2 collecting, 3 of 5 answered"],
        ),
        (
            RunChange(AT, Progress("r-2", RunState.DONE, 5, 3, 0.5, {"ok": 3}, [], {})),
            ["12:34:56  run r-2 done after 0.5 s: 3 ok"],
        ),
        (NodeChange(AT, 2, "n[1-2]", False, False), ["12:34:56  n[1-2] (2) no longer expected"]),
        (
            NodeChange(AT, 1, "n1", True, False, NodeState.TIMEOUT, "no answer\x1b[0m"),
            ["12:34:56  n1 (1) not connected, timeout in the last snapshot: no answer\\x1b[0m"],
        ),
        (AgentChange(AT, "r-2", "r-1", 2, "n[1-2]", "1", "2", [], 0), ["12:34:56  n[1-2] (2) agent 1 -> 2"]),
        (
            AgentChange(AT, "r-2", "r-1", 1, "n1", "1", "2", [DriftFact(MeasurementType.OS, "x", "k", after=1)], 0),
            [
                "12:34:56  n1 (1) agent 1 -> 2; only one of them reports, on any node:",
                "            OS.x.k  (not there) -> 1",
            ],
        ),
        (
            Drift(AT, "r-2", "r-1", 1, "n1", [DriftFact(MeasurementType.OS, "sysctl", "k", "1", "2")], 3),
            ["12:34:56  n1 (1) drift since run r-1", "            OS.sysctl.k  1 -> 2", "            … and 3 more"],
        ),
        (
            Drift(AT, "r-2", "r-1", 9, "n[1-9]", [], 3, alike=False),
            ["12:34:56  n[1-9] (9) drift since run r-1", "            each in its own way, in 3 facts"],
        ),
    ],
)
def test_for_a_person(event: WatchEvent, shown: list[str]) -> None:
    assert list(lines(event, colour=False)) == shown
