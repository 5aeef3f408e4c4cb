"""What is told of drift: nobody is left out, however many changed in however many ways, and it stays readable."""

from collections.abc import Mapping

from msgspec.structs import replace

from aggregator.cluster_facts import Read, fold_cluster
from aggregator.drift_events import MOST_CHANGES, MOST_FACTS, drift_events
from aggregator.ledger import Expected
from aggregator.names import NodeNames
from common.fleet import FleetSnapshot
from common.fleet_api import AgentChange, Drift, DriftFact
from common.model import MeasurementType, Scalar
from common.nodeset import unfold_names
from tests.aggregator.query.test_facts import document_of, made
from tests.aggregator.test_vocabulary import fleet

OS, TOPOLOGY = MeasurementType.OS, MeasurementType.NODE_TOPOLOGY
NODES = [f"n{number:03}" for number in range(3 * MOST_CHANGES)]


def of(**facts: Scalar) -> FleetSnapshot:
    """Every node in a group of its own, all with the same facts besides."""
    return document_of(*(made(node, {(OS, "x"): {"slot": n, **facts}}) for n, node in enumerate(NODES)))


def labelled(document: FleetSnapshot, labels: Mapping[str, str]) -> FleetSnapshot:
    expected = [Expected(node, labels={"rack": rack}) for node, rack in labels.items()]
    return replace(document, cluster=fold_cluster(Read(None, expected), NodeNames(labels)))


def test_nodes_that_change_alike_are_told_together_whatever_groups_they_are_in() -> None:
    assert drift_events(of(kernel="5.15"), of(kernel="6.8"), "now") == [
        Drift("now", "run", "run", len(NODES), "n[000-149]", [DriftFact(OS, "x", "kernel", "5.15", "6.8")], 0)
    ]


def test_who_changed_otherwise_is_named_without_facts() -> None:
    document = of()
    before = labelled(document, dict.fromkeys(NODES, "r"))
    after = labelled(document, {node: f"row-{max(0, number - 1)}" for number, node in enumerate(NODES)})
    *told, others = drift_events(before, after, "now")
    assert len(told) == MOST_CHANGES
    assert isinstance(told[0], Drift)
    assert (told[0].nodes, told[0].alike) == ("n[000-001]", True), "those of most nodes first"
    assert isinstance(others, Drift)
    assert (others.facts, others.more, others.alike) == ([], 1, False)
    named = [name for event in (*told, others) if isinstance(event, Drift) for name in unfold_names(event.nodes)]
    assert sorted(named) == NODES


def test_more_facts_than_are_told() -> None:
    (event,) = drift_events(of(**{f"k{n}": 1 for n in range(60)}), of(**{f"k{n}": 2 for n in range(60)}), "now")
    assert isinstance(event, Drift)
    assert (len(event.facts), event.more) == (MOST_FACTS, 60 - MOST_FACTS)


def test_an_upgrade_of_agents_is_told_once_whatever_else_changed() -> None:
    before = fleet({node: ("1", {"slot": n, "k": 1}) for n, node in enumerate(NODES)})
    after = fleet({node: ("2", {"slot": n, "k": 1 + n % 2, "new": 1}) for n, node in enumerate(NODES)})
    drifted, upgraded = drift_events(before, after, "now")
    assert isinstance(drifted, Drift)
    assert (drifted.count, drifted.facts) == (len(NODES) // 2, [DriftFact(OS, "x", "k", 1, 2)])
    assert isinstance(upgraded, AgentChange)
    assert (upgraded.count, upgraded.version) == (len(NODES), "2")
    assert [(fact.key, fact.after) for fact in upgraded.facts] == [("new", 1)]
