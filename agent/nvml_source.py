"""Which library to load for a host, whether it may be asked at all, and the one child that asks it."""

import contextlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

from agent.host import Host
from agent.nvml_library import find_library
from agent.nvml_reading import Reading, Refusal
from common.model import FailureCode

if TYPE_CHECKING:
    from agent.nvml import NvmlChild

INFORMATION: Final = "/proc/driver/nvidia/gpus"
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


class Source(Protocol):
    """Where a collector's readings come from; tests and recorded hosts bring their own."""

    def read(self, host: Host, driver: str, volatile: bool, deadline: float) -> Reading | Refusal | None:
        """Everything NVML says by `deadline` (time.monotonic()); None when there is no library to ask.

        `driver` is the version of the loaded kernel module, empty when unknown.
        """

    def release(self) -> None:
        """Keep nothing open until the next reading."""


class NvmlSource:
    """Asks the NVML of this machine, never of a host that was only recorded.

    `own` is the root this process lives in: in a container another than the host's, and searched first, because
    what a container runtime put there fits the driver.
    """

    def __init__(self, own: Host | None = None, environment: Mapping[str, str] | None = None) -> None:
        self._own = own or Host()
        self._environment = environment
        self._child: NvmlChild | None = None

    @property
    def child(self) -> "NvmlChild | None":
        """The child in use or abandoned, None before the first reading."""
        return self._child

    def read(self, host: Host, driver: str, volatile: bool, deadline: float) -> Reading | Refusal | None:
        if not self._is_this_machine(host):
            return Refusal(
                FailureCode.UNREADABLE,
                "NVML can be asked only on the machine itself, and this is another one's files",
            )
        environment = os.environ if self._environment is None else self._environment
        hosts = [self._own] if host.is_local else [self._own, host]
        library = find_library(hosts, driver, environment)
        if library is None:
            return None
        if self._child is None or self._child.library != library:
            self.release()
            from agent.nvml import NvmlChild  # most machines never need what starting a process needs

            self._child = NvmlChild(library, host.resolve(INFORMATION), lease_directories(host, environment))
        return self._child.request(volatile, deadline)

    def release(self) -> None:
        if self._child:
            self._child.release()

    def _is_this_machine(self, host: Host) -> bool:
        """A boot has one id, in containers too; another machine's, or a recorded tree's, is another one or none."""
        if host.is_local:
            return True
        try:
            return host.read_text(_BOOT_ID).strip() == Host().read_text(_BOOT_ID).strip()
        except OSError:
            return False


def lease_directories(host: Host, environment: Mapping[str, str]) -> list[str]:
    """Where the lease may be, best first: where every process of the node finds it, then where ours do."""
    import tempfile

    places = [os.path.join(host.resolve("/run"), "eidos"), "/run/eidos"]
    if runtime := environment.get("XDG_RUNTIME_DIR", ""):
        places.append(os.path.join(runtime, "eidos"))
    # In a container with nothing but a read-only root there is no such place at all.
    with contextlib.suppress(FileNotFoundError):
        places.append(os.path.join(tempfile.gettempdir(), f"eidos-{os.geteuid()}"))
    return list(dict.fromkeys(places))
