"""A driver that never answers: nothing waits for it past its deadline, nothing kills it, nothing joins it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.collect import run, snapshot
from agent.collectors.base import Options
from agent.host import Host
from agent.nvml import NvmlChild
from agent.nvml_reading import Reading, Refusal
from common.model import Collected, Failed, FailureCode, Ok, Outcome, State
from tests.agent.test_nvml import end_children, soon, wait_for_death
from tests.nvml.node import LIBRARIES, children, collector, context, h100_node
from tests.nvml.standin import write_scenario

REPOSITORY = Path(__file__).parents[2]
FAILURE = Failed(
    FailureCode.DRIVER_UNRESPONSIVE,
    "the NVIDIA driver does not answer (nvmlInitWithFlags); look for its messages in the kernel log, and restart the"
    " node if it stays so",
)
# Seconds in which a child comes as far as the call that hangs, on a busy machine too.
ENOUGH = 3.0
# A whole one-shot process: collects, prints what it found, ends.
ONE_SHOT = """
import sys, time
import msgspec
from pathlib import Path
from tests.nvml.node import collector, context
root, seconds = Path(sys.argv[1]), float(sys.argv[2])
print(msgspec.json.encode(collector(root).collect(context(root, time.monotonic() + seconds)).ending).decode())
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A place for a node; the children that hang on it are ended afterwards, by their process ids."""
    yield tmp_path / "node"
    end_children(tmp_path)


def data(outcome: Outcome) -> dict[str, object]:
    assert isinstance(outcome, Ok)
    return dict(outcome.data)


def one_shot(root: Path, seconds: float) -> dict[str, str]:
    """What another process finds. Returns only once nothing holds its output open, as a shell's pipe would."""
    ended = subprocess.run(
        [sys.executable, "-c", ONE_SHOT, str(root), str(seconds)],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
        text=True,
    )
    assert ended.stderr == ""
    answer: dict[str, str] = json.loads(ended.stdout)
    return answer


def hung(root: Path) -> tuple[Collected, int]:
    """A collection that hung, and the child it left behind."""
    collected = collector(root).collect(context(root, time.monotonic() + ENOUGH))
    (pid,) = children(root)
    return collected, pid


def test_what_shows_without_the_driver_is_told_and_the_child_gets_no_company(root: Path) -> None:
    collected, pid = hung(h100_node(root, "hang-at-init"))
    assert collected.state is State.FAILED
    assert collected.ending == FAILURE
    assert data(collected.subtypes["smi"]) == {
        "driver": "570.133.20",
        "gpu-count": 8,
        "gpu.gsp-firmware-version": "570.133.20",
        "gpu.model": "NVIDIA H100 80GB HBM3",
        "gpu.vbios-version": "96.00.BC.00.01",
    }
    devices = data(collected.subtypes["devices"])
    assert devices["name[0-7]"] == "NVIDIA H100 80GB HBM3"
    assert devices["pci-device-id[0-7]"] == "10de:2330"
    assert devices["pci-bus-id[3]"] == "0000:61:00.0"
    assert devices["kernel-module"] == "open"
    # The same facts and the same words again, though nobody could ask this time.
    assert collector(root).collect(context(root, soon())) == collected
    assert one_shot(root, 60) == {"code": "driver_unresponsive", "reason": FAILURE.reason}
    assert children(root) == [pid]


def test_a_separate_process_ends_and_leaves_its_child_for_the_next_to_see(root: Path) -> None:
    h100_node(root, "hang-at-init")
    assert one_shot(root, ENOUGH) == {"code": "driver_unresponsive", "reason": FAILURE.reason}
    (pid,) = children(root)
    assert one_shot(root, 60) == {"code": "driver_unresponsive", "reason": FAILURE.reason}
    assert children(root) == [pid]
    collected = collector(root).collect(context(root, soon()))
    assert collected.ending == FAILURE
    assert data(collected.subtypes["devices"])["name[0-7]"] == "NVIDIA H100 80GB HBM3"


def test_once_it_is_gone_the_driver_is_asked_again(root: Path) -> None:
    _, pid = hung(h100_node(root, "hang-at-init"))
    write_scenario(root / LIBRARIES / "libnvidia-ml.so.1", "h100x8")
    os.kill(pid, signal.SIGKILL)
    wait_for_death(pid)
    assert collector(root).collect(context(root, soon())).state is State.OK


