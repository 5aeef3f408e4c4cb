"""What sets groups of one document apart."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from aggregator.group_diff import GroupDiff
from aggregator.names import unfold_names
from aggregator.unfold import unfold
from common.fleet import FleetSnapshot, OutlierFact
from common.model import CollectionEntry, FailureCode, MeasurementType, Scalar, Snapshot, State
from common.section import restored
from tests.aggregator.test_fold import RULES, document_of, measured
from tests.aggregator.test_vocabulary import NEW, OLD
from tests.aggregator.test_vocabulary import fleet as versions
from tests.common.test_section import snapshot_of
from tests.fleet.contents import facts_of
from tests.fleet.profiles import PROFILES, snapshot

MODULE = ("OS", "kmod", "module_new")
SWAPPINESS = ("OS", "sysctl", "/proc/sys/vm/swappiness")
MTU, OTHER_MTU = ("OS", "network", "eth0.mtu"), ("OS", "network", "eth1.mtu")
NODES = [f"gpu-{number:04}" for number in range(8)]


def halves(changes: dict[tuple[str, str, str], Scalar | None]) -> list[Snapshot]:
    """Eight nodes of one kind, of which the last four have changed: too many to be outliers."""
    return [snapshot(PROFILES[0], node, changes if node > "gpu-0003" else {}) for node in NODES]


def document(fleet: list[Snapshot]) -> FleetSnapshot:
    return document_of(*facts_of(fleet))


def told(facts: list[OutlierFact]) -> list[tuple[object, ...]]:
    return [(fact.key, fact.value, fact.expected) for fact in facts]


def test_half_of_a_fleet_that_has_changed() -> None:
    halved = document(halves({SWAPPINESS: "10", MODULE: True}))
    assert halved.outliers == []
    assert [group.nodes for group in halved.groups] == ["gpu-[0000-0003]", "gpu-[0004-0007]"]
    compared = GroupDiff(halved)
    assert told(list(compared.facts(1, 0))) == [(MODULE[2], True, UNSET), (SWAPPINESS[2], "10", "60")]
    assert told(list(compared.facts(0, 1))) == [(MODULE[2], UNSET, True), (SWAPPINESS[2], "60", "10")]
    assert list(compared.facts(1, 1)) == []


def test_numbers_that_only_look_alike() -> None:
    fleet = [snapshot(PROFILES[0], node, {MTU: 1 if node > "gpu-0003" else True}) for node in NODES]
    (fact,) = GroupDiff(document(fleet)).facts(1, 0)
    assert {type(fact.value), type(fact.expected)} == {int, bool}


@pytest.mark.parametrize("part", ["network[eth0]", "network"])
def test_what_could_not_be_read_sets_nobody_apart_but_is_told_as_such(part: str) -> None:
    all_read = {MTU: 9000, OTHER_MTU: 9000}
    rest = {OTHER_MTU: 9000} if part == "network[eth0]" else {}
    fleet = [snapshot(PROFILES[0], node, rest if node > "gpu-0003" else all_read) for node in NODES]
    broken = CollectionEntry("network", MeasurementType.OS, State.FAILED, subtype=part, code=FailureCode.TIMEOUT)
    fleet[4:] = [msgspec.structs.replace(node, collection=[*node.collection, broken]) for node in fleet[4:]]
    compared = GroupDiff(document(fleet))
    cut = next(group for group in (0, 1) if [entry.subtype for entry in compared.endings(group, 1 - group)] == [part])
    assert list(compared.facts(cut, 1 - cut)) == []
    assert list(compared.facts(1 - cut, cut)) == []
    assert list(compared.endings(1 - cut, cut)) == []


def test_what_agents_of_one_version_alone_report_sets_nobody_apart() -> None:
    both = [(f"n{n}", ("1" if n < 2 else "2", OLD if n < 2 else NEW)) for n in range(4)]
    assert list(GroupDiff(versions(dict(both))).facts(1, 0)) == []
    changed = dict(both) | {f"n{n}": ("2", {**NEW, "same": 2}) for n in (2, 3)}
    assert told(list(GroupDiff(versions(changed)).facts(1, 0))) == [("same", 2, 1)]


def test_a_subtype_that_only_one_of_them_has_is_one_fact() -> None:
    fleet = halves({})
    fleet[4:] = [
        msgspec.structs.replace(
            node, measurements=[m for m in node.measurements if m.type is not MeasurementType.SYSTEMD]
        )
        for node in fleet[4:]
    ]
    facts = list(GroupDiff(document(fleet)).facts(1, 0))
    assert {fact.subtype for fact in facts} == {"containerd.service", "kubelet.service"}
    assert all((fact.key, fact.value, fact.expected) == (UNSET, False, True) for fact in facts)


def only(node: Snapshot, *kinds: MeasurementType) -> Snapshot:
    """As if it had been asked for these types alone."""
    return msgspec.structs.replace(
        node,
        collection=[line for line in node.collection if line.type in kinds],
        measurements=[measurement for measurement in node.measurements if measurement.type in kinds],
    )


@pytest.mark.parametrize("count", [1, 4])
def test_what_a_node_was_not_asked_for_sets_it_apart_in_no_way(count: int) -> None:
    """It was asked for some types only and then lost, and is in a document of all types."""
    fleet = halves({})
    for at in range(8 - count, 8):
        odd = snapshot(PROFILES[0], NODES[at], {SWAPPINESS: "10"})
        fleet[at] = only(odd, MeasurementType.OS, MeasurementType.GPU)
    folded = document(fleet)
    compared = GroupDiff(folded)
    wanted = [(SWAPPINESS[2], "10", "60")]
    assert told(list(compared.facts(1, 0))) == wanted
    assert [told(outlier.facts) for outlier in folded.outliers] == ([wanted] if count == 1 else [])
    assert compared.not_asked(1, 0) == [MeasurementType.SYSTEMD]
    assert compared.not_asked(0, 1) == []


def test_nobody_is_an_outlier_for_what_nobody_asked() -> None:
    fleet = halves({})
    fleet[7] = only(fleet[7], MeasurementType.OS)
    assert len(document(fleet).groups) == 2
    assert document(fleet).outliers == []


def test_outliers_are_told_the_same() -> None:
    fleet = [snapshot(PROFILES[n % 2], f"gpu-{n:04}") for n in range(20)]
    fleet[0] = snapshot(PROFILES[0], "gpu-0000", {SWAPPINESS: "10", ("OS", "kmod", "module_0_1"): None})
    lost = snapshot(PROFILES[1], "gpu-0001")
    systemd = [m for m in lost.measurements if m.type is MeasurementType.SYSTEMD]
    fleet[1] = msgspec.structs.replace(lost, measurements=[m for m in lost.measurements if m not in systemd])
    folded = document(fleet)
    assert len(folded.outliers) == 2
    for outlier in folded.outliers:
        assert list(GroupDiff(folded).facts(outlier.group, outlier.like)) == outlier.facts


def plain(value: Scalar | UnsetType) -> Scalar | UnsetType:
    """A value as nodes have it whose names are in none."""
    return value if value is UNSET else restored(value, "")


# Names that no value has in it, so that none is a node's own.
fleets = st.lists(measured, min_size=2, max_size=4).map(
    lambda contents: {f"node-of-the-test-{n}": content for n, content in enumerate(contents)}
)


@given(fleets)
def test_all_and_only_the_differences(fleet: dict[str, list[object]]) -> None:
    asked = [CollectionEntry("all", kind, State.OK) for kind in MeasurementType]
    snapshots = [
        msgspec.structs.replace(snapshot_of(node, measurements), collection=asked)  # type: ignore[arg-type]  # as in test_fold
        for node, measurements in fleet.items()
    ]
    folded = document_of(*facts_of(snapshots, RULES))
    unfolded, compared = unfold(folded), GroupDiff(folded)
    node_of = {group.group: unfold_names(group.nodes, folded.node_table)[0] for group in folded.groups}
    for first, second in itertools.permutations(node_of, 2):
        mine, other = unfolded[node_of[first]], unfolded[node_of[second]]
        wanted = {(place, "", str((place in mine, place in other))) for place in mine.keys() ^ other.keys()}
        for place in mine.keys() & other.keys():
            for key in mine[place].keys() | other[place].keys():
                value, expected = mine[place].get(key, UNSET), other[place].get(key, UNSET)
                if (type(value), value) != (type(expected), expected):
                    wanted.add((place, f".{key}", str((value, expected))))
        found = [
            ((f.type, f.subtype), "" if f.key is UNSET else f".{f.key}", str((plain(f.value), plain(f.expected))))
            for f in compared.facts(first, second)
        ]
        assert sorted(found) == sorted(wanted)
