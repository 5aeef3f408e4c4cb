"""What a collector is and what it is given."""

import errno
from dataclasses import dataclass, field
from typing import Final, Protocol

from agent.host import FileTooLargeError, HiddenError, Host
from common.model import Absent, Collected, Failed, FailureCode, MeasurementType

DEFAULT_UNITS: Final = ("containerd.service", "docker.service", "kubelet.service")


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller may choose about a collection."""

    systemd_units: tuple[str, ...] = DEFAULT_UNITS
    """Units to read; shell patterns are matched against the units systemd has loaded."""
    include_volatile: bool = False
    """Keep facts that change by themselves; costly live readings may be skipped otherwise."""
    max_nodes_per_entry: int = 0
    """Most node names in one NodeTopology entry; 0 means all."""
    kubeconfig: str | None = None
    """Path of a kubeconfig; None means the usual places, then the pod's own service account."""
    kube_context: str | None = None
    """Context within the kubeconfig; None means its current one."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a collector is given for one collection."""

    host: Host
    node: str
    """The node's name, as in `metadata.source-node`."""
    deadline: float
    """time.monotonic() by which the collector must have returned; it is abandoned after that."""
    options: Options = field(default_factory=Options)


class Collector(Protocol):
    """Reads one source. Must be safe to run beside the others, in a thread of its own."""

    @property
    def name(self) -> str:
        """Name for `--collectors` and `collection:`, unique, lower case."""

    @property
    def type(self) -> MeasurementType:
        """The measurement its subtypes belong to."""

    def collect(self, ctx: Context) -> Collected:
        """Read everything now. Foreseeable trouble is an outcome, not an exception."""


def outcome_of(error: OSError, path: str) -> Absent | Failed:
    """What an error on reading a host file means: not there is absent, anything else is a failure."""
    if isinstance(error, FileNotFoundError | NotADirectoryError) or error.errno in (errno.ENODEV, errno.ENXIO):
        return Absent(f"{path} is not there")
    if isinstance(error, HiddenError):
        return hidden(path, error.why)
    if isinstance(error, PermissionError):
        return Failed(FailureCode.PERMISSION_DENIED, f"{path} may not be read")
    if isinstance(error, FileTooLargeError):
        return Failed(FailureCode.TOO_LARGE, f"{path} is {error.strerror}")
    return Failed(FailureCode.UNREADABLE, f"{path} cannot be read: {error.strerror or type(error).__name__}")


def hidden(path: str, why: str) -> Failed:
    """The outcome for what cannot be seen from our container (Host.hidden)."""
    return Failed(FailureCode.PERMISSION_DENIED, f"{path} cannot be seen: {why}")
