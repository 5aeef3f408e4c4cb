"""The systemd collector without a systemd: what is asked for, and how each trouble ends."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.bus_process import Reading, Socket, UnitProperties
from agent.collectors import systemd
from agent.collectors.base import Context, Options
from agent.collectors.systemd import SystemdCollector, unit_name
from agent.host import Host
from common.model import Absent, Collected, Failed, FailureCode, Ok, State
from common.stability import Stability, default_rules

Asked: TypeAlias = list[tuple[list[Socket], list[str], float]]
"""Sockets, units and seconds of each conversation."""
Prepare: TypeAlias = Callable[[Reading], Asked]

HUNG = Failed(FailureCode.TIMEOUT, "systemd did not answer in time")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host booted by systemd, of which nothing answers."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    return Host(str(tmp_path))


def collect(host: Host, *units: str, seconds: float = 30.0) -> Collected:
    deadline = time.monotonic() + seconds
    return SystemdCollector().collect(Context(host, "n", deadline, Options(systemd_units=units or ("a.service",))))


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Have systemd answer so; returns the list of what it is asked."""

    def prepare(reading: Reading) -> Asked:
        asked: Asked = []

        def read_units(sockets: list[Socket], units: list[str], seconds: float) -> Reading:
            asked.append((sockets, units, seconds))
            return reading

        monkeypatch.setattr(systemd, "read_units", read_units)
        return asked

    return prepare


@pytest.mark.parametrize("there", [[], ["run/systemd"], ["etc"]])
def test_a_machine_that_systemd_did_not_boot_is_absent(tmp_path: Path, there: list[str]) -> None:
    for directory in there:
        (tmp_path / directory).mkdir(parents=True)
    reason = "systemd does not run here: /run/systemd/system is not there"
    assert collect(Host(str(tmp_path))) == Collected.absent(reason)


def test_a_host_whose_sockets_are_not_there_is_unreachable(host: Host) -> None:
    collected = collect(host)
    assert collected.state is State.FAILED
    assert collected.ending == Failed(
        FailureCode.BUS_UNREACHABLE,
        "systemd cannot be reached: /run/systemd/private: No such file or directory; "
        "/run/dbus/system_bus_socket: No such file or directory",
    )


def test_sockets_are_those_of_the_host_links_followed_inside_its_root(host: Host, answer: Prepare) -> None:
    asked = answer(Reading())
    bus = Path(host.root, "run/dbus")
    bus.mkdir()
    (bus / "system_bus_socket").symlink_to("/run/elsewhere/socket")
    collect(host)
    assert asked[0][0] == [
        Socket("/run/systemd/private", f"{host.root}/run/systemd/private", True),
        Socket("/run/dbus/system_bus_socket", f"{host.root}/run/elsewhere/socket", False),
    ]


@pytest.mark.parametrize(("left", "expected"), [(30.0, 29.5), (4.5, 4.0), (-1.0, 0.5)])
def test_it_takes_no_longer_than_its_deadline_leaves(
    host: Host, answer: Prepare, left: float, expected: float
) -> None:
    asked = answer(Reading())
    collect(host, seconds=left)
    assert 0.5 <= asked[0][2] <= expected


def test_each_unit_has_its_own_outcome(host: Host, answer: Prepare) -> None:
    secret = UnitProperties("service", {"MainPID": 7, "Environment": ["TOKEN=abc"]})
    asked = answer(
        Reading(
            units={"a.service": secret},
            others={"b.timer": Absent("the unit is not installed")},
            signatures={"service": {"MainPID": "u", "Environment": "as"}},
        )
    )
    collected = collect(host, "a", " b.timer ", "a.service", "no unit/at all")
    assert asked[0][1] == ["a.service", "b.timer"]
    assert collected.state is State.PARTIAL
    assert collected.subtypes == {
        "a.service": Ok({"MainPID": "7", "Environment": "[TOKEN=<redacted>]"}, {"redacted": "Environment"}),
        "b.timer": Absent("the unit is not installed"),
        "no unit/at all": Failed(FailureCode.MALFORMED, "this cannot be the name of a unit"),
    }


