"""The whole document: its size for large fleets, and that it says the same every time."""

import time

import msgspec
import pytest
import zstandard

from aggregator.document import fleet_snapshot
from aggregator.fold import NodeFacts, fold
from aggregator.ledger import Entry
from aggregator.names import NodeNames
from aggregator.unfold import unfold
from common.fleet import FleetMetadata, FleetSnapshot, NodeState
from tests.fleet.contents import MemoryContents, facts_of
from tests.fleet.naming import NAMINGS
from tests.fleet.profiles import PROFILES, snapshot

METADATA = FleetMetadata("0.1.0", "run", "2026-01-01T00:00:00Z")
CONFIG_MAP = 900 * 1024


def fleet(count: int, naming: str) -> tuple[dict[str, NodeFacts], MemoryContents]:
    """`count` nodes in five profiles, a few of them odd. Only stable facts matter, so each profile is read once."""
    name = NAMINGS[naming]
    facts, contents = facts_of(snapshot(profile, f"template-{profile.name}") for profile in PROFILES)
    templates = list(facts.values())
    nodes = {name(n): templates[n % 5] for n in range(count)}
    for n in range(0, count, count // 20):
        changes = {("OS", "sysctl", "/proc/sys/vm/swappiness"): str(n)}
        nodes[name(n)] = contents.add(snapshot(PROFILES[n % 5], name(n), changes))
    return nodes, contents


def document_of(nodes: dict[str, NodeFacts], contents: MemoryContents, names: NodeNames) -> FleetSnapshot:
    entries = [Entry(node, NodeState.OK, fresh=True) for node in nodes]
    return fleet_snapshot(METADATA, entries, fold(nodes, contents, names), names)


@pytest.mark.parametrize("naming", NAMINGS)
def test_ten_thousand_nodes_in_five_profiles_fit_into_one_config_map(naming: str) -> None:
    nodes, contents = fleet(10_000, naming)
    assert len(nodes) == 10_000
    started = time.perf_counter()
    names = NodeNames(nodes)
    document = document_of(nodes, contents, names)
    seconds = time.perf_counter() - started
    written = msgspec.json.encode(document)
    compressed = len(zstandard.compress(written))
    print(f"{naming}: {len(written)} bytes, {compressed} compressed, folded in {seconds:.2f} s")
    assert len(written) < CONFIG_MAP
    assert len(document.outliers) == 20
    assert {node for outlier in document.outliers for node in [outlier.nodes] if not node.startswith("@")} <= set(
        nodes
    )


def test_a_document_read_back_unfolds_to_the_same() -> None:
    nodes, contents = fleet(200, "cloud")
    document = document_of(nodes, contents, NodeNames(nodes))
    again = msgspec.json.decode(msgspec.json.encode(document), type=FleetSnapshot)
    assert again == document
    assert unfold(again) == unfold(document)
    assert sorted(unfold(again)) == sorted(nodes)
