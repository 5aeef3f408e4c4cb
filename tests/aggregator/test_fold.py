"""Folding: exact, deterministic, per distinct content."""

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from aggregator.blobs import BlobStore, compress
from aggregator.catalog import Catalog
from aggregator.document import fleet_snapshot
from aggregator.fold import NodeFacts, fold
from aggregator.ledger import Entry
from aggregator.names import NodeNames, unfold_names
from aggregator.unfold import Facts, unfold
from common.canonical import encode
from common.fleet import FleetMetadata, FleetSnapshot, FoldedSubtype, NodeState
from common.formats import Format, dump_plain
from common.model import CollectionEntry, FailureCode, MeasurementType, Scalar, Snapshot, State, Subtype, in_order
from common.section import split
from common.stability import Rules, Stability, parse_rules
from common.version import SCHEMA
from tests.aggregator.test_blobs import domain_of
from tests.common.test_section import keys, scalars, snapshot_of
from tests.fleet.contents import MemoryContents, facts_of
from tests.fleet.profiles import PROFILES, snapshot

RULES = Rules(
    parse_rules('[[rule]]\nclass = "identity"\nsubtype = "*"\nwhy = "test"\nkeys = ["serial", "uuid*", "own-*"]\n')
)
METADATA = FleetMetadata("1", "run", "2026-01-01T00:00:00Z")

names = st.sampled_from(["n1", "n2", "n03", "gpu-1.example", "gpu-2.example", "login", "n10", "a"])
subtypes = st.builds(
    Subtype,
    st.sampled_from(["release", "a.b", "", "${node}", "a,b[1-2]|c", "@0", "\n"]),
    st.dictionaries(keys, scalars, max_size=4),
)
measured = st.lists(st.tuples(st.sampled_from(MeasurementType), subtypes), max_size=4).map(in_order)
# Few distinct contents over several nodes, so that groups, majorities and missing keys all come up.
fleets = st.lists(measured, min_size=1, max_size=4).flatmap(
    lambda contents: st.dictionaries(names, st.sampled_from(contents), max_size=8)
)


def document_of(nodes: dict[str, NodeFacts], contents: MemoryContents) -> FleetSnapshot:
    entries = [Entry(node, NodeState.OK, fresh=True) for node in sorted(nodes)]
    names = NodeNames(nodes)
    return fleet_snapshot(METADATA, entries, fold(nodes, contents, names), names)


def stable_facts(snapshot: Snapshot, rules: Rules) -> Facts:
    """What unfolding must give back, straight from the snapshot."""
    facts: Facts = {}
    for measurement in snapshot.measurements:
        for subtype in measurement.subtypes:
            stable = rules.select(measurement.type.value, subtype.subtype, subtype.data, {Stability.STABLE})
            if stable or not subtype.data:
                facts[measurement.type, subtype.subtype] = stable
    return facts


def plain(facts: dict[str, Facts]) -> bytes:
    """For comparing: to Python 1, 1.0 and true are equal, to a reader they are not."""
    return encode(
        {node: {f"{kind}\0{subtype}": data for (kind, subtype), data in mine.items()} for node, mine in facts.items()}
    )


@settings(max_examples=300)
@given(fleets)
def test_unfolding_gives_back_every_nodes_stable_facts(fleet: dict[str, list[object]]) -> None:
    snapshots = {node: snapshot_of(node, measurements) for node, measurements in fleet.items()}  # type: ignore[arg-type]  # flatmap loses the type
    nodes, contents = facts_of(snapshots.values(), RULES)
    unfolded = unfold(document_of(nodes, contents))
    assert plain(unfolded) == plain({node: stable_facts(snapshots[node], RULES) for node in sorted(snapshots)})


@settings(max_examples=60)
@given(fleets)
def test_a_document_written_and_read_unfolds_to_the_same(fleet: dict[str, list[object]]) -> None:
    """Whatever is in a value, no format of ours changes it."""
    snapshots = [snapshot_of(node, measurements) for node, measurements in fleet.items()]  # type: ignore[arg-type]  # as above
    document = document_of(*facts_of(snapshots, RULES))
    as_json = msgspec.json.decode(dump_plain(document, Format.JSON), type=FleetSnapshot)
    as_yaml = msgspec.convert(yaml.load(dump_plain(document, Format.YAML), yaml.CSafeLoader), FleetSnapshot)
    assert plain(unfold(as_json)) == plain(unfold(as_yaml)) == plain(unfold(document))


