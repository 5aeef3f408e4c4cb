"""In a container without the host's files, nothing of the container passes for the host's."""

import os
from pathlib import Path

import pytest

from agent.collectors.base import Context, outcome_of
from agent.collectors.container_runtime import ContainerRuntimeCollector
from agent.collectors.firmware import FirmwareCollector
from agent.collectors.network import NetworkCollector
from agent.collectors.release import ReleaseCollector
from agent.collectors.sysctl import SysctlCollector, foreign_namespaces
from agent.collectors.systemd import SystemdCollector
from agent.container_host import ContainerHost
from agent.host import HiddenError, Host
from agent.oneshot import find_host
from common.model import Failed, FailureCode, Ok

NO_FILES = "cannot be seen: the host's files are not mounted in this container"


@pytest.fixture
def host(tmp_path: Path) -> ContainerHost:
    """/proc and /sys as a container has them, and files of its own that a mistake would read."""
    files = {
        "proc/sys/kernel/panic": "0",
        "proc/sys/kernel/hostname": "a-pod",
        "proc/sys/kernel/shmmax": "1",
        "proc/sys/net/core/somaxconn": "128",
        "proc/1/comm": "eidos",
        "sys/class/net/eth0/type": "1",
        "sys/class/dmi/id/sys_vendor": "Vendor",
        "sys/firmware/efi/fw_platform_size": "64",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return ContainerHost(str(tmp_path / "proc"), str(tmp_path / "sys"))


def _context(host: Host) -> Context:
    return Context(host, "node-1", 0.0)


def test_a_pod_without_the_hosts_root_gets_such_a_host() -> None:
    assert not os.path.isdir("/host/etc")
    assert isinstance(find_host({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}), ContainerHost)
    assert not isinstance(find_host({}), ContainerHost)


@pytest.mark.parametrize(
    "path",
    ["/etc/os-release", "/", "/run/systemd/system", "/proc/1/ns/net", "/proc/net/vlan/config", "/proc/self",
     "/sys/class/net", "/sys/class/net/eth0/mtu", "/sys/firmware/efi"],
)  # fmt: skip
def test_what_is_the_containers_cannot_be_read(host: ContainerHost, path: str) -> None:
    with pytest.raises(HiddenError) as raised:
        host.read_text(path)
    outcome = outcome_of(raised.value, path)
    assert isinstance(outcome, Failed)
    assert outcome.code is FailureCode.PERMISSION_DENIED
    assert outcome.reason.startswith(f"{path} cannot be seen: ")
    assert not host.exists(path)
    assert not host.is_dir(path)


@pytest.mark.parametrize(
    "path", ["/proc/sys/kernel/panic", "/proc/10", "/sys/class/dmi/id/sys_vendor", "/proc/network"]
)
def test_what_is_the_kernels_can(host: ContainerHost, path: str) -> None:
    assert host.hidden(path) == ""
    assert host.resolve(path).endswith(path)


def test_every_other_host_hides_nothing(tmp_path: Path) -> None:
    assert Host(str(tmp_path)).hidden("/etc/os-release") == ""


def test_each_collector_says_what_it_could_not_see(host: ContainerHost) -> None:
    release = ReleaseCollector().collect(_context(host)).subtypes["release"]
    assert release == Failed(FailureCode.PERMISSION_DENIED, f"/etc/os-release {NO_FILES}")
    runtime = ContainerRuntimeCollector().collect(_context(host)).subtypes["container-runtime"]
    assert runtime == Failed(FailureCode.PERMISSION_DENIED, f"/etc {NO_FILES}")
    systemd = SystemdCollector().collect(_context(host))
    assert systemd.ending == Failed(FailureCode.PERMISSION_DENIED, f"/run/systemd/system {NO_FILES}")
    network = NetworkCollector().collect(_context(host)).subtypes["network"]
    assert isinstance(network, Failed)
    assert "a network of its own" in network.reason


def test_settings_of_our_namespaces_are_left_out(host: ContainerHost) -> None:
    sysctl = SysctlCollector().collect(_context(host)).subtypes["sysctl"]
    assert isinstance(sysctl, Ok)
    assert sysctl.data == {"/proc/sys/kernel/panic": "0"}
    assert "net" in sysctl.context["left-out"]


def test_firmware_that_is_covered_is_not_taken_for_missing(host: ContainerHost) -> None:
    firmware = FirmwareCollector().collect(_context(host)).subtypes["firmware"]
    assert isinstance(firmware, Ok)
    assert firmware.data["dmi.sys_vendor"] == "Vendor"
    assert "boot-mode" not in firmware.data
    assert "efi" in firmware.context["unreadable"]


def test_namespaces_that_may_not_be_compared_count_as_foreign_in_a_container_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/proc/1/ns is for root: an unprivileged pod with the host mounted cannot tell, a user on the host is there."""

    def refuse(self: Host, path: str) -> str:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(Host, "readlink", refuse)
    assert foreign_namespaces(Host()) == []
    assert foreign_namespaces(Host(str(tmp_path))) == ["ipc", "net", "user", "uts"]
