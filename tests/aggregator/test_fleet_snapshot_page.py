"""docs/fleet-snapshot.md: its example is what is written, and no field is left undescribed."""

import inspect
import re
from pathlib import Path

import msgspec

import common.fleet
from aggregator.cluster_facts import Read, fold_cluster
from aggregator.document import fleet_snapshot
from aggregator.fold import fold
from aggregator.ledger import Entry, Expected
from aggregator.names import NodeNames
from aggregator.unfold import unfold
from common.fleet import FleetMetadata, FleetSnapshot, NodeState
from common.formats import Format, dump_plain
from common.model import (
    Collected,
    CollectionEntry,
    Failed,
    FailureCode,
    MeasurementType,
    Ok,
    Scalar,
    Snapshot,
    State,
    Subtype,
    in_order,
)
from common.topology import TaintId
from tests.common.test_section import snapshot_of
from tests.fleet.contents import facts_of

PAGE = (Path(__file__).parents[2] / "docs" / "fleet-snapshot.md").read_text()
NODES = [f"gpu-{number:02}" for number in range(1, 9)]
SILENT = "gpu-07"
NEVER_SEEN = "gpu-08"


def example() -> FleetSnapshot:
    """Eight nodes: one odd, one whose network could not be read, one that did not answer, one without an agent."""
    nodes, contents = facts_of(map(_snapshot, NODES[:-1]))
    names = NodeNames(NODES)
    metadata = FleetMetadata("0.1.0", "6b01ae54-27", "2026-01-01T12:00:00Z")
    return fleet_snapshot(metadata, list(map(_entry, NODES)), fold(nodes, contents, names), names)


def _snapshot(node: str) -> Snapshot:
    release: dict[str, Scalar] = {"ID": "ubuntu", "VERSION_ID": "24.04"}
    sysctl: dict[str, Scalar] = {"/proc/sys/vm/swappiness": "10" if node == "gpu-05" else "60"}
    unread = node == "gpu-06"
    network = (
        CollectionEntry("network", MeasurementType.OS, State.FAILED, "", FailureCode.TIMEOUT, "not within 9 s")
        if unread
        else CollectionEntry("network", MeasurementType.OS, State.OK, subtypes=("network",))
    )
    read = [Subtype("release", release), Subtype("sysctl", sysctl)]
    if not unread:
        read.append(Subtype("network", {"eth0.mtu": 9000}))
    return snapshot_of(node, in_order([(MeasurementType.OS, subtype) for subtype in read]), [network])


def _entry(node: str) -> Entry:
    if node == SILENT:
        return Entry(node, NodeState.TIMEOUT, "no answer within 10 s", facts_at=1767265200.0, version="0.1.0")
    if node == NEVER_SEEN:
        return Entry(node, NodeState.NO_AGENT, "no agent has connected")
    if node == "gpu-06":
        return Entry(node, NodeState.PARTIAL, "network (timeout)", fresh=True, version="0.1.0")
    return Entry(node, NodeState.OK, fresh=True, version="0.1.0")


def test_the_example_is_what_is_written_and_unfolds() -> None:
    shown, _ = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert shown == dump_plain(example(), Format.YAML).decode()
    facts = unfold(example())
    assert sorted(facts) == NODES[:-1]
    assert facts["gpu-05"][MeasurementType.OS, "sysctl"] == {"/proc/sys/vm/swappiness": "10"}
    assert (MeasurementType.OS, "network") not in facts["gpu-06"]


def test_the_clusters_part_is_what_is_written() -> None:
    _, shown = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    tainted = (TaintId("nvidia.com/gpu", "NoSchedule", "present"),)
    labels = [{"kubernetes.io/hostname": node, "kubernetes.io/arch": "amd64"} for node in NODES]
    nodes = [
        Expected(node, labels=mine, taints=tainted if node < SILENT else ())
        for node, mine in zip(NODES, labels, strict=True)
    ]
    server: dict[str, Scalar] = {"version": "v1.36.3", "platform": "linux/amd64"}
    forbidden = Failed(FailureCode.API_FORBIDDEN, "list pods is forbidden: ...")
    read = Read(Collected.of({"server": Ok(server), "image": forbidden}), nodes)
    assert shown == dump_plain({"cluster": fold_cluster(read, NodeNames(NODES))}, Format.YAML).decode()


def test_every_field_is_described() -> None:
    types = [
        kind
        for _, kind in inspect.getmembers(common.fleet, inspect.isclass)
        if issubclass(kind, msgspec.Struct) and kind.__module__ == common.fleet.__name__
    ]
    assert len(types) > 10
    named = set(re.findall(r"`([A-Za-z-]+)`", PAGE))
    fields = {field.encode_name for kind in types for field in msgspec.structs.fields(kind)}
    assert not fields - named


def test_every_state_is_described() -> None:
    assert set(NodeState) <= set(re.findall(r"`([a-z-]+)`", PAGE))


if __name__ == "__main__":
    print(dump_plain(example(), Format.YAML).decode(), end="")
