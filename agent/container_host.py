"""A host as a container sees it that the host's files are not mounted in (restricted mode, PSS restricted).

The kernel is the host's, so most of /proc and /sys is. What shows the container instead must not pass for the host:
its file system, its processes, its network, and what container runtimes cover with empty directories.
"""

from typing import Final

from agent.host import HiddenError, Host

_NOWHERE: Final = "/nonexistent"  # hier(7) and passwd(5) keep this name free: a root in which nothing is

_FILES: Final = "the host's files are not mounted in this container"
_NETWORK: Final = "this container has a network of its own and does not see the host's"
_PROCESSES: Final = "this container sees its own processes, not the host's"
_COVERED: Final = "the container runtime hides it from containers without privileges"

_HIDDEN: Final = {
    "/proc/1": _PROCESSES,
    "/proc/net": _NETWORK,
    "/proc/self": _PROCESSES,
    "/sys/class/net": _NETWORK,
    # Masked paths of the OCI runtimes' default configuration (containerd: oci/spec.go, Docker: oci/defaults.go).
    "/proc/acpi": _COVERED,
    "/proc/keys": _COVERED,
    "/proc/scsi": _COVERED,
    "/sys/devices/virtual/powercap": _COVERED,
    "/sys/firmware": _COVERED,
}


class ContainerHost(Host):
    """The part of a host that its kernel shows in any container. `proc` and `sys` are where we see it."""

    def __init__(self, proc: str = "/proc", sys: str = "/sys") -> None:
        super().__init__(_NOWHERE, proc=proc, sys=sys)

    def hidden(self, path: str) -> str:
        below = f"{path.rstrip('/')}/"
        if not below.startswith(("/proc/", "/sys/")):
            return _FILES
        return next((why for place, why in _HIDDEN.items() if below.startswith(f"{place}/")), "")

    def resolve(self, path: str) -> str:
        if why := self.hidden(path):
            raise HiddenError(path, why)
        return super().resolve(path)
