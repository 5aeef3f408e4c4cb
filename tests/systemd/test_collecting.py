"""The collector against a real systemd: what is stable stays, what is configured shows, and nothing else does."""

import time
from pathlib import Path

import msgspec
import pytest

from agent.collect import Answer, snapshot
from agent.collectors.base import DEFAULT_UNITS, Context, Options
from agent.collectors.systemd import SystemdCollector
from agent.host import Host
from common.model import Absent, Collected, Failed, FailureCode, Ok, Scalar, State
from common.stability import Stability, default_rules
from tests.systemd.machine import SystemdMachine

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(600)]  # the first run makes the machine's file system

ALL = (
    *DEFAULT_UNITS, "container-runtime", "nvidia-*", "tick.*", "talk.socket", "spool.path", "scratch.mount", "broken",
    "crash", "system.slice", "multi-user.target", "-.mount", "init.scope",
)  # fmt: skip

Change = tuple[Scalar | None, Scalar | None]


def collect(machine: SystemdMachine, *units: str) -> Collected:
    return machine.inside(lambda: collect_from_outside(machine, *units))


def collect_from_outside(machine: SystemdMachine, *units: str) -> Collected:
    ctx = Context(Host(str(machine.root)), "n", time.monotonic() + 60, Options(systemd_units=units or ALL))
    return SystemdCollector().collect(ctx)


def written(collected: Collected) -> bytes:
    """The snapshot's bytes but for its timestamp."""
    document = snapshot([Answer(SystemdCollector(), collected, 0.0)], "n")
    return msgspec.json.encode((document.collection, document.measurements))


def drift(before: Collected, after: Collected) -> dict[str, Change]:
    """What differs between two snapshots' facts, by `unit:key`."""
    facts = []
    for collected in (before, after):
        document = snapshot([Answer(SystemdCollector(), collected, 0.0)], "n")
        facts.append({f"{unit}:{key}": value for (_, unit, key), value in document.facts().items()})
    old, new = facts
    return {name: (old.get(name), new.get(name)) for name in sorted(old | new) if old.get(name) != new.get(name)}


def data(collected: Collected, unit: str) -> dict[str, Scalar]:
    outcome = collected.subtypes[unit]
    assert isinstance(outcome, Ok), outcome
    return outcome.data


def test_nothing_of_a_snapshot_changes_when_units_run_again(machine: SystemdMachine) -> None:
    first = collect(machine)
    assert first.ending is None
    machine.systemctl(
        "restart", "containerd", "kubelet", "nvidia-worker@0", "tick.timer", "talk.socket", "spool.path"
    )
    machine.systemctl("start", "tick.service")
    again = collect(machine)
    assert data(first, "containerd.service")["MainPID"] != data(again, "containerd.service")["MainPID"]
    assert drift(first, again) == {}
    assert written(first) == written(again)


@pytest.mark.parametrize("action", ["daemon-reload", "daemon-reexec"])
def test_nothing_of_a_snapshot_changes_when_systemd_reads_its_units_again(
    machine: SystemdMachine, action: str
) -> None:
    first = collect(machine)
    machine.systemctl(action)
    machine.wait_until_it_answers()
    again = collect(machine)
    assert drift(first, again) == {}
    assert written(first) == written(again)


def test_a_drop_in_shows_as_the_property_it_sets_and_as_a_file(machine: SystemdMachine) -> None:
    drop_in = "/etc/systemd/system/kubelet.service.d/50-memory.conf"
    first = collect(machine)
    machine.write(drop_in, "[Service]\nMemoryMax=1G\n")
    assert drift(first, collect(machine)) == {"kubelet.service:NeedDaemonReload": (False, True)}
    machine.systemctl("daemon-reload")
    there = "/etc/systemd/system/kubelet.service.d/10-node.conf"
    assert drift(first, collect(machine)) == {
        "kubelet.service:DropInPaths": (f"[{there}]", f"[{there} {drop_in}]"),
        "kubelet.service:MemoryMax": (18446744073709551615, 1073741824),
    }
    machine.remove(drop_in)
    machine.systemctl("daemon-reload")
    assert drift(first, collect(machine)) == {}


def test_a_stopped_unit_shows_as_its_state_and_nothing_else(machine: SystemdMachine) -> None:
    first = collect(machine)
    machine.systemctl("stop", "kubelet")
    assert drift(first, collect(machine)) == {
        "kubelet.service:ActiveState": ("active", "inactive"),
        "kubelet.service:SubState": ("running", "dead"),
    }
    machine.systemctl("start", "kubelet")
    assert drift(first, collect(machine)) == {}


