"""The cluster's own facts: folded and unfolded as one-shot mode writes them, and what of them changed."""

import random
from collections.abc import Mapping, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from aggregator.cluster_drift import cluster_drift, topology_drift
from aggregator.cluster_facts import Read, fold_cluster, unfold_cluster, with_node
from aggregator.cluster_side import ClusterSide
from aggregator.document import fleet_snapshot
from aggregator.drift import Change
from aggregator.excerpt import excerpt_of_fleet
from aggregator.fold import fold
from aggregator.ledger import Entry, Expected
from aggregator.names import NodeNames
from aggregator.published import read_published
from common.errors import InputError
from common.fleet import FleetMetadata, FleetSnapshot, NodeLabel, NodeState
from common.fleet_api import DriftFact
from common.formats import Format, dump_plain
from common.model import Absent, Collected, CollectionEntry, Failed, FailureCode, MeasurementType, Ok, Scalar, State
from common.topology import TaintId, Topology
from tests.common.test_section import snapshot_of
from tests.fleet.contents import MemoryContents

K8S, TOPOLOGY = MeasurementType.K8S, MeasurementType.NODE_TOPOLOGY
SERVER: dict[str, Scalar] = {"version": "v1.36.3", "platform": "linux/amd64"}
GOOD = Collected.of({"server": Ok(SERVER), "image": Ok({"nginx": "1"}), "policy": Absent("there is none")})
FORBIDDEN = Failed(FailureCode.API_FORBIDDEN, "list pods is forbidden")
AWAY = Collected.failed(FailureCode.API_UNREACHABLE, "the API server cannot be reached")
GPU = TaintId("gpu", "NoSchedule", "yes")


def document_of(nodes: Sequence[Expected], kubernetes: Collected | None = GOOD, most: int = 256) -> FleetSnapshot:
    """Of nodes whose agents have not said a word."""
    names = NodeNames([node.node for node in nodes])
    entries = [Entry(node.node, NodeState.NO_AGENT, "no agent has connected") for node in nodes]
    metadata = FleetMetadata("0.1.0", "run", "2026-01-01T00:00:00Z")
    document = fleet_snapshot(metadata, entries, fold({}, MemoryContents(), names), names)
    return msgspec.structs.replace(document, cluster=fold_cluster(Read(kubernetes, nodes), names, most))


def data_of(document: FleetSnapshot) -> dict[tuple[MeasurementType, str], dict[str, Scalar]]:
    return {(kind, subtype.subtype): subtype.data for kind, subtype in unfold_cluster(document).subtypes}


def one_shot(nodes: Sequence[Expected]) -> dict[tuple[MeasurementType, str], dict[str, Scalar]]:
    """NodeTopology as the collector writes it."""
    topology = Topology()
    for node in nodes:
        topology.add(node.node, node.labels, node.taints)
    found = {}
    for subtype, outcome in topology.outcomes(0).items():
        assert isinstance(outcome, Ok)
        found[TOPOLOGY, subtype] = outcome.data
    return found


# Few letters, so that names, keys and values meet often; values that are, or hold, a node's name.
_words = st.text("ab.", min_size=1, max_size=4)
_names = st.sampled_from([*(f"gpu-{n}" for n in range(6)), *(f"ip-{n}-x.cloud" for n in range(20)), "a", "ab"])
_values = _words | _names | st.just("${node}")
_nodes = st.lists(
    st.builds(
        Expected,
        _names,
        labels=st.dictionaries(_words, _values, max_size=4),
        taints=st.lists(st.builds(TaintId, _words, st.sampled_from(["NoSchedule", "NoExecute"]), _values), max_size=3)
        .map(tuple),
    ),
    max_size=24,
    unique_by=lambda node: node.node,
)  # fmt: skip


@given(_nodes)
def test_what_is_folded_unfolds_to_what_one_shot_mode_writes(nodes: list[Expected]) -> None:
    document = document_of(nodes)
    again = msgspec.json.decode(msgspec.json.encode(document), type=FleetSnapshot)
    assert data_of(again) == {**one_shot(nodes), (K8S, "server"): SERVER, (K8S, "image"): {"nginx": "1"}}


@given(_nodes, st.randoms(use_true_random=False))
def test_the_same_nodes_in_any_order_are_the_same_bytes(nodes: list[Expected], chance: random.Random) -> None:
    shuffled = chance.sample(nodes, len(nodes))
    assert msgspec.json.encode(document_of(shuffled)) == msgspec.json.encode(document_of(nodes))


