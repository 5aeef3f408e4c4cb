"""One snapshot of this node, from start to document: what `eidos snapshot` and the Job do."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.collect import DEFAULT_DEADLINE, Answer, node_name, run, select, snapshot
from agent.collectors.base import Options
from agent.collectors.registry import collectors
from agent.container_host import ContainerHost
from agent.host import Host
from common.errors import Code, RequirementError, UsageError
from common.model import CollectionEntry, MeasurementType, Snapshot, State

_MOUNTED_ROOT = "/host"


@dataclass(frozen=True, slots=True)
class Request:
    """What to collect, and how long it may take."""

    collectors: tuple[str, ...] = ()
    """Names or measurement types; empty means all."""
    options: Options = field(default_factory=Options)
    seconds: float = DEFAULT_DEADLINE
    """Deadline of each collector; they run side by side, so of all of them."""


def find_host(environment: Mapping[str, str], root: str | None = None) -> Host:
    """The host to read: the given root, else EIDOS_HOST_ROOT, else where we find it.

    In a pod the host's root is mounted at /host. Where it is not mounted (restricted mode) the container's own
    files must not pass for the host's: only what its kernel shows of the host is then read.
    """
    chosen = root or environment.get("EIDOS_HOST_ROOT")
    if chosen:
        if not os.path.isdir(chosen):
            raise UsageError(
                f"the host root {chosen!r} is not a directory", "Give the place where the host's / is mounted."
            )
        return Host(chosen)
    if "KUBERNETES_SERVICE_HOST" not in environment:
        return Host()
    if not os.path.isdir(os.path.join(_MOUNTED_ROOT, "etc")):
        return ContainerHost()
    # A root mounted without what is mounted below it shows empty directories there; ours then show the same kernel.
    return Host(
        _MOUNTED_ROOT,
        proc=None if os.path.exists(os.path.join(_MOUNTED_ROOT, "proc/sys")) else "/proc",
        sys=None if os.path.exists(os.path.join(_MOUNTED_ROOT, "sys/class")) else "/sys",
    )


def take(
    request: Request,
    host: Host,
    environment: Mapping[str, str],
    on_answer: Callable[[Answer], None] = lambda answer: None,
) -> Snapshot:
    """Read the host now. Trouble with single sources is in the document's `collection`, not an error."""
    node = node_name(environment, host)
    chosen = select(collectors(), request.collectors)
    answers = run(chosen, host, node, request.options, request.seconds, on_answer)
    return snapshot(answers, node, request.options.include_volatile)


def gpu_entry(document: Snapshot) -> CollectionEntry | None:
    """How the GPU collector as a whole ended, or None when it was not asked."""
    entries = (e for e in document.collection if e.type is MeasurementType.GPU and not e.subtype)
    return next(entries, None)


def require_gpu(document: Snapshot) -> None:
    """Raise RequirementError unless GPUs were read."""
    entry = gpu_entry(document)
    if entry is None:
        raise RequirementError(
            Code.GPU_REQUIRED, "a GPU is required, but GPUs were not asked for", "Add gpu to --collectors."
        )
    if entry.state in (State.ABSENT, State.FAILED):
        raise RequirementError(
            Code.GPU_REQUIRED,
            f"a GPU is required, but on node {document.metadata.source_node} there is none to read: {entry.reason}",
            "Choose a GPU node, or mend the driver there.",
        )
