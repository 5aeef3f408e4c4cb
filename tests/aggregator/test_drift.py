"""Drift between two documents: the facts that changed on nodes, and nothing that merely could not be read."""

from random import Random

import pytest
from msgspec import UNSET

from aggregator.drift import Change, drift
from common.fleet_api import DriftFact
from common.model import CollectionEntry, FailureCode, MeasurementType, Scalar, Snapshot, State
from tests.aggregator.query.test_facts import document_of, made
from tests.fleet.profiles import PROFILES, snapshot

OS, GPU = MeasurementType.OS, MeasurementType.GPU
FINE = CollectionEntry("os", OS, State.OK, subtypes=("x",))


def changes(before: dict[str, dict[str, Scalar]], after: dict[str, dict[str, Scalar]]) -> list[Change]:
    """Between two fleets of nodes with one subtype each."""
    old = document_of(*(made(node, {(OS, "x"): dict(data)}) for node, data in before.items()))
    new = document_of(*(made(node, {(OS, "x"): dict(data)}) for node, data in after.items()))
    return list(drift(old, new))


def test_nodes_that_change_alike_are_one_change() -> None:
    before: dict[str, dict[str, Scalar]] = {f"n{n}": {"a": "1", "b": "same"} for n in range(6)}
    after: dict[str, dict[str, Scalar]] = {
        node: {"a": "2" if node in ("n1", "n4") else "1", "b": "same"} for node in before
    }
    assert changes(before, after) == [Change(["n1", "n4"], [DriftFact(OS, "x", "a", "1", "2")])]
    assert changes(after, after) == []


@pytest.mark.parametrize(
    ("old", "new", "facts"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, [DriftFact(OS, "x", "b", UNSET, 2)]),
        ({"a": 1, "b": 2}, {"a": 1}, [DriftFact(OS, "x", "b", 2, UNSET)]),
        ({"a": 1}, {"a": True}, [DriftFact(OS, "x", "a", 1, True)]),
        ({"a": 1}, {"a": 1.0}, [DriftFact(OS, "x", "a", 1, 1.0)]),
    ],
)
def test_what_a_fact_was_and_is(old: dict[str, Scalar], new: dict[str, Scalar], facts: list[DriftFact]) -> None:
    assert changes({"n": old}, {"n": new}) == [Change(["n"], facts)]


def test_a_node_that_came_or_went_has_not_changed() -> None:
    assert changes({"a": {"k": 1}}, {"b": {"k": 2}}) == []


def test_what_could_not_be_read_has_not_changed() -> None:
    failed = CollectionEntry("os", OS, State.FAILED, "x", FailureCode.TIMEOUT, "late")
    whole = CollectionEntry("os", OS, State.FAILED, "", FailureCode.TIMEOUT, "late")
    good = document_of(made("n", {(OS, "x"): {"k": 1}, (GPU, "y"): {"z": 1}}, FINE))
    for line in (failed, whole):
        unread = document_of(made("n", {(GPU, "y"): {"z": 1}}, line))
        assert list(drift(good, unread)) == []
        assert list(drift(unread, good)) == []
    gone = document_of(made("n", {(GPU, "y"): {"z": 1}}, CollectionEntry("os", OS, State.ABSENT, "x")))
    assert list(drift(good, gone)) == [Change(["n"], [DriftFact(OS, "x", "k", 1, UNSET)])]


def test_what_a_node_was_not_asked_for_has_not_come() -> None:
    """It was asked for some types only, was lost, and is back: others were asked for all."""
    other = made("m", {(OS, "x"): {"k": 1}, (GPU, "y"): {"z": 1}})
    asked = CollectionEntry("os", OS, State.OK, subtypes=("x",))
    lost = document_of(other, made("n", {(OS, "x"): {"k": 1}}, asked))
    back = document_of(other, made("n", {(OS, "x"): {"k": 2}, (GPU, "y"): {"z": 1}}))
    assert list(drift(lost, back)) == [Change(["n"], [DriftFact(OS, "x", "k", 1, 2)])]


def test_a_whole_node_replaced() -> None:
    old, new = snapshot(PROFILES[0], "n"), snapshot(PROFILES[4], "n")
    (change,) = drift(document_of(old), document_of(new))
    expected = old.facts().items() ^ new.facts().items()
    told = {(fact.type.value, fact.subtype, fact.key) for fact in change.facts}
    assert told <= {place for place, _ in expected}
    assert ("GPU", "smi", "driver") in told


def test_a_fleet_in_which_everything_changes_differently() -> None:
    """As if each node were compared by itself."""
    random = Random(1)  # noqa: S311 - repeatable, not secret

    def snapshots() -> dict[str, Snapshot]:
        return {
            node: made(
                node,
                {
                    (kind, subtype): {
                        f"k{n}": random.choice((0, 1, True, "1")) for n in range(4) if random.random() < 0.8
                    }
                    for kind, subtype in ((OS, "x"), (OS, "y"), (GPU, "z"))
                    if random.random() < 0.7
                },
            )
            for node in (f"n{n}" for n in range(20))
        }

    old, new = snapshots(), snapshots()
    found = drift(document_of(*old.values()), document_of(*new.values()))
    told = {(node, *_exactly(fact)) for change in found for node in change.nodes for fact in change.facts}
    expected = set()
    for node in old:
        was, now = old[node].facts(), new[node].facts()
        for place in was.keys() | now.keys():
            kind, subtype, key = place
            fact = DriftFact(MeasurementType(kind), subtype, key, was.get(place, UNSET), now.get(place, UNSET))
            _, _, _, *values = _exactly(fact)
            if values[0] != values[1]:
                expected.add((node, *_exactly(fact)))
    assert told == expected
    assert len(expected) > 50
    assert [len(change.nodes) for change in found] == sorted((len(change.nodes) for change in found), reverse=True)


def _exactly(fact: DriftFact) -> tuple[object, ...]:
    """With the values' types: 1 and True are not the same."""
    return fact.type, fact.subtype, fact.key, repr(fact.before), repr(fact.after)
