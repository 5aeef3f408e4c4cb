"""Agents of two versions side by side: what only one of them reports is neither drift nor odd, and all else is."""

from collections.abc import Mapping

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from aggregator.document import fleet_snapshot
from aggregator.drift import Change, drift
from aggregator.fold import fold
from aggregator.ledger import Entry
from aggregator.names import NodeNames
from common.fleet import AgentLine, FleetMetadata, FleetSnapshot, NodeState
from common.fleet_api import DriftFact
from common.model import MeasurementType, Scalar
from tests.aggregator.query.test_facts import made
from tests.fleet.contents import facts_of
from tests.fleet.profiles import TIMESTAMP

OS, K8S = MeasurementType.OS, MeasurementType.K8S
OLD: dict[str, Scalar] = {"same": 1, "dropped": 1}
NEW: dict[str, Scalar] = {"same": 1, "added": 1}
GONE, COME = DriftFact(OS, "x", "dropped", 1, UNSET), DriftFact(OS, "x", "added", UNSET, 1)


def fleet(
    nodes: Mapping[str, tuple[str, Mapping[str, Scalar]]],
    aggregator: str = "1",
    kind: MeasurementType = OS,
    beside: Mapping[str, Mapping[str, Scalar]] | None = None,
) -> FleetSnapshot:
    """Nodes with the version of their agent and the facts of one subtype; some have one more beside it."""
    snapshots = [
        made(
            node,
            {(kind, "x"): dict(data), **({(OS, "y"): dict(beside[node])} if beside and node in beside else {})},
        )
        for node, (_, data) in nodes.items()
    ]
    facts, contents = facts_of(snapshots)
    names = NodeNames(facts)
    entries = [Entry(node, NodeState.OK, fresh=True, version=nodes[node][0]) for node in facts]
    return fleet_snapshot(FleetMetadata(aggregator, "run", TIMESTAMP), entries, fold(facts, contents, names), names)


def test_who_has_which_version() -> None:
    same = {f"n{n}": ("1", OLD) for n in range(3)}
    assert fleet(same).agents == [AgentLine("1", 3)]
    assert fleet({**same, "n1": ("2", OLD)}).agents == [AgentLine("1", 2, "n[0,2]"), AgentLine("2", 1, "n1")]
    assert len(fleet({**same, "n1": ("2", OLD)}).groups) == 1


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        pytest.param(("1", OLD), ("2", NEW), Change(["n"], [], ("1", "2"), (COME, GONE)), id="what only one reports"),
        pytest.param(("2", NEW), ("1", OLD), None, id="and back"),
        pytest.param(("1", OLD), ("2", OLD), Change(["n"], [], ("1", "2")), id="the same facts"),
        pytest.param(("1", OLD), ("1", NEW), Change(["n"], [COME, GONE], ("1", "1")), id="the same version"),
        pytest.param(
            ("1", OLD),
            ("2", {**NEW, "same": 2}),
            Change(["n"], [DriftFact(OS, "x", "same", 1, 2)], ("1", "2"), (COME, GONE)),
            id="a value is another",
        ),
    ],
)
def test_a_node_with_another_agent(
    before: tuple[str, Mapping[str, Scalar]], after: tuple[str, Mapping[str, Scalar]], change: Change | None
) -> None:
    (found,) = drift(fleet({"n": before}), fleet({"n": after}))
    if change is None:
        assert (found.facts, found.versions) == ([], ("2", "1"))
        assert {(fact.key, fact.before, fact.after) for fact in found.beyond} == {
            ("added", 1, UNSET),
            ("dropped", UNSET, 1),
        }
    else:
        assert found == change


@pytest.mark.parametrize(
    ("other", "told"),
    [(("1", {**OLD, "added": 1}), [COME]), (("2", {**NEW, "dropped": 1}), [GONE])],
    ids=["the old one reports it elsewhere", "the new one reports it elsewhere"],
)
def test_what_both_versions_report_somewhere_is_drift(
    other: tuple[str, Mapping[str, Scalar]], told: list[DriftFact]
) -> None:
    (found,) = drift(fleet({"n": ("1", OLD), "m": other}), fleet({"n": ("2", NEW), "m": other}))
    assert found.facts == told
    assert len(found.beyond) == 1


def test_what_the_aggregator_reads_goes_by_its_own_version() -> None:
    come = DriftFact(K8S, "x", "added", UNSET, 1)
    before, after = fleet({"n": ("1", {"a": 1})}, "1", K8S), fleet({"n": ("1", {"a": 1, "added": 1})}, "2", K8S)
    assert list(drift(before, after)) == [Change(["n"], [], ("1", "1"), (come,))]
    same = replace(after, metadata=before.metadata)
    assert list(drift(before, same)) == [Change(["n"], [come], ("1", "1"))]


def test_the_first_to_be_upgraded_is_not_odd() -> None:
    nodes = {f"n{n}": ("1", OLD) for n in range(10)}
    document = fleet({**nodes, "n3": ("2", NEW)}, beside={"n3": {"only": "new"}})
    assert document.outliers == []
    assert [group.nodes for group in document.groups] == ["n[0-2,4-9]", "n3"], "and not the same either"


def test_nor_is_the_last_one() -> None:
    nodes = {f"n{n}": ("2", NEW) for n in range(10)}
    assert fleet({**nodes, "n3": ("1", OLD)}, beside={n: {"only": "new"} for n in nodes if n != "n3"}).outliers == []


def test_what_is_really_odd_is_told_meanwhile() -> None:
    nodes = {f"n{n}": ("1", OLD) for n in range(10)}
    (odd,) = fleet({**nodes, "n3": ("2", {**NEW, "same": 2})}).outliers
    assert {(fact.key, fact.value, fact.expected) for fact in odd.facts} == {("same", 2, 1)}
    # An agent of the same version as n3's reports what n3 lacks, and lacks what n3 has.
    (odd,) = fleet({**nodes, "n3": ("2", NEW), "n4": ("2", OLD)}).outliers
    assert odd.nodes == "n3"
    assert {fact.key for fact in odd.facts} == {"added", "dropped"}
    (odd,) = fleet({**nodes, "n3": ("1", NEW)}).outliers
    assert {fact.key for fact in odd.facts} == {"added", "dropped"}
