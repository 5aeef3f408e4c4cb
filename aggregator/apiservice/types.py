"""The objects of group fleet.eidos.nvidia.com as kubectl sees them. Types only; `kubectl explain` shows the texts."""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from common.fleet import FLEET_API_VERSION

FLEET: Final = "eidos"
"""The name of the one Fleet."""


class ObjectMeta(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What every Kubernetes object says of itself; of these fields the aggregator fills what it has."""

    name: Annotated[str, Meta(description="Unique among the objects of its kind.")] = ""
    generate_name: Annotated[str, Meta(description="Beginning of a name to be made up, when no name is given.")] = ""
    uid: Annotated[str, Meta(description="Follows from its kind and name.")] = ""
    resource_version: Annotated[str, Meta(description="Changes with the object.")] = ""
    creation_timestamp: Annotated[str | UnsetType, Meta(description="When it was made (RFC 3339).")] = UNSET
    labels: Annotated[dict[str, str], Meta(description="Of a NodeSnapshot: the labels of its Node.")] = {}
    annotations: Annotated[dict[str, str], Meta(description="Free text by key.")] = {}


class NodeSnapshotStatus(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """How the node is in the fleet, and the facts that say most."""

    connected: Annotated[bool, Meta(description="Whether its agent has a link to the aggregator now.")]
    state: Annotated[
        str,
        Meta(
            description="How it ended in the last snapshot of the whole fleet: ok, partial, timeout, unreachable, "
            "no-agent, not-ready or stale. Empty before the first."
        ),
    ] = ""
    reason: Annotated[str, Meta(description="Why it ended so.")] = ""
    collected_at: Annotated[str, Meta(description="When the facts known of it were collected (RFC 3339).")] = ""
    group: Annotated[
        int | UnsetType, Meta(description="The number of its group of equal nodes in the last snapshot.")
    ] = UNSET
    group_id: Annotated[str, Meta(description="Names the group's facts: equal in equal groups, for ever.")] = ""
    gpus: Annotated[int | UnsetType, Meta(description="How many NVIDIA GPUs it has (GPU.smi.gpu-count).")] = UNSET
    gpu_model: Annotated[str, Meta(description="The model of the first (GPU.smi.gpu.model).")] = ""
    driver: Annotated[str, Meta(description="NVIDIA driver (GPU.smi.driver).")] = ""
    cuda: Annotated[str, Meta(description="The newest CUDA its driver supports (GPU.smi.cuda-version).")] = ""
    kernel: Annotated[str, Meta(description="Kernel release.")] = ""
    os: Annotated[str, Meta(description="Distribution (OS.release.PRETTY_NAME).")] = ""
    agent_version: Annotated[str, Meta(description="Version of the agent that collected the facts.")] = ""


class NodeSnapshot(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, rename="camel"):
    """One node of the fleet: how it is, and its last known snapshot. Read only; the agents write it."""

    api_version: Annotated[str, Meta(description="fleet.eidos.nvidia.com/v1alpha1")]
    kind: Annotated[str, Meta(description="NodeSnapshot")]
    metadata: Annotated[ObjectMeta, Meta(description="Name and labels are the Node's.")]
    status: NodeSnapshotStatus
    snapshot: Annotated[
        Raw | UnsetType,
        Meta(
            description="The node's Snapshot, exactly as `eidos snapshot` would have written it there. Left out of "
            "lists and watches unless asked for with the query parameter include=snapshot."
        ),
    ] = UNSET


class FleetSnapshotSpec(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """What is asked, and of which nodes. All optional: without anything, everything of all nodes."""

    nodes: Annotated[
        str, Meta(description="Only these nodes: a node set such as gpu-[001-016],login.", max_length=64_000)
    ] = ""
    selector: Annotated[
        str,
        Meta(description="Only nodes with these labels, as kubectl's -l: a=b,c!=d,e in (f,g),!h.", max_length=4096),
    ] = ""
    sections: Annotated[
        list[str],
        Meta(description="Only these measurement types: K8s, GPU, OS, SystemD, NodeTopology.", max_length=5),
    ] = []
    seconds: Annotated[
        Annotated[float, Meta(gt=0, le=3600)] | UnsetType,
        Meta(description="Deadline: the run ends then, answered or not."),
    ] = UNSET


class FleetSnapshotStatus(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """How far the run is."""

    phase: Annotated[str, Meta(description="Queued, Collecting, Folding, Done or Failed.")]
    run: Annotated[str, Meta(description="The run's id. Equal requests made at the same time share one.")]
    started_at: Annotated[str, Meta(description="When it was asked for (RFC 3339).")] = ""
    expected: Annotated[int, Meta(description="Nodes it is about.")] = 0
    answered: Annotated[int, Meta(description="Nodes that have answered.")] = 0
    states: Annotated[dict[str, int], Meta(description="Nodes by state.")] = {}
    seconds: Annotated[float | UnsetType, Meta(description="How long it took, once it has ended.")] = UNSET
    groups: Annotated[int | UnsetType, Meta(description="Groups of equal nodes in the document.")] = UNSET
    outliers: Annotated[int | UnsetType, Meta(description="Outliers in the document.")] = UNSET
    message: Annotated[str, Meta(description="Why it failed.")] = ""
    document: Annotated[
        str,
        Meta(description="Where the whole document is, for `kubectl get --raw`; empty when it is not (longer) kept."),
    ] = ""


class FleetSnapshot(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, rename="camel"):
    """A run: all nodes, or some, asked at the same time. Creating one starts it; the last few are kept."""

    api_version: Annotated[str, Meta(description="fleet.eidos.nvidia.com/v1alpha1")]
    kind: Annotated[str, Meta(description="FleetSnapshot")]
    metadata: Annotated[ObjectMeta, Meta(description="Its name is yours to choose.")]
    spec: FleetSnapshotSpec = FleetSnapshotSpec()
    status: FleetSnapshotStatus | UnsetType = UNSET


class FleetStatus(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The fleet in numbers."""

    nodes: Annotated[int, Meta(description="Nodes that should be there.")]
    connected: Annotated[int, Meta(description="Nodes whose agent has a link now.")]
    states: Annotated[dict[str, int], Meta(description="Nodes by state in the last snapshot of all.")] = {}
    groups: Annotated[int | UnsetType, Meta(description="Groups of equal nodes in it.")] = UNSET
    outliers: Annotated[int | UnsetType, Meta(description="Outliers in it.")] = UNSET
    snapshot_at: Annotated[str, Meta(description="When it was taken (RFC 3339); empty before the first.")] = ""
    run: Annotated[str, Meta(description="The run that took it.")] = ""


class Fleet(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, rename="camel"):
    """All nodes together; there is one, `eidos`. Its subresource `api` is the HTTP API."""

    api_version: Annotated[str, Meta(description="fleet.eidos.nvidia.com/v1alpha1")]
    kind: Annotated[str, Meta(description="Fleet")]
    metadata: Annotated[ObjectMeta, Meta(description="Its name is eidos.")]
    status: FleetStatus


Item = NodeSnapshot | FleetSnapshot | Fleet

__all__ = ["FLEET", "FLEET_API_VERSION", "Fleet", "FleetSnapshot", "Item", "NodeSnapshot", "ObjectMeta"]