def test_a_hang_in_one_gpu_names_call_and_gpu(root: Path) -> None:
    collected, _ = hung(h100_node(root, "hang-at-gpu"))
    assert isinstance(collected.ending, Failed)
    assert collected.ending.code is FailureCode.DRIVER_UNRESPONSIVE
    assert "(nvmlDeviceGetEccMode of GPU 3)" in collected.ending.reason


def test_a_snapshot_returns_with_the_rest(root: Path) -> None:
    """The collector answers before its own deadline, so that its reason is told and not that it took too long."""
    h100_node(root, "hang-at-init")
    answers = run([collector(root)], Host(str(root)), "n", Options(), seconds=ENOUGH)
    (entry,) = snapshot(answers, "n").collection
    assert entry.code is FailureCode.DRIVER_UNRESPONSIVE
    first = snapshot(answers, "n").measurements
    answers = run([collector(root)], Host(str(root)), "n", Options(), seconds=60)
    assert snapshot(answers, "n").measurements == first


def test_a_daemon_that_keeps_its_child_does_not_restart_it_either(root: Path) -> None:
    h100_node(root, "hang-at-init")
    daemon = collector(root, keep=True)
    first = daemon.collect(context(root, time.monotonic() + ENOUGH))
    (pid,) = children(root)
    for _ in range(3):
        assert daemon.collect(context(root, soon())) == first
    assert children(root) == [pid]
    daemon.release()


def test_a_driver_that_was_only_slow_is_asked_again_when_it_is_done(root: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    h100_node(root, "h100x8", f"nvmlInitWithFlags = !wait {go}")
    collected, pid = hung(root)
    assert collected.ending == FAILURE
    go.touch()
    wait_for_death(pid)  # nobody wants its answer any more, so it ends by itself
    collected = collector(root).collect(context(root, soon()))
    assert collected.state is State.OK


def test_two_at_once_take_turns(root: Path, tmp_path: Path) -> None:
    """A second process waits for one that is within its time, instead of asking beside it."""
    go = tmp_path / "go"
    h100_node(root, "h100x8", f"nvmlInitWithFlags = !wait {go}")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_SHOT, str(root), "60"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    while not children(root):
        assert all(process.poll() is None for process in processes)
    assert len(children(root)) == 1
    go.touch()
    assert [process.communicate()[0].strip() for process in processes] == ["null", "null"]


def test_an_idle_child_of_a_daemon_is_in_nobodys_way(root: Path) -> None:
    h100_node(root)
    daemon = collector(root, keep=True)
    assert daemon.collect(context(root, soon())).state is State.OK
    assert len(children(root)) == 1
    assert collector(root).collect(context(root, soon())).state is State.OK
    assert daemon.collect(context(root, soon())).state is State.OK
    (pid,) = children(root)
    daemon.release()
    wait_for_death(pid)


def test_a_hang_while_reading_the_drivers_own_files_is_the_same(root: Path, tmp_path: Path) -> None:
    """They wait for the driver's locks, so the child reads them too. A FIFO blocks whoever opens it."""
    h100_node(root)
    information = root / "proc/driver/nvidia/gpus/0000:1b:00.0/information"
    information.unlink()
    os.mkfifo(information)
    collected, pid = hung(root)
    assert isinstance(collected.ending, Failed)
    assert collected.ending.code is FailureCode.DRIVER_UNRESPONSIVE
    assert "(reading /proc/driver/nvidia/gpus)" in collected.ending.reason
    assert data(collected.subtypes["smi"])["gpu-count"] == 8
    assert children(root) == [pid]


def test_the_moment_of_giving_up_does_not_lose_an_answer(root: Path) -> None:
    """A deadline that has passed already still gives one of the two outcomes, never a broken child."""
    h100_node(root)
    library = str(root / LIBRARIES / "libnvidia-ml.so.1")
    child = NvmlChild(library, str(root), [str(root / "run/eidos")])
    answer = child.request(False, time.monotonic())
    assert isinstance(answer, Refusal)
    assert answer.code is FailureCode.DRIVER_UNRESPONSIVE
    if child.pid:
        wait_for_death(child.pid)
    assert isinstance(child.request(False, soon()), Reading)
    child.release()
