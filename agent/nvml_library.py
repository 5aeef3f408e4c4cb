"""Where NVIDIA's management library is: in our own root first, then wherever a host puts it.

Searching under the host's root is what makes a RuntimeClass and a GPU allocation unnecessary. The library needs
nothing but libc, libdl, libm and libpthread, so a host's loads into a container whose glibc is not older than it.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from agent.host import Host

SONAME: Final = "libnvidia-ml.so.1"

# Driver packages of the distributions (the multiarch directory stands for the machine's own), runfile installers.
_DIRECTORIES: Final = (
    "/usr/lib/{multiarch}",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/{multiarch}/nvidia/current",
    "/lib/{multiarch}",
    "/lib64",
    "/usr/lib/wsl/lib",  # Windows Subsystem for Linux
    "/opt/nvidia/lib64",
    "/run/opengl-driver/lib",  # NixOS
)
# Roots in which a driver is installed apart from the host's own files.
_DRIVER_ROOTS: Final = (
    "",
    "/run/nvidia/driver",  # GPU operator's driver container
)
_SPECIAL_DIRECTORIES: Final = (
    "/home/kubernetes/bin/nvidia/lib64",  # GKE on Container-Optimized OS
    "/var/lib/nvidia/lib64",  # Container-Optimized OS by itself
    "/usr/local/nvidia/lib64",  # what GKE mounts into containers
    "/usr/local/glibc/usr/lib",  # Talos system extensions, newest layout first
    "/usr/local/glibc/lib",
    "/usr/local/lib",
)
_CACHE_LIMIT: Final = 8 << 20
# e_machine of ELF (elf.h), little-endian
_MACHINES: Final = {"x86_64": 62, "aarch64": 183, "ppc64le": 21}
_CACHED: Final = re.compile(rb"(/[\x21-\x7e]{1,4000}/libnvidia-ml\.so\.1)\x00")
_VERSIONED: Final = re.compile(r"libnvidia-ml\.so\.(\d+\.\d+(?:\.\d+)*)$")


def parse_ld_cache(content: bytes) -> list[str]:
    """Paths of the library that /etc/ld.so.cache (ldconfig(8)) names, in its order, each once.

    The cache ends in a table of NUL-terminated strings in every version of its format; the paths are taken from it.
    """
    return list(dict.fromkeys(match.decode("ascii") for match in _CACHED.findall(content)))


def is_loadable(header: bytes, machine: str) -> bool:
    """Whether the first 20 bytes of a file are those of a 64-bit little-endian ELF object for this machine."""
    if len(header) < 20 or header[:6] != b"\x7fELF\x02\x01":
        return False
    return int.from_bytes(header[18:20], "little") == _MACHINES.get(machine, -1)


def search_paths(host: Host, machine: str, library_path: str = "") -> Iterator[str]:
    """Every path worth looking at, best first. `library_path` is as LD_LIBRARY_PATH: our own environment's."""
    yield from (f"{directory}/{SONAME}" for directory in library_path.split(":") if directory.startswith("/"))
    ordinary = [directory.format(multiarch=f"{machine}-linux-gnu") for directory in _DIRECTORIES]
    for root in _DRIVER_ROOTS:
        try:
            cached = parse_ld_cache(host.read_bytes(f"{root}/etc/ld.so.cache", _CACHE_LIMIT))
        except OSError:
            cached = []
        yield from (root + path for path in cached)
        yield from (f"{root}{directory}/{SONAME}" for directory in ordinary)
    yield from (f"{directory}/{SONAME}" for directory in _SPECIAL_DIRECTORIES)


def find_library(
    hosts: Iterable[Host], driver: str = "", environment: Mapping[str, str] | None = None, machine: str = ""
) -> str | None:
    """The library to load, as a path for us, or None.

    `hosts` are the roots to search in order: our own, then the host's. A host may hold the leftovers of another
    driver; the one whose file name carries the version of the loaded kernel module (`driver`) wins.
    """
    machine = machine or os.uname().machine
    first: str | None = None
    for number, host in enumerate(hosts):
        own_path = (environment or {}).get("LD_LIBRARY_PATH", "") if number == 0 else ""
        for path in dict.fromkeys(search_paths(host, machine, own_path)):
            real = _loadable(host, path, machine)
            if real is None:
                continue
            named = _VERSIONED.search(real)
            if not driver or (named and named[1] == driver):
                return real
            first = first or real
    return first


def _loadable(host: Host, path: str, machine: str) -> str | None:
    try:
        # Seen directly, a host leaves links to the kernel; here the name they end at matters.
        real = os.path.realpath(path) if host.is_local else host.resolve(path)
        descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        return real if is_loadable(os.read(descriptor, 20), machine) else None
    except OSError:
        return None
    finally:
        os.close(descriptor)