@settings(max_examples=60)
@given(fleets, st.data())
def test_unfolding_gives_back_the_facts_of_agents_of_any_schema_version(
    fleet: dict[str, list[object]], data: st.DataObject
) -> None:
    """The same facts under other digests, as an upgrade that rolls through the fleet has it, are the same group."""
    snapshots = {node: snapshot_of(node, measurements) for node, measurements in fleet.items()}  # type: ignore[arg-type]  # as above
    with TemporaryDirectory() as directory, closing(BlobStore(Path(directory))) as store:
        catalog, nodes = Catalog(store), {}
        for node, whole in snapshots.items():
            schema = data.draw(st.sampled_from([SCHEMA, SCHEMA + 1, SCHEMA + 6]))
            pieces = split(whole, RULES, schema)
            for digest, content in pieces.contents.items():
                catalog.add(domain_of(content, digest, schema), digest, compress(content), schema)
            nodes[node] = catalog.facts(pieces.sections, pieces.outcome)
        names = NodeNames(nodes)
        entries = [Entry(node, NodeState.OK, fresh=True) for node in sorted(nodes)]
        document = fleet_snapshot(METADATA, entries, fold(nodes, catalog, names), names)
    assert plain(unfold(document)) == plain({node: stable_facts(snapshots[node], RULES) for node in sorted(nodes)})
    assert [group.nodes for group in document.groups] == [
        group.nodes for group in document_of(*facts_of(snapshots.values(), RULES)).groups
    ]


@given(fleets, st.randoms())
def test_the_document_does_not_depend_on_the_order_of_nodes(fleet: dict[str, list[object]], random: object) -> None:
    snapshots = [snapshot_of(node, measurements) for node, measurements in fleet.items()]  # type: ignore[arg-type]  # as above
    first = document_of(*facts_of(snapshots, RULES))
    random.shuffle(snapshots)  # type: ignore[attr-defined]  # st.randoms() gives a random.Random
    assert encode(document_of(*facts_of(snapshots, RULES))) == encode(first)


def fleet_of(count: int) -> list[Snapshot]:
    return [snapshot(PROFILES[n % 5], f"gpu-{n:04}") for n in range(count)]


def subtype_of(document: FleetSnapshot, kind: str, name: str) -> FoldedSubtype:
    (found,) = [
        subtype
        for measurement in document.measurements
        if measurement.type == kind
        for subtype in measurement.subtypes
        if subtype.subtype == name
    ]
    return found


def test_profiles_become_groups_whatever_is_the_nodes_own() -> None:
    document = document_of(*facts_of(fleet_of(100)))
    assert [group.count for group in document.groups] == [20] * 5
    assert document.summary.scattered == 0
    assert len({group.id for group in document.groups}) == 5


def test_one_odd_value_is_a_minority_and_an_outlier_described_against_its_like() -> None:
    fleet = fleet_of(100)
    fleet[7] = snapshot(PROFILES[2], "gpu-0007", {("OS", "sysctl", "/proc/sys/vm/swappiness"): "10"})
    document = document_of(*facts_of(fleet))
    (swappiness,) = [
        differing
        for differing in subtype_of(document, "OS", "sysctl").differs
        if differing.key == "/proc/sys/vm/swappiness"
    ]
    most, rarer = swappiness.values
    assert (most.value, most.count, most.groups) == ("60", 99, "")
    assert (rarer.value, rarer.count) == ("10", 1)
    (outlier,) = document.outliers
    assert (outlier.nodes, outlier.count) == ("gpu-0007", 1)
    assert "gpu-0012" in unfold_names(document.groups[outlier.like].nodes), (
        "compared with its own profile, not with the largest"
    )
    (fact,) = outlier.facts
    assert (fact.key, fact.value, fact.expected) == ("/proc/sys/vm/swappiness", "10", "60")


def test_a_missing_key_is_a_value_and_a_missing_subtype_is_one_difference() -> None:
    fleet = fleet_of(50)
    fleet[0] = snapshot(PROFILES[0], "gpu-0000", {("OS", "kmod", "module_0_1"): None})
    lost = snapshot(PROFILES[1], "gpu-0001")
    fleet[1] = Snapshot(
        metadata=lost.metadata,
        collection=lost.collection,
        measurements=[m for m in lost.measurements if m.type is not MeasurementType.SYSTEMD],
    )
    document = document_of(*facts_of(fleet))
    folded = [subtype for m in document.measurements for subtype in m.subtypes]
    lacking = sum(len(subtype.data) for subtype in folded if subtype.groups)
    assert lacking > 200
    assert document.summary.differing == sum(len(subtype.differs) for subtype in folded) + lacking, (
        "what a node has not is not the same everywhere"
    )
    facts = {outlier.nodes: outlier.facts for outlier in document.outliers}
    (missing,) = facts["gpu-0000"]
    assert (missing.key, missing.value, missing.expected) == ("module_0_1", UNSET, True)
    assert [(f.subtype, f.key, f.value, f.expected) for f in facts["gpu-0001"]] == [
        ("containerd.service", UNSET, False, True),
        ("kubelet.service", UNSET, False, True),
    ]


