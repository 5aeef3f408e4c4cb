"""OS.sysctl."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.base import Context, Options
from agent.collectors.sysctl import SysctlCollector, attached_interfaces, fold_values, instance_pattern, parse_sysctl
from agent.host import Host
from common.model import Absent, Failed, FailureCode, Ok, Scalar
from common.stability import Stability, default_rules
from tests.agent.collectors.device_tree import DeviceTree


def read(host: Host, include_volatile: bool = False) -> Ok:
    options = Options(include_volatile=include_volatile)
    outcome = SysctlCollector().collect(Context(host, "node-1", float("inf"), options)).subtypes["sysctl"]
    assert isinstance(outcome, Ok), outcome
    return outcome


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("60\n", {"p": "60"}),
        ("", {"p": ""}),
        ("\n", {"p": ""}),
        ("4\t2\t30\n", {"p": "4\t2\t30"}),
        (" spaced \n", {"p": " spaced "}),
        ("tcp 1048576\nrdma\t 16  32\nudp\n", {"p/tcp": "1048576", "p/rdma": "16 32", "p/udp": ""}),
        ("a 1\n\na 2\na 1\n", {"p/a": "1 | 2 | 1"}),
        ("only\n\n", {"p/only": ""}),
        ("\n\n", {"p": ""}),
    ],
)
def test_parse_sysctl(text: str, data: dict[str, str]) -> None:
    assert parse_sysctl("p", text) == data


@given(st.text() | st.text(st.sampled_from("a \n\t\0")))
def test_parsing_takes_anything(text: str) -> None:
    parsed = parse_sysctl("p", text)
    assert parsed
    assert all(key.startswith("p") and isinstance(value, str) for key, value in parsed.items())


def test_fold_values() -> None:
    assert fold_values({"1"}) == "1"
    assert fold_values({"2", "1", "0"}) == "0 | 1 | 2"


@pytest.mark.parametrize(
    ("directory", "name", "pattern"),
    [
        ("net/ipv4/conf", "veth0", "veth*"),
        ("net/ipv6/neigh", "veth0", "veth*"),
        ("net/mpls/conf", "veth0", "veth*"),
        ("net/ipv4/conf", "ens6", "ena[1-9]*"),
        ("net/ipv4", "veth0", "veth0"),
        ("kernel/conf", "veth0", "veth0"),
        ("kernel/sched_domain", "cpu17", "cpu*"),
        ("kernel/sched_domain/cpu17", "domain0", "domain0"),
    ],
)
def test_instance_pattern(directory: str, name: str, pattern: str) -> None:
    assert instance_pattern(directory, name, {"ens6"}) == pattern


def test_collects(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.attributes("/proc/sys/vm", {"swappiness": 60, "user_reserve_kbytes": 131072})
    tree.write("/proc/sys/kernel/core_modes", "file\npipe")
    tree.write("/proc/sys/net/core/somaxconn", 4096)
    tree.write("/proc/sys/kernel/domainname", b"\xff\n")
    assert read(Host(str(tmp_path))) == Ok(
        {
            "/proc/sys/kernel/core_modes/file": "",
            "/proc/sys/kernel/core_modes/pipe": "",
            "/proc/sys/kernel/domainname": "\ufffd",
            "/proc/sys/net/core/somaxconn": "4096",
            "/proc/sys/vm/swappiness": "60",
            "/proc/sys/vm/user_reserve_kbytes": "131072",
        }
    )


def test_a_proc_mounted_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere/sys/vm").mkdir(parents=True)
    (tmp_path / "elsewhere/sys/vm/swappiness").write_text("1\n")
    (tmp_path / "root").mkdir()
    host = Host(str(tmp_path / "root"), proc=str(tmp_path / "elsewhere"))
    assert read(host).data == {"/proc/sys/vm/swappiness": "1"}


def test_left_out(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    for path in (
        "dev/cdrom/info",
        "fs/binfmt_misc/status",
        "net/ipv4/route/flush",
        "net/ipv4/tcp_fastopen_key",
        "net/ipv6/conf/all/stable_secret",
        "net/ipv6/conf/eth0/stable_secret",
        "net/ipv6/route/flush",
        "vm/compact_memory",
        "vm/drop_caches",
        "vm/stat_refresh",
    ):
        tree.write(f"/proc/sys/{path}", "1")
    (tmp_path / "secret").write_text("outside")
    tree.link("/proc/sys/kernel/outside", "/secret")
    tree.link("/proc/sys/outside", "/")
    os.mkfifo(tmp_path / "proc/sys/fifo")
    tree.write("/proc/sys/vm/swappiness", "60")
    assert read(Host(str(tmp_path)), include_volatile=True) == Ok({"/proc/sys/vm/swappiness": "60"})


def test_a_value_longer_than_a_page_is_read_whole_and_one_without_end_is_named(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    ports = ",".join(map(str, range(30000, 40000)))
    tree.write("/proc/sys/net/ipv4/ip_local_reserved_ports", ports)
    tree.write("/proc/sys/kernel/endless", b"x" * (1 << 20))
    outcome = read(Host(str(tmp_path)))
    assert outcome.data == {"/proc/sys/net/ipv4/ip_local_reserved_ports": ports}
    assert outcome.context == {"unreadable": "/proc/sys/kernel/endless"}


def with_pods(root: Path, number: int) -> DeviceTree:
    tree = DeviceTree(root)
    settings = ("forwarding", "proxy_arp", "rp_filter")
    for interface in ("all", "default", "lo", "eth0", "docker0", *(f"veth{pod:08x}" for pod in range(number))):
        tree.attributes(f"/proc/sys/net/ipv4/conf/{interface}", dict.fromkeys(settings, 1))
        tree.attributes(f"/proc/sys/net/ipv6/neigh/{interface}", {"gc_stale_time": 60})
    return tree


def test_pods_interfaces_fold_and_show_every_value(tmp_path: Path) -> None:
    tree = with_pods(tmp_path, 200)
    tree.write("/proc/sys/net/ipv4/conf/veth00000007/rp_filter", "2")
    tree.write("/proc/sys/net/ipv4/conf/veth00000009/rp_filter", "0")
    data = read(Host(str(tmp_path)), include_volatile=True).data
    assert len(data) == (5 + 1) * (3 + 1)
    assert data["/proc/sys/net/ipv4/conf/veth*/proxy_arp"] == "1"
    assert data["/proc/sys/net/ipv4/conf/veth*/rp_filter"] == "0 | 1 | 2"
    assert data["/proc/sys/net/ipv6/neigh/veth*/gc_stale_time"] == "60"
    assert data["/proc/sys/net/ipv4/conf/docker0/rp_filter"] == "1"


def stable(data: dict[str, Scalar]) -> dict[str, Scalar]:
    return default_rules().select("OS", "sysctl", data, [Stability.STABLE])


@pytest.mark.parametrize("include_volatile", [False, True])
def test_pods_that_come_and_go_change_no_stable_fact(tmp_path: Path, include_volatile: bool) -> None:
    with_pods(tmp_path / "none", 0)
    with_pods(tmp_path / "many", 20).write("/proc/sys/net/ipv4/conf/veth00000003/rp_filter", "2")
    none, many = (read(Host(str(tmp_path / name)), include_volatile).data for name in ("none", "many"))
    assert stable(none) == stable(many)
    assert len(stable(none)) == 5 * (3 + 1)


def test_pods_interfaces_are_not_read_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_pods(tmp_path, 20)
    opened: list[str] = []
    really = os.open

    def watching(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        opened.append(path)
        return really(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", watching)
    read(Host(str(tmp_path)))
    assert "docker0" in opened
    assert not [path for path in opened if path.startswith("veth")]


def test_schedulers_domains_fold_over_cpus(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    for cpu in range(8):
        tree.attributes(
            f"/proc/sys/kernel/sched_domain/cpu{cpu}/domain0", {"flags": 4143, "max_newidle_lb_cost": 100 + cpu}
        )
    data = read(Host(str(tmp_path))).data
    assert data["/proc/sys/kernel/sched_domain/cpu*/domain0/flags"] == "4143"
    assert stable(data) == {"/proc/sys/kernel/sched_domain/cpu*/domain0/flags": "4143"}


def test_interfaces_the_cloud_attaches(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    for name, index, driver in (("ens6", 4, "ena"), ("ens5", 2, "ena"), ("eth0", 3, "virtio_net"), ("eni9", 1, "")):
        device = f"/sys/devices/{name}"
        tree.write(f"{device}/net/{name}/ifindex", index)
        tree.link(f"{device}/net/{name}/device", device)
        if driver:
            tree.link(f"{device}/driver", f"/sys/bus/pci/drivers/{driver}")
        tree.link(f"/sys/class/net/{name}", f"{device}/net/{name}")
        tree.write(f"/proc/sys/net/ipv4/conf/{name}/rp_filter", index)
    host = Host(str(tmp_path))
    assert attached_interfaces(host) == {"ens6"}
    assert stable(read(host).data) == {
        "/proc/sys/net/ipv4/conf/ens5/rp_filter": "2",
        "/proc/sys/net/ipv4/conf/eth0/rp_filter": "3",
        "/proc/sys/net/ipv4/conf/eni9/rp_filter": "1",
    }
    assert read(host, include_volatile=True).data["/proc/sys/net/ipv4/conf/ena[1-9]*/rp_filter"] == "4"


def test_an_interface_called_by_odd_bytes(tmp_path: Path) -> None:
    directory = os.path.join(os.fsencode(tmp_path), b"proc/sys/net/ipv4/conf/\xff\xfe")
    os.makedirs(directory)
    with open(os.path.join(directory, b"rp_filter"), "wb") as file:
        file.write(b"1\n")
    data = read(Host(str(tmp_path))).data
    assert data == {"/proc/sys/net/ipv4/conf/\ufffd\ufffd/rp_filter": "1"}


Refusal = Callable[[str, str, int], None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refusal:
    """Make one system call fail for one name."""

    def install(call: str, name: str, code: int) -> None:
        really = getattr(os, call)

        def refusing(path: str, *arguments: int, dir_fd: int | None = None) -> int:
            if path == name:
                raise OSError(code, os.strerror(code), path)
            return int(really(path, *arguments, dir_fd=dir_fd))

        monkeypatch.setattr(os, call, refusing)

    return install


@pytest.mark.parametrize(
    ("code", "mode", "context"),
    [
        (errno.EACCES, 0o600, {"unreadable": "/proc/sys/kernel/cad_pid"}),
        (errno.EIO, 0o644, {"unreadable": "/proc/sys/kernel/cad_pid"}),
        (errno.EACCES, 0o200, {}),  # only written
        (errno.EOPNOTSUPP, 0o644, {}),  # no value at present
        (errno.ENOENT, 0o644, {}),  # gone since it was listed
    ],
)
def test_files_that_cannot_be_read(
    tmp_path: Path, refuse: Refusal, code: int, mode: int, context: dict[str, str]
) -> None:
    tree = DeviceTree(tmp_path)
    tree.attributes("/proc/sys/kernel", {"cad_pid": 1, "panic": 0})
    (tmp_path / "proc/sys/kernel/cad_pid").chmod(mode)
    refuse("open", "cad_pid", code)
    assert read(Host(str(tmp_path))) == Ok({"/proc/sys/kernel/panic": "0"}, context)


def test_directories_that_go_away_or_are_closed(tmp_path: Path, refuse: Refusal) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/proc/sys/net/ipv4/conf/ens5/rp_filter", "1")
    tree.write("/proc/sys/vm/swappiness", "60")
    refuse("open", "ens5", errno.ENOENT)
    assert read(Host(str(tmp_path))) == Ok({"/proc/sys/vm/swappiness": "60"})
    refuse("open", "net", errno.EACCES)
    assert read(Host(str(tmp_path))) == Ok({"/proc/sys/vm/swappiness": "60"}, {"unreadable": "/proc/sys/net"})


def test_many_unreadable_files_are_counted(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.attributes("/proc/sys/vm", {f"endless{number}": b"x" * (1 << 18) for number in range(10)})
    assert read(Host(str(tmp_path))).context["unreadable"].endswith("/proc/sys/vm/endless7 and 2 more")


def test_absent_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert DeviceTree(tmp_path).collect(SysctlCollector()) == Absent("/proc/sys is not there")

    def closed(*arguments: object, **options: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", closed)
    outcome = DeviceTree(tmp_path).collect(SysctlCollector())
    assert outcome == Failed(FailureCode.PERMISSION_DENIED, "/proc/sys may not be read")


def test_settings_of_our_own_namespaces_do_not_pass_for_the_hosts(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.link("/proc/1/ns/net", "net:[1]")
    tree.link("/proc/1/ns/ipc", "ipc:[1]")
    tree.link("/proc/1/ns/uts", os.readlink("/proc/self/ns/uts"))
    tree.attributes("/proc/sys/kernel", {"shmmax": 1, "sem": "1 2 3 4", "hostname": "node-1", "panic": 0})
    tree.write("/proc/sys/net/core/somaxconn", 128)
    outcome = read(Host(str(tmp_path)))
    assert outcome.data == {"/proc/sys/kernel/hostname": "node-1", "/proc/sys/kernel/panic": "0"}
    assert outcome.context == {"left-out": "settings of another ipc, net namespace than the host's"}


def test_this_machine() -> None:
    data = read(Host()).data
    assert data["/proc/sys/kernel/ostype"] == "Linux"
    assert "/proc/sys/net/core/somaxconn" in data
    assert "/proc/sys/vm/stat_refresh" not in data
    assert not [key for key in data if key.endswith("stable_secret")]
