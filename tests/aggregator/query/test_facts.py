"""The facts named, on every node: from the folded document exactly as from each node's own snapshot."""

from collections.abc import Mapping, Sequence

import pytest
from msgspec import UNSET, UnsetType

from aggregator import query_facts
from aggregator.document import fleet_snapshot
from aggregator.fold import fold
from aggregator.ledger import Entry
from aggregator.names import NodeNames
from aggregator.own_facts import Wanted, held_as
from aggregator.query_child import Given, Missing, Request, evaluate
from aggregator.query_facts import FactTable
from aggregator.query_names import find_names
from common.errors import UsageError
from common.fleet import FleetMetadata, FleetSnapshot, NodeState
from common.model import (
    CollectionEntry,
    FailureCode,
    MeasurementType,
    Metadata,
    Scalar,
    Snapshot,
    State,
    Subtype,
    in_order,
)
from tests.fleet.contents import facts_of
from tests.fleet.profiles import PROFILES, TIMESTAMP, snapshot

METADATA = FleetMetadata("0.1.0", "run", TIMESTAMP)
OS, GPU = MeasurementType.OS, MeasurementType.GPU


def made(
    node: str, data: Mapping[tuple[MeasurementType, str], dict[str, Scalar]], *lines: CollectionEntry
) -> Snapshot:
    collection = lines or tuple(CollectionEntry("all", kind, State.OK) for kind in MeasurementType)
    return Snapshot(
        metadata=Metadata("0.1.0", node, TIMESTAMP),
        collection=list(collection),
        measurements=in_order((kind, Subtype(name, facts)) for (kind, name), facts in data.items()),
    )


def document_of(*snapshots: Snapshot, most_values: int | None = None) -> FleetSnapshot:
    nodes, contents = facts_of(snapshots)
    names = NodeNames(nodes)
    entries = [Entry(node, NodeState.OK, fresh=True) for node in nodes]
    return fleet_snapshot(METADATA, entries, fold(nodes, contents, names, most_values), names)


class Reader:
    """Reads nodes' snapshots as they were, and says how often it was asked."""

    def __init__(self, *snapshots: Snapshot) -> None:
        self._facts = {one.metadata.source_node: one.facts() for one in snapshots}
        self.asked = 0

    def __call__(self, node: str, wanted: Sequence[Wanted]) -> list[Scalar | UnsetType]:
        self.asked += 1
        values: list[Scalar | UnsetType] = []
        for one in wanted:
            place = (one.kind.value, one.subtype)
            data = {key: value for (kind, name, key), value in self._facts[node].items() if (kind, name) == place}
            found = held_as(data, one.key)
            values.append(UNSET if found is None else data[found])
        return values


def cells(
    expression: str, *snapshots: Snapshot, most_values: int | None = None
) -> dict[str, tuple[Given | Missing, ...]]:
    table = FactTable(
        document_of(*snapshots, most_values=most_values), find_names(expression).names, Reader(*snapshots)
    )
    return {node: row.cells for row in table.rows for node in row.nodes}


FLEET = [snapshot(PROFILES[number % 5], f"n{number}") for number in range(20)]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("OS.release.VERSION_ID", (OS, "release", "VERSION_ID")),
        ("GPU.smi.driver", (GPU, "smi", "driver")),
        ('GPU.smi["gpu-count"]', (GPU, "smi", "gpu-count")),
        ("GPU.smi.gpu.model", (GPU, "smi", "gpu.model")),
        ('OS.sysctl["/proc/sys/vm/swappiness"]', (OS, "sysctl", "/proc/sys/vm/swappiness")),
        ("SystemD.kubelet.service.Property7", (MeasurementType.SYSTEMD, "kubelet.service", "Property7")),
        ("OS.firmware.dmi.product_serial", (OS, "firmware", "dmi.product_serial")),
        ("OS.nothing.of.this", (OS, "nothing", "of.this")),
    ],
)
@pytest.mark.parametrize("most_values", [None, 2])
def test_every_node_has_the_value_of_its_snapshot(
    name: str, place: tuple[MeasurementType, str, str], most_values: int | None
) -> None:
    there = cells(f"{name} == 1 && has({name})", *FLEET, most_values=most_values)
    kind, subtype, key = place
    for one in FLEET:
        value = one.facts().get((kind.value, subtype, key), UNSET)
        expected = (Missing(), Given(False)) if value is UNSET else (Given(value), Given(True))
        assert there[one.metadata.source_node] == expected


def test_nodes_are_read_one_by_one_only_for_what_is_their_own() -> None:
    document, read = document_of(*FLEET), Reader(*FLEET)
    table = FactTable(document, find_names("OS.release.ID == OS.release.VERSION_ID").names, read)
    assert (read.asked, len(table.rows)) == (0, 3), "20 nodes, three distributions"
    FactTable(document, find_names("OS.firmware.dmi.product_serial == ''").names, read)
    assert read.asked >= 20


def test_a_whole_subtype() -> None:
    there = cells("size(GPU.smi) > 0", *FLEET)
    for one in FLEET:
        data = {key: value for (kind, name, key), value in one.facts().items() if (kind, name) == ("GPU", "smi")}
        (cell,) = there[one.metadata.source_node]
        if not data:
            assert cell == Missing()
        else:
            assert isinstance(cell, Given)
            assert isinstance(cell.value, dict)
            assert cell.value.items() <= data.items(), "but for what is each node's own"


def test_the_nodes_name_in_a_value_is_the_nodes_own() -> None:
    pair = [made(node, {(OS, "x"): {"path": f"/mnt/{node}/a", "same": 1}}) for node in ("alpha", "beta")]
    assert cells("OS.x.path == '' && OS.x.same == 1", *pair) == {
        "alpha": (Given("/mnt/alpha/a"), Given(1)),
        "beta": (Given("/mnt/beta/a"), Given(1)),
    }
    assert cells("OS.x.size() == 1", *pair)["beta"] == (Given({"path": "/mnt/beta/a", "same": 1}),)