def test_nodes_whose_collectors_ended_differently_are_apart() -> None:
    fleet = fleet_of(10)
    failed = fleet[0].collection[0]
    fleet[0] = Snapshot(
        metadata=fleet[0].metadata,
        collection=[
            CollectionEntry(failed.collector, failed.type, State.FAILED, reason="broken"),
            *fleet[0].collection[1:],
        ],
        measurements=fleet[0].measurements,
    )
    document = document_of(*facts_of(fleet))
    assert len(document.groups) == 6
    (entry,) = [entry for entry in document.collection if entry.state is State.FAILED]
    assert entry.count == 1
    assert document.groups[int(entry.groups)].nodes == "gpu-0000"


def test_what_could_not_be_read_sets_no_node_apart() -> None:
    """Nor does it hide what does."""
    fleet = fleet_of(50)
    odd = {("OS", "sysctl", "/proc/sys/vm/swappiness"): "10"}
    broken = CollectionEntry("systemd", MeasurementType.SYSTEMD, State.FAILED, code=FailureCode.TIMEOUT)
    for number, changes in ((0, {}), (1, odd)):
        whole = snapshot(PROFILES[number], f"gpu-{number:04}", changes)
        fleet[number] = Snapshot(
            metadata=whole.metadata,
            collection=[*whole.collection, broken],
            measurements=[m for m in whole.measurements if m.type is not MeasurementType.SYSTEMD],
        )
    units = tuple(s.subtype for m in fleet[2].measurements if m.type is MeasurementType.SYSTEMD for s in m.subtypes)
    read = CollectionEntry("systemd", MeasurementType.SYSTEMD, State.OK, subtypes=units)
    fleet[2:] = [msgspec.structs.replace(node, collection=[*node.collection, read]) for node in fleet[2:]]
    (outlier,) = document_of(*facts_of(fleet)).outliers
    assert outlier.nodes == "gpu-0001"
    assert [fact.key for fact in outlier.facts] == ["/proc/sys/vm/swappiness"]


def test_a_part_that_could_not_be_read_sets_no_node_apart() -> None:
    """Its keys are missing where the rest of the subtype is there; what is missing for another reason still tells."""
    eth = {("OS", "network", f"eth{port}.{fact}"): 9000 for port in (0, 1) for fact in ("mtu", "queues")}
    fleet = [snapshot(PROFILES[0], f"gpu-{n:04}", eth) for n in range(20)]
    cut = CollectionEntry("network", MeasurementType.OS, State.FAILED, subtype="network[eth0]")
    lacking = {place: None for place in eth if place[2].startswith("eth0.")}
    odd = {("OS", "network", "eth1.mtu"): None}
    for number, changes in ((0, lacking), (1, {**lacking, **odd}), (2, odd)):
        whole = snapshot(PROFILES[0], f"gpu-{number:04}", {**eth, **changes})
        collection = whole.collection if number == 2 else [*whole.collection, cut]
        fleet[number] = msgspec.structs.replace(whole, collection=collection)
    outliers = {outlier.nodes: outlier.facts for outlier in document_of(*facts_of(fleet)).outliers}
    assert sorted(outliers) == ["gpu-0001", "gpu-0002"]
    for facts in outliers.values():
        assert [(f.key, f.value, f.expected) for f in facts] == [("eth1.mtu", UNSET, 9000)]


def test_work_is_per_distinct_content_and_not_per_node() -> None:
    nodes, contents = facts_of(fleet_of(50))
    document_of(nodes, contents)
    few = contents.reads
    nodes, contents = facts_of(fleet_of(250))
    document_of(nodes, contents)
    assert contents.reads == few


def test_a_key_with_a_value_for_nearly_every_node_is_set_aside_and_groups_survive() -> None:
    def scattered(node: str, n: int) -> dict[tuple[str, str, str], Scalar | None]:
        return {("OS", "network", "eth0.mac"): f"02:00:00:00:{n // 256:02x}:{n % 256:02x}"}

    fleet = [snapshot(PROFILES[n % 5], f"gpu-{n:04}", scattered(f"gpu-{n:04}", n)) for n in range(600)]
    nodes, contents = facts_of(fleet)
    document = document_of(nodes, contents)
    assert len(document.groups) == 5
    assert subtype_of(document, "OS", "network").scattered == ["eth0.mac"]
    exact = fold(nodes, contents, NodeNames(nodes), most_values=None)
    assert len(exact.groups) == 600


def test_values_that_python_takes_for_equal_are_kept_apart() -> None:
    values: list[Scalar] = [1, 1.0, True, "1", 0.0, -0.0, False]
    snapshots = [
        snapshot_of(f"n{n}", in_order([(MeasurementType.OS, Subtype("x", {"k": value}))]))
        for n, value in enumerate(values)
    ]
    document = document_of(*facts_of(snapshots, RULES))
    (differing,) = subtype_of(document, "OS", "x").differs
    assert sorted(repr(value.value) for value in differing.values) == sorted(map(repr, values))