def test_a_crash_that_systemd_mended_is_no_drift(machine: SystemdMachine) -> None:
    first = collect(machine, "kubelet", "containerd")
    pid = machine.systemctl("show", "--property=MainPID", "--value", "kubelet").strip()
    machine.write("/etc/systemd/system/kubelet.service.d/20-soon.conf", "[Service]\nRestartSec=0\n")
    machine.systemctl("daemon-reload")
    configured = collect(machine, "kubelet", "containerd")
    machine.systemctl("kill", "--signal=SEGV", "kubelet")
    while machine.systemctl("show", "--property=NRestarts", "--value", "kubelet").strip() == "0":
        continue  # systemd is asked until it has restarted the unit; pytest's timeout ends a wait in vain
    machine.systemctl("start", "kubelet")
    again = collect(machine, "kubelet", "containerd")
    assert data(again, "kubelet.service")["MainPID"] not in (pid, "0")
    assert drift(configured, again) == {}
    assert set(drift(first, again)) == {"kubelet.service:DropInPaths", "kubelet.service:RestartUSec"}


def test_units_names_patterns_and_templates_each_have_their_outcome(machine: SystemdMachine) -> None:
    collected = collect(machine, "containerd", "docker", "nvidia-*", "no-such-*", "nvidia-worker@7", "a/b")
    kinds = {unit: type(outcome) for unit, outcome in collected.subtypes.items()}
    assert kinds == {
        "containerd.service": Ok,
        "docker.service": Absent,
        "nvidia-persistenced.service": Ok,
        "nvidia-worker@0.service": Ok,
        "nvidia-worker@7.service": Ok,  # a template makes any of them
        "no-such-*": Absent,
        "a/b": Failed,
    }
    assert collected.subtypes["docker.service"] == Absent("the unit is not installed")
    assert collected.subtypes["no-such-*"] == Absent("no unit has such a name")
    assert collected.subtypes["a/b"] == Failed(FailureCode.MALFORMED, "this cannot be the name of a unit")
    assert collected.state is State.PARTIAL


def test_reading_a_unit_that_is_not_loaded_leaves_no_trace_in_others(machine: SystemdMachine) -> None:
    first = collect(machine, "containerd", "kubelet")
    assert data(collect(machine, "nvidia-persistenced"), "nvidia-persistenced.service")["ActiveState"] == "inactive"
    again = collect(machine, "containerd", "kubelet", "nvidia-persistenced")
    assert "nvidia-persistenced" not in str(data(again, "containerd.service")["Before"])
    assert {name for name in drift(first, again) if not name.startswith("nvidia-")} == set()


def test_the_system_bus_tells_the_same_as_systemds_own_socket(machine: SystemdMachine) -> None:
    inside = collect(machine)
    machine.private_socket.unlink()
    through_bus = collect(machine)
    assert drift(inside, through_bus) == {}
    # Processes systemd cannot see are turned away at its own socket, and served by the bus.
    assert drift(inside, collect_from_outside(machine)) == {}
    machine.bus_socket.unlink()
    assert collect(machine).ending == Failed(
        FailureCode.BUS_UNREACHABLE,
        "systemd cannot be reached: /run/systemd/private: No such file or directory; "
        "/run/dbus/system_bus_socket: No such file or directory",
    )


