"""Two documents of a fleet compared: everything that drifted, and nothing that merely came or went."""

from msgspec.structs import replace

from aggregator.cluster_facts import Read, fold_cluster
from aggregator.fleet_diff import FleetChange, fleet_diff
from aggregator.ledger import Expected
from aggregator.names import NodeNames
from common.diff import Ignore, Incomparable
from common.fleet import FleetSnapshot
from common.fleet_api import DriftFact
from common.model import Collected, CollectionEntry, MeasurementType, Ok, Scalar, State
from tests.aggregator.query.test_facts import document_of, made

OS, GPU, SYSTEMD = MeasurementType.OS, MeasurementType.GPU, MeasurementType.SYSTEMD
K8S, TOPOLOGY = MeasurementType.K8S, MeasurementType.NODE_TOPOLOGY


def fleet(version: str, zone: str, **nodes: Scalar) -> FleetSnapshot:
    """Nodes with one fact each, in a cluster of that version, all in the same zone."""
    document = document_of(*(made(node, {(OS, "x"): {"k": value, "same": 1}}) for node, value in nodes.items()))
    server: dict[str, Scalar] = {"version": version}
    read = Read(Collected.of({"server": Ok(server)}), [Expected(node, labels={"zone": zone}) for node in nodes])
    return replace(document, cluster=fold_cluster(read, NodeNames(nodes)))


def test_nodes_the_cluster_and_who_came_and_went() -> None:
    before = fleet("v1", "a", n1=1, n2=1, n3=1, gone=1)
    after = fleet("v2", "a", n1=1, n2=2, n3=2, new=5)
    result = fleet_diff(before, after)
    assert (result.added, result.removed) == ("new", "gone")
    assert result.cluster == [DriftFact(K8S, "server", "version", "v1", "v2")]
    assert result.changes == [FleetChange(2, "n[2-3]", [DriftFact(OS, "x", "k", 1, 2)])]
    assert result.has_drift


def test_labels_are_changes_of_nodes() -> None:
    result = fleet_diff(fleet("v1", "a", n1=1, n2=1), fleet("v1", "b", n1=1, n2=1))
    assert result.changes == [FleetChange(2, "n[1-2]", [DriftFact(TOPOLOGY, "label", "zone", "a", "b")])]


def test_all_changes_of_the_same_nodes_are_told_together() -> None:
    result = fleet_diff(fleet("v1", "a", n1=1, n2=1), fleet("v1", "b", n1=2, n2=2))
    facts = [DriftFact(OS, "x", "k", 1, 2), DriftFact(TOPOLOGY, "label", "zone", "a", "b")]
    assert result.changes == [FleetChange(2, "n[1-2]", facts)]


def test_what_is_ignored_and_what_only_came_is_no_drift() -> None:
    before, after = fleet("v1", "a", n1=1), fleet("v2", "b", n1=2, new=3)
    ignored = Ignore(["OS.x", "K8s.server.*", "NodeTopology"]).__contains__
    result = fleet_diff(before, after, ignored)
    assert (result.cluster, result.changes, result.added) == ([], [], "new")
    assert not result.has_drift
    assert not fleet_diff(before, before).has_drift


def test_more_changes_than_a_watcher_is_told_of() -> None:
    before = fleet("v1", "a", **{f"n{n}": 0 for n in range(30)})
    after = fleet("v1", "a", **{f"n{n}": n + 1 for n in range(30)})
    assert len(fleet_diff(before, after).changes) == 30


def test_what_was_not_asked_for_is_not_compared() -> None:
    """Even where agents have told in an earlier run how its collectors ended."""
    kinds = {OS: "x", GPU: "y", SYSTEMD: "z"}
    lines = [CollectionEntry(kind.value, kind, State.OK, subtypes=(name,)) for kind, name in kinds.items()]

    def of(value: int, *asked: MeasurementType) -> FleetSnapshot:
        whole = document_of(made("n1", {place: {"k": value} for place in kinds.items()}, *lines))
        return replace(whole, measurements=[part for part in whole.measurements if part.type in asked])

    result = fleet_diff(of(1, OS), of(1, GPU, SYSTEMD))
    assert not result.has_drift
    assert [(entry.type, entry.side) for entry in result.incomparable] == [
        (GPU, "before"),
        (OS, "after"),
        (SYSTEMD, "before"),
    ]
    result = fleet_diff(of(1, *kinds), of(2, OS))
    assert result.changes == [FleetChange(1, "n1", [DriftFact(OS, "x", "k", 1, 2)])]
    assert [(entry.type, entry.side) for entry in result.incomparable] == [(GPU, "after"), (SYSTEMD, "after")]
    assert fleet_diff(of(1, *kinds), of(1, *kinds)).incomparable == []


def test_the_cluster_was_not_asked_for() -> None:
    document = replace(fleet("v1", "a", n1=1), collection=[])
    expected = [Expected("n1", labels={"zone": "a"})]
    labels = replace(document, cluster=fold_cluster(Read(None, expected), NodeNames(["n1"])))
    for before, after, side in ((document, labels, "after"), (labels, document, "before")):
        result = fleet_diff(before, after)
        assert not result.has_drift
        assert result.incomparable == [Incomparable(K8S, side, "not collected")]
