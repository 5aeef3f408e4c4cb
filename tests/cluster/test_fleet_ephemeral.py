"""Installations that are cut short, and those that last as long as one snapshot: nothing stays."""

import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster.fleetmode import Fleet
from tests.cluster.watched import Watched

pytestmark = pytest.mark.cluster


@pytest.fixture
def untouched(fleet: Fleet, before: dict[str, Any]) -> Iterator[Fleet]:
    yield fleet
    fleet.check_nothing_stays(before)


def test_a_snapshot_and_nothing_stays(untouched: Fleet) -> None:
    done = untouched.eidos("snapshot", "--ephemeral", *untouched.images, "--format", "yaml")
    assert done.returncode == 0, done.stderr
    document = yaml.safe_load(done.stdout)
    assert document["kind"] == "FleetSnapshot"
    assert document["summary"]["expected"] == 2


@pytest.mark.parametrize(
    ("moment", "number"),
    [("RBAC: done", signal.SIGINT), ("aggregator: done", signal.SIGTERM), ("agents: done", signal.SIGINT)],
)
def test_a_signal_removes_everything_first(untouched: Fleet, moment: str, number: signal.Signals) -> None:
    run = Watched(untouched.start("snapshot", "--ephemeral", *untouched.images))
    run.wait_for(moment)
    run.process.send_signal(number)
    assert run.end(200) == 130, run.said
    assert "Traceback" not in run.said
    assert "left behind" not in run.said


def test_a_failure_removes_everything_too(untouched: Fleet) -> None:
    done = untouched.eidos("snapshot", "--ephemeral", *untouched.images, "--aggregator-image", "127.0.0.1:1/x:none")
    assert done.returncode == 4
    assert "cannot be pulled" in done.stderr


def test_an_installation_cut_short_can_be_removed(untouched: Fleet) -> None:
    run = Watched(untouched.start("install", *untouched.images))
    run.wait_for("namespace: done")
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 130, run.said
    assert "eidos fleet uninstall" in run.said
    removed = untouched.eidos("uninstall", "--yes")
    assert removed.returncode == 0, removed.stderr


def test_of_two_at_the_same_time_one_is_refused(untouched: Fleet) -> None:
    runs = [untouched.start("snapshot", "--ephemeral", *untouched.images, "--format", "yaml") for _ in range(2)]
    ended = [(run, *run.communicate(timeout=200)) for run in runs]
    statuses = sorted(run.returncode for run, _, _ in ended)
    said = [error for _, _, error in ended]
    assert statuses == [0, 4], said
    assert any("is there already, and --ephemeral would remove it" in error for error in said), said


def test_uninstalling_asks_first_on_a_terminal(fleet: Fleet) -> None:
    done = subprocess.run(
        ["script", "-qec", " ".join(fleet.command("uninstall")), "/dev/null"],
        env=fleet.environment(),
        cwd=fleet.folder,
        input="n\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Remove Eidos from namespace eidos" in done.stdout
    assert "Nothing was removed." in done.stdout
    assert done.returncode == 0