def test_values_have_the_forms_readers_know(machine: SystemdMachine) -> None:
    collected = collect(machine)
    containerd = data(collected, "containerd.service")
    expected: dict[str, Scalar] = {
        "ActiveState": "active",
        "SubState": "running",
        "LoadState": "loaded",
        "Delegate": True,
        "Documentation": "[https://containerd.io man:containerd(8)]",
        "Environment": "[HTTPS_PROXY=http://<redacted>@proxy:3128 NO_PROXY=localhost REGISTRY_TOKEN=<redacted>]",
        "ExecStartPre": "[[/bin/true [/bin/true --early] true 0 0 0 0 0 0 0]]",
        "ExecStartPreEx": "[[/bin/true [/bin/true --early] [ignore-failure] 0 0 0 0 0 0 0]]",
        "ExecReload": "[[/bin/kill [/bin/kill -HUP $MAINPID] false 0 0 0 0 0 0 0]]",
        "IPAddressDeny": "[[2 [192 0 2 0] 24] [2 [198 51 100 0] 24] [2 [203 0 113 0] 24]]",
        "LimitNOFILE": 1048576,
        "LoadError": "[ ]",
        "MemoryMax": 18446744073709551615,
        "Names": "[container-runtime.service containerd.service]",
        "OOMScoreAdjust": "-999",
        "RestartUSec": 5000000,
        "RestrictAddressFamilies": "[true [AF_INET AF_INET6 AF_NETLINK AF_UNIX]]",
        "RuntimeDirectoryMode": "493",
        "SuccessExitStatus": "[[] []]",
        "SystemCallFilter": "[false [reboot swapoff swapon]]",
        "UnitFileState": "enabled",
        "WantedBy": "[kubelet.service multi-user.target]",
    }
    assert {key: containerd[key] for key in expected} == expected
    outcome = collected.subtypes["containerd.service"]
    assert isinstance(outcome, Ok)
    assert outcome.context == {"redacted": "Environment"}
    kubelet = data(collected, "kubelet.service")
    assert kubelet["Conditions"] == "[[ConditionPathExists false false /bin/sleep 0]]"
    assert kubelet["DropInPaths"] == "[/etc/systemd/system/kubelet.service.d/10-node.conf]"
    assert kubelet["Environment"] == "[NODE_LABELS=zone=a]"
    assert data(collected, "tick.timer")["TimersMonotonic"] in (
        "[[OnUnitActiveUSec 7200000000 0] [OnBootUSec 5400000000 0]]",
        "[[OnBootUSec 5400000000 0] [OnUnitActiveUSec 7200000000 0]]",
    )
    assert data(collected, "tick.timer")["TimersCalendar"] == "[[OnCalendar *-01-01 00:00:00 0]]"
    assert data(collected, "talk.socket")["Listen"] == "[[Stream /run/talk]]"
    assert data(collected, "spool.path")["Paths"] == "[[PathChanged /srv/spool]]"
    assert data(collected, "scratch.mount")["Where"] == "/scratch"
    assert data(collected, "broken.service")["LoadState"] == "bad-setting"
    hidden = {"AllowedCPUs", "AllowedMemoryNodes", "Asserts", "BPFProgram", "BusName", "Id"}
    assert not any(key in hidden or "Credential" in key for key in containerd)


def test_every_kind_of_unit_is_read(machine: SystemdMachine) -> None:
    kinds = {"service", "socket", "target", "mount", "timer", "slice", "path", "scope"}
    collected = collect(machine, *(f"*.{kind}" for kind in kinds))
    assert collected.ending is None
    assert {unit.rpartition(".")[2] for unit in collected.subtypes} == kinds
    # By its value alone a small number could have 64 bits: the signatures are known for every kind.
    narrow = {
        "nvidia.slice": "ManagedOOMMemoryPressureLimit",
        "kubelet.service": "UMask",
        "scratch.mount": "Nice",
        "talk.socket": "Backlog",
    }
    assert all(isinstance(data(collected, unit)[key], str) for unit, key in narrow.items())


def test_all_that_a_restart_changes_is_volatile(machine: SystemdMachine) -> None:
    units = ("*.service", "*.socket", "*.target", "*.mount", "*.timer", "*.slice", "*.path")
    first = collect(machine, *units)
    machine.systemctl("restart", "containerd", "kubelet", "tick.timer")
    machine.systemctl("start", "tick.service")
    again = collect(machine, *units)
    assert [
        outcome for outcome in (*first.subtypes.values(), *again.subtypes.values()) if type(outcome) is not Ok
    ] == []
    assert set(first.subtypes) == set(again.subtypes)
    changed = {
        (unit, key)
        for unit in first.subtypes
        for key, value in data(first, unit).items()
        if data(again, unit)[key] != value
    }
    assert {"MainPID", "InvocationID", "ActiveEnterTimestamp", "ExecMainPID"} <= {key for _, key in changed}
    rules = default_rules()
    assert [name for name in changed if rules.classify("SystemD", *name) is not Stability.VOLATILE] == []


def test_the_machine_leaves_nothing_behind(machine: SystemdMachine) -> None:
    work = machine.work
    inside = Path(f"/proc/{machine.pid}/task/{machine.pid}/children").read_text().split()
    assert inside
    machine.stop()
    assert not work.exists()
    assert str(work) not in Path("/proc/self/mountinfo").read_text()
    assert not any(Path(f"/proc/{pid}").exists() for pid in inside)
    machine.stop()  # once more does no harm
    groups = Path("/sys/fs/cgroup")
    assert [*groups.glob(work.name), *groups.glob(f"*/{work.name}")] == []