@given(_nodes, _nodes)
def test_the_id_is_the_same_just_when_the_facts_are(one: list[Expected], other: list[Expected]) -> None:
    first, second = document_of(one).cluster, document_of(other).cluster
    assert first is not UNSET
    assert second is not UNSET
    same = {node.node for node in one} == {node.node for node in other} and one_shot(one) == one_shot(other)
    assert (first.id == second.id) == same


def test_a_label_that_is_the_nodes_name_is_one_line() -> None:
    nodes = [Expected(f"gpu-{n}", labels={"host": f"gpu-{n}", "arch": "amd64"}) for n in range(9)]
    cluster = document_of(nodes).cluster
    assert cluster is not UNSET
    assert cluster.labels == [NodeLabel("arch", "amd64", 9), NodeLabel("host", "${node}", 9)]
    assert cluster.measurements[1].subtypes[0].data == {"node-count": 9, "taint-count": 0, "label-count": 10}


def test_a_label_with_a_value_for_every_node_is_named_and_left_out() -> None:
    nodes = [Expected(f"gpu-{n}", labels={"instance": f"i-{n}", "arch": "amd64"}) for n in range(9)]
    document = document_of(nodes, most=8)
    assert document.cluster is not UNSET
    assert document.cluster.scattered == ["instance"]
    (label,) = [s for kind, s in unfold_cluster(document).subtypes if s.subtype == "label"]
    assert set(label.data) == {"arch"}
    assert label.context == {"left-out": "labels with more than 256 values: instance"}


def test_what_comes_and_goes_by_itself_is_not_there() -> None:
    plain = [Expected("n1", labels={"a": "b"}, taints=(GPU,))]
    pressed = [
        Expected(
            "n1",
            labels={"a": "b", "nvidia.com/gfd.timestamp": "1767225600"},
            taints=(TaintId("node.kubernetes.io/memory-pressure", "NoSchedule", ""), GPU),
        )
    ]
    assert document_of(pressed) == document_of(plain)


def test_what_could_not_be_read_says_why() -> None:
    partly = Collected.of({"server": Ok(SERVER), "image": FORBIDDEN})
    assert unfold_cluster(document_of([], partly)).lines == [
        CollectionEntry("kubernetes", K8S, State.PARTIAL, subtypes=("server",)),
        CollectionEntry("kubernetes", K8S, State.FAILED, "image", FailureCode.API_FORBIDDEN, FORBIDDEN.reason),
        CollectionEntry("topology", TOPOLOGY, State.OK, subtypes=("label", "summary", "taint")),
    ]
    away = unfold_cluster(document_of([], AWAY)).lines[0]
    assert (away.state, away.code, away.subtypes) == (State.FAILED, FailureCode.API_UNREACHABLE, ())


@pytest.mark.parametrize(
    ("kubernetes", "state", "subtypes"),
    [
        (GOOD, State.OK, ("image", "node", "server")),
        (AWAY, State.FAILED, ("node",)),
        (Collected.of({"image": FORBIDDEN}), State.PARTIAL, ("node",)),
        (None, State.OK, ("node",)),
    ],
)
def test_on_a_node_its_object_counts_too(
    kubernetes: Collected | None, state: State, subtypes: tuple[str, ...]
) -> None:
    lines = unfold_cluster(document_of([], kubernetes)).lines
    (mine,) = [e for e in with_node(lines, node_is_known=True) if e.collector == "kubernetes" and not e.subtype]
    assert (mine.state, mine.subtypes) == (state, subtypes)
    assert with_node(lines, node_is_known=False) == lines


def test_read_back_from_where_it_was_published_it_must_fit_the_ledger() -> None:
    nodes = [Expected(f"gpu-{n}", labels={"zone": f"{n % 2}", "host": f"gpu-{n}"}, taints=(GPU,)) for n in range(9)]
    written = dump_plain(document_of(nodes), Format.YAML)
    assert unfold_cluster(read_published(written, "x")) == unfold_cluster(document_of(nodes))
    for was, spoilt in ((b"nodes: gpu-[0,2", b"nodes: gpu-[1,2,3"), (b"nodes: gpu-[0,2", b"nodes: gpu-[99,2")):
        assert was in written
        with pytest.raises(InputError, match=r"in its cluster|nodes of its cluster"):
            read_published(written.replace(was, spoilt), "x")


def test_what_stays_readable_of_a_large_one_is_the_version() -> None:
    nodes = [Expected(f"gpu-{n}", labels={f"label-{n}": "x" * 60}) for n in range(200)]
    document = document_of(nodes)
    excerpt = excerpt_of_fleet(document, lambda part: dump_plain(part, Format.YAML))(3000).decode()
    assert "version: v1.36.3" in excerpt
    assert "- cluster" in excerpt
    assert "label-7" not in excerpt