def test_one_of_several_equal_things_that_are_written_as_one() -> None:
    nodes = [
        made("all", {(GPU, "devices"): {"bios[0-7]": "a"}}),
        made("some", {(GPU, "devices"): {"bios[0-2,4-7]": "a", "bios[3]": "b"}}),
        made("few", {(GPU, "devices"): {"bios[0-1]": "a"}}),
    ]
    there = cells('GPU.devices["bios"][3] == "a" && has(GPU.devices["bios"][3])', *nodes)
    assert there == {
        "all": (Given("a"), Given(True)),
        "some": (Given("b"), Given(True)),
        "few": (Missing(), Given(False)),
    }


def test_what_was_not_read_is_not_the_same_as_what_is_not_there() -> None:
    def line(state: State, name: str = "", code: FailureCode | None = None, *read: str) -> CollectionEntry:
        return CollectionEntry("gpu", GPU, state, name, code, "reason", read)

    nodes = [
        made("good", {(GPU, "smi"): {"driver": "1"}}, line(State.OK, "", None, "smi")),
        made("none", {}, line(State.ABSENT)),
        made("dead", {}, line(State.FAILED, "", FailureCode.GPU_LOST)),
        made("half", {}, line(State.PARTIAL), line(State.FAILED, "smi", FailureCode.TIMEOUT)),
        made("part", {(GPU, "smi"): {"x": 1}}, line(State.PARTIAL, "", None, "smi"),
             line(State.FAILED, "smi[driver]", FailureCode.TIMEOUT)),
        made("lost", {}, CollectionEntry("os", OS, State.OK)),  # when it was last asked, it was not for its GPUs
    ]  # fmt: skip
    there = cells("has(GPU.smi.driver) || GPU.smi.driver == '1' || has(GPU.smi)", *nodes)
    assert there == {
        "good": (Given(True), Given("1"), Given(True)),
        "none": (Given(False), Missing(), Given(False)),
        "dead": (Missing(True), Missing(True), Missing(True)),
        "half": (Missing(True), Missing(True), Missing(True)),
        "part": (Missing(True), Missing(True), Given(True)),
        "lost": (Missing(True), Missing(True), Missing(True)),
    }


def test_true_and_one_are_two_contents() -> None:
    nodes = [
        made("a", {(OS, "x"): {"k": True}}),
        made("b", {(OS, "x"): {"k": 1}}),
        made("c", {(OS, "x"): {"k": 1.0}}),
    ]
    table = FactTable(document_of(*nodes), find_names("OS.x.k").names, Reader(*nodes))
    assert sorted(row.nodes for row in table.rows) == [["a"], ["b"], ["c"]]


def test_names_that_no_node_has_are_told() -> None:
    table = FactTable(
        document_of(*FLEET), find_names("has(GPU.smi.drivr) || OS.release.ID == OS.relase.ID").names, Reader(*FLEET)
    )
    assert table.nowhere == ["GPU.smi.drivr", "OS.relase.ID"]


def test_more_facts_than_a_query_may_look_at() -> None:
    many = [made(f"n{n}", {(OS, "x"): {f"k{key}": f"{n}" for key in range(300)}}) for n in range(700)]
    document = document_of(*many)
    with pytest.raises(UsageError, match="more than 200,000 facts"):
        FactTable(document, find_names("OS.x.exists(k, true)").names, Reader(*many))


@pytest.mark.timeout(10)
def test_more_readings_than_a_query_may_try() -> None:
    """A name that no node has is looked for on every node, in as many ways as it has dots."""
    document, read = document_of(*FLEET), Reader(*FLEET)
    for name in (f"OS{'.a' * 17}", f"OS.x{'.a' * 1_500}[3]", f"OS{'.a' * 17}['x[0-999999]']"):
        with pytest.raises(UsageError, match="more than 16 parts"):
            FactTable(document, find_names(f"has({name})").names, read)
    assert read.asked == 0
    assert FactTable(document, find_names(f"has(OS{'.a' * 16})").names, read).nowhere == [f"OS{'.a' * 16}"]


def test_more_readings_than_all_nodes_together_are_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_facts, "_MOST_READINGS", 100)
    document, read = document_of(*FLEET), Reader(*FLEET)
    FactTable(document, find_names("has(OS.a.b.c.d.e.f) && OS.release.ID == ''").names, read)
    with pytest.raises(UsageError, match="each of 20 nodes for too much"):
        FactTable(document, find_names("has(OS.a.b.c.d.e.f) || has(OS.a.b)").names, read)


@pytest.mark.parametrize(
    ("key", "held"),
    [
        ("x", "x"),
        ("x[3]", "x[0-7]"),
        ("x[9]", None),
        ("x[0-7]", "x[0-7]"),
        ("x[0-6]", None),
        ("y[3]", "y[3]"),
        ("y[4]", None),
        ("x[]", None),
        ("[3]", None),
    ],
)
def test_one_of_several_equal_things(key: str, held: str | None) -> None:
    assert held_as({"x": 1, "x[0-7]": 2, "y[3]": 3, "y[0-999999]": 4}, key) == held


def test_text_with_a_zero_in_it_is_not_its_beginning() -> None:
    rows: list[list[Given | Missing]] = [[Given("a\0b")], [Given("a")], [Given({"a\0b": "x"})], [Given({"a": "x"})]]
    answer = evaluate(Request('__0 == "a" || "a" in __0', ["__0"], rows, 5))
    assert [verdict.matches for verdict in answer.verdicts] == [None, True, False, True]
