"""The kernel of a constructed host: command line, settings, modules, release."""

from pathlib import Path
from typing import Final

from tests.hosts.archive import load
from tests.hosts.tree import Content, Tree

_COMMON: Final = Path(__file__).parent / "linux.txt"
_BOOT: Final = "00000000-0000-4000-8000-00000000b007"

# What differs between interfaces in practice, of some hundred settings each has.
_IPV4: Final[dict[str, Content]] = {
    "accept_redirects": 0,
    "accept_source_route": 0,
    "arp_announce": 0,
    "arp_ignore": 0,
    "forwarding": 1,
    "log_martians": 0,
    "proxy_arp": 0,
    "rp_filter": 2,
    "send_redirects": 1,
}
_IPV6: Final[dict[str, Content]] = {
    "accept_ra": 0,
    "addr_gen_mode": 0,
    "autoconf": 1,
    "disable_ipv6": 0,
    "forwarding": 1,
    "hop_limit": 64,
    "mtu": 1500,
    "use_tempaddr": 0,
}
_NEIGHBOURS: Final[dict[str, Content]] = {"base_reachable_time_ms": 30000, "gc_stale_time": 60, "mcast_solicit": 3}

_POD: Final[dict[str, Content]] = {"proxy_arp": 1, "rp_filter": 0}


def kernel(tree: Tree, node: str, release: str, cmdline: str, settings: dict[str, Content]) -> None:
    """The common settings with this host's own over them; `settings` are named from below /proc/sys."""
    tree.files.update(load(_COMMON).files)
    tree.write("/proc/cmdline", cmdline)
    tree.write_all(
        "/proc/sys/kernel",
        {
            "hostname": node,
            "osrelease": release,
            "random/boot_id": _BOOT,
            "random/uuid": _BOOT.replace("b007", "0001"),
        },
    )
    tree.write_all("/proc/sys", settings)


def size_settings(tree: Tree, cpus: int, memory_kib: int) -> None:
    """Settings that the kernel derives from the size of the machine."""
    threads = min(memory_kib // 128, 1 << 30)
    pages = memory_kib // 4 // 8  # network protocols may take an eighth of all pages
    tcp = f"{pages * 3 // 4}\t{pages}\t{pages * 3 // 2}"
    tree.write_all(
        "/proc/sys",
        {
            "fs/epoll/max_user_watches": memory_kib * 1024 // 25 // 128,
            "fs/fanotify/max_user_marks": min(memory_kib // 120, 1048576),
            "kernel/threads-max": threads,
            "kernel/watchdog_cpumask": f"0-{cpus - 1}",
            "net/ipv4/tcp_mem": tcp,
            "net/ipv4/udp_mem": f"{pages * 3 // 2}\t{pages * 2}\t{pages * 3}",
            "vm/min_free_kbytes": min(65536 * max(1, memory_kib // (512 << 20)), 4194304),
            **{
                f"user/max_{kind}_namespaces": threads // 2
                for kind in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
            },
        },
    )


def interface_settings(tree: Tree, interfaces: dict[str, int], pods: list[str]) -> None:
    """net/ipv4 and net/ipv6 settings of the node's interfaces (name to MTU), and of those of pods."""
    for name, mtu in {"all": 1500, "default": 1500, "lo": 65536, **interfaces, **dict.fromkeys(pods, 1500)}.items():
        tree.write_all(f"/proc/sys/net/ipv4/conf/{name}", _IPV4 | (_POD if name in pods else {}))
        tree.write_all(f"/proc/sys/net/ipv6/conf/{name}", _IPV6 | {"mtu": mtu})
        if name != "all":
            tree.write_all(f"/proc/sys/net/ipv4/neigh/{name}", _NEIGHBOURS)
    for version, sizes in (("ipv4", (1024, 2048, 4096)), ("ipv6", (1024, 2048, 4096))):
        for number, size in enumerate(sizes, start=1):
            tree.write(f"/proc/sys/net/{version}/neigh/default/gc_thresh{number}", size)


def modules(tree: Tree, names: str) -> None:
    """/proc/modules; sizes and use counts are made up, as every kernel build has others."""
    tree.write(
        "/proc/modules",
        "\n".join(
            f"{name} {4096 * (4 + len(name))} {len(name) % 3} - Live 0x0000000000000000" for name in names.split()
        ),
    )


def files(tree: Tree, name: str) -> None:
    """What stands in a host's files as it is: NAME.txt beside this."""
    static = load(Path(__file__).parent / f"{name}.txt")
    tree.files.update(static.files)
    tree.links.update(static.links)
    tree.errors.update(static.errors)
    tree.directories.update(static.directories)