# ---- drift


def upgraded(**changed: Scalar) -> Collected:
    return Collected.of({"server": Ok({**SERVER, **changed}), "image": Ok({"nginx": "1"})})


def test_an_upgraded_server_is_drift() -> None:
    before, after = document_of([], upgraded()), document_of([], upgraded(version="v1.37.0", goVersion="go1.27"))
    assert cluster_drift(before, after) == [
        DriftFact(K8S, "server", "goVersion", UNSET, "go1.27"),
        DriftFact(K8S, "server", "version", "v1.36.3", "v1.37.0"),
    ]
    assert cluster_drift(after, after) == []


@pytest.mark.parametrize("unread", [AWAY, Collected.of({"server": Ok(SERVER), "image": FORBIDDEN})])
def test_what_could_not_be_read_has_not_changed(unread: Collected) -> None:
    good, lacking = document_of([], upgraded()), document_of([], unread)
    assert cluster_drift(good, lacking) == []
    assert cluster_drift(lacking, good) == []
    assert cluster_drift(good, msgspec.structs.replace(lacking, cluster=UNSET)) == []


def fleet(**labels: Mapping[str, str]) -> list[Expected]:
    return [Expected(name, labels=mine, taints=(GPU,) if "tainted" in mine else ()) for name, mine in labels.items()]


def test_nodes_whose_labels_change_alike_are_one_change() -> None:
    before = fleet(a={"zone": "1", "host": "a"}, b={"zone": "1", "host": "b"}, c={"zone": "1", "host": "c"}, gone={})
    after = fleet(a={"zone": "2", "host": "a"}, b={"zone": "2", "host": "b"}, c={"tainted": "", "host": "c"}, new={})
    assert list(topology_drift(document_of(before), document_of(after))) == [
        Change(["a", "b"], [DriftFact(TOPOLOGY, "label", "zone", "1", "2")]),
        Change(
            ["c"],
            [
                DriftFact(TOPOLOGY, "label", "tainted", UNSET, ""),
                DriftFact(TOPOLOGY, "label", "zone", "1", UNSET),
                DriftFact(TOPOLOGY, "taint", "gpu:NoSchedule", UNSET, "yes"),
            ],
        ),
    ]


def test_nodes_that_come_and_go_have_not_changed() -> None:
    before = document_of(fleet(a={"zone": "1", "host": "a"}, gone={"zone": "2"}))
    after = document_of(fleet(a={"zone": "1", "host": "a"}, new={"zone": "3", "tainted": ""}))
    assert before != after
    assert list(topology_drift(before, after)) == []


def test_it_is_folded_anew_only_when_it_has_changed() -> None:
    names = NodeNames(["a", "b"])
    a, b = Expected("a", labels={"zone": "z1"}), Expected("b", labels={"zone": "z1"})
    side = ClusterSide(lambda: [a, b], None)
    first = side.folded(Read(GOOD, [a, b]), names)
    assert side.folded(Read(GOOD, [a, msgspec.structs.replace(b, ready=False, reason="silent")]), names) is first
    moved = msgspec.structs.replace(b, labels={"zone": "z2"})
    tainted = msgspec.structs.replace(b, taints=(GPU,))
    for read in (Read(GOOD, [a, moved]), Read(GOOD, [a, tainted]), Read(AWAY, [a, b]), Read(GOOD, None)):
        assert side.folded(read, names) == fold_cluster(read, names) != first
    others = NodeNames(["a", "b", "c"])
    assert side.folded(Read(GOOD, [a, b]), others) == fold_cluster(Read(GOOD, [a, b]), others)


def test_a_nodes_own_snapshot_does_not_name_thousands_of_others() -> None:
    nodes = [Expected(f"n{number:03}", labels={"zone": "a", "host": f"n{number:03}"}) for number in range(150)]
    side = ClusterSide(lambda: nodes, None)
    whole = side.complete(snapshot_of("n001", []), document_of(nodes))
    (label,) = [s for m in whole.measurements if m.type is TOPOLOGY for s in m.subtypes if s.subtype == "label"]
    zone = str(label.data["zone"])
    assert zone.startswith("a|n000,n001,")
    assert zone.endswith("n099 (+50 more)"), "as one-shot mode writes it with --max-nodes-per-entry"
    assert label.data["host.n149"] == "n149|n149"
    assert str(data_of(document_of(nodes))[TOPOLOGY, "label"]["zone"]).endswith("n149"), (
        "the fleet's document has all"
    )