def test_what_was_read_before_the_bus_hung_is_kept(host: Host, answer: Prepare) -> None:
    answer(Reading(units={"a.service": UnitProperties("service", {"LoadState": "loaded"})}, ending=HUNG))
    collected = collect(host, "a", "b", "x-*")
    assert collected == Collected.of({"a.service": Ok({"LoadState": "loaded"}), "b.service": HUNG, "x-*": HUNG})


def test_a_bus_that_hung_at_once_is_told_once(host: Host, answer: Prepare) -> None:
    answer(Reading(ending=HUNG))
    assert collect(host, "a", "b") == Collected({}, HUNG)


def test_names_that_cannot_be_units_are_not_asked_for(host: Host, answer: Prepare) -> None:
    asked = answer(Reading())
    assert collect(host, "/", "a b").state is State.FAILED
    assert asked == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kubelet", "kubelet.service"),
        ("kubelet.service", "kubelet.service"),
        ("docker.socket", "docker.socket"),
        ("nvidia-fabricmanager.v2", "nvidia-fabricmanager.v2.service"),
        ("getty@tty1", "getty@tty1.service"),
        (r"dev-disk-by\x2duuid-1.device", r"dev-disk-by\x2duuid-1.device"),
        ("-.mount", "-.mount"),
        ("nvidia-*", "nvidia-*"),
        ("*.timer", "*.timer"),
        ("a[!b]?.service", "a[!b]?.service"),
        ("", None),
        ("a b", None),
        ("a/b", None),
        ("a;b*", None),
        ("ü", None),
        ("x" * 248, None),
        ("*" * 256, None),
    ],
)
def test_a_name_is_read_as_systemctl_reads_it(text: str, expected: str | None) -> None:
    assert unit_name(text) == expected


@given(st.text())
def test_any_text_is_a_name_or_none(text: str) -> None:
    name = unit_name(text)
    assert name is None or (unit_name(name) == name and len(name) <= 255)


@pytest.mark.parametrize(
    ("stability", "keys"),
    [
        (
            Stability.STABLE,
            "ActiveState SubState Result UnitFileState DropInPaths NeedDaemonReload MemoryMax MemoryHigh",
        ),
        (Stability.STABLE, "CPUQuotaPerSecUSec TasksMax ExecStart Environment FileDescriptorStoreMax MemorySwapMax"),
        (Stability.STABLE, "Restart RestartUSec StartLimitBurst IPIngressFilterPath Timestamping MemoryAccounting"),
        (Stability.STABLE, "IOReadBandwidthMax MemoryPressureWatch StateDirectoryQuota OOMPolicy OOMScoreAdjust"),
        (
            Stability.VOLATILE,
            "ActiveEnterTimestamp ActiveEnterTimestampMonotonic MainPID ControlPID InvocationID Job",
        ),
        (
            Stability.VOLATILE,
            "ExecMainPID ExecMainStatus ExecMainHandoffTimestamp NRestarts StatusText ControlGroupId",
        ),
        (Stability.VOLATILE, "MemoryCurrent MemoryPeak CPUUsageNSec TasksCurrent IPIngressBytes IOReadBytes"),
        (
            Stability.VOLATILE,
            "EffectiveCPUs EffectiveMemoryMax NFileDescriptorStore StateDirectoryQuotaUsage OOMKills",
        ),
        (Stability.VOLATILE, "NextElapseUSecRealtime LastTriggerUSecMonotonic ActivationDetails Refs NConnections"),
    ],
)
def test_settings_are_stable_and_readings_are_not(stability: Stability, keys: str) -> None:
    rules = default_rules()
    assert {key: rules.classify("SystemD", "a.service", key) for key in keys.split()} == dict.fromkeys(
        keys.split(), stability
    )
