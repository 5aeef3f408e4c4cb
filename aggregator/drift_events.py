"""What is told to those who watch of the difference between two documents: so much that it can be read. Pure.

Nobody is left out: beyond the changes of most nodes, all others that changed are named together, without their facts.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from aggregator.cluster_drift import cluster_drift, topology_drift
from aggregator.drift import Change, drift
from common.fleet import FleetSnapshot
from common.fleet_api import AgentChange, ClusterDrift, Drift, DriftFact, WatchEvent
from common.nodeset import fold_names

MOST_CHANGES: Final = 50
"""Changes of nodes that are told with their facts."""
MOST_FACTS: Final = 50
"""Facts that are told of one change."""


def drift_events(before: FleetSnapshot, after: FleetSnapshot, at: str) -> list[WatchEvent]:
    """Of two documents over the whole fleet; `at` is when it is told."""
    changes = drift(before, after)
    runs = after.metadata.run, before.metadata.run
    drifted = [change for change in (*changes, *topology_drift(before, after)) if change.facts]
    events: list[WatchEvent] = [
        Drift(at, *runs, len(nodes), fold_names(nodes), facts, more, alike)
        for nodes, facts, more, alike in _told(drifted)
    ]
    events += [
        AgentChange(at, *runs, len(nodes), fold_names(nodes), *versions, facts, more, alike)
        for versions, upgraded in _upgraded(changes).items()
        for nodes, facts, more, alike in _told(upgraded)
    ]
    if cluster := cluster_drift(before, after):
        events.append(ClusterDrift(at, *runs, cluster[:MOST_FACTS], max(0, len(cluster) - MOST_FACTS)))
    return events


def _told(changes: Sequence[Change]) -> Iterator[tuple[list[str], list[DriftFact], int, bool]]:
    """Nodes, facts, how many more there are, and whether the nodes changed alike."""
    largest = sorted(changes, key=lambda change: -len(change.nodes))
    for change in largest[:MOST_CHANGES]:
        yield change.nodes, change.facts[:MOST_FACTS], max(0, len(change.facts) - MOST_FACTS), True
    if others := largest[MOST_CHANGES:]:
        places = {(fact.type, fact.subtype, fact.key) for change in others for fact in change.facts}
        yield sorted({node for change in others for node in change.nodes}), [], len(places), False


def _upgraded(changes: Sequence[Change]) -> dict[tuple[str, str], list[Change]]:
    """Nodes with agents of another version, by the versions: alike where only one of the two reports the same."""
    found: dict[tuple[str, str], dict[bytes, Change]] = defaultdict(dict)
    for change in changes:
        if all(change.versions) and change.versions[0] != change.versions[1]:
            alike = found[change.versions].setdefault(
                msgspec.msgpack.encode(change.beyond), Change([], list(change.beyond))
            )
            alike.nodes.extend(change.nodes)
    return {versions: list(alike.values()) for versions, alike in found.items()}
