"""What changed from one document of the fleet to the next: nodes that changed alike, and in which facts. Pure.

Stable facts only, group by group. What either side could not read, or sets aside as scattered, is no change. What
comes or goes with another version of a node's agent, and is reported on no node by agents of one of the two, is told
apart: it may be the agent that knows more or less. (Of K8s, which the aggregator reads, the same with its version.)
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple

from msgspec import UNSET

from aggregator.names import unfold_names
from aggregator.unfold import value_by_group
from aggregator.unread import Unread
from aggregator.vocabulary import Vocabulary, version_of_nodes
from common.fleet import FleetSnapshot, Group
from common.fleet_api import DriftFact
from common.model import MeasurementType, Scalar
from common.nodeset import unfold_indexes

MOST_CHANGES: Final = 20
"""Pairs of groups that are compared fact by fact."""

_Place = tuple[MeasurementType, str, str]


class Change(NamedTuple):
    """Nodes that changed alike."""

    nodes: list[str]
    facts: list[DriftFact]
    versions: tuple[str, str] = ("", "")
    """Of the nodes' agents, before and after."""
    beyond: tuple[DriftFact, ...] = ()
    """Facts that agents of one of the versions never report: nobody can tell whether they changed."""


def drift(before: FleetSnapshot, after: FleetSnapshot, most: int | None = MOST_CHANGES) -> Iterator[Change]:
    """Changes of the nodes that have facts in both, and of their agents; those of most nodes first, and not more."""
    moved = _moved(before, after)
    if not moved:
        return
    compare = _Versions(before, after)
    old_unread, new_unread = Unread.of(before), Unread.of(after)
    scattered = _scattered(before) | _scattered(after)
    largest = sorted(moved.items(), key=lambda item: -len(item[1]))[:most]
    for (old_group, new_group, versions), nodes in largest:
        old_facts, new_facts = _facts(before, old_group), _facts(after, new_group)
        changed: list[DriftFact] = []
        beyond: list[DriftFact] = []
        for place in sorted(old_facts.keys() | new_facts.keys()):
            old_value, new_value = old_facts.get(place, UNSET), new_facts.get(place, UNSET)
            if (type(old_value), old_value) == (type(new_value), new_value) or place in scattered:
                continue
            if old_value is UNSET and old_group in old_unread.groups(*place):
                continue
            if new_value is UNSET and new_group in new_unread.groups(*place):
                continue
            is_known = UNSET not in (old_value, new_value) or compare.both_know(place, old_value is UNSET, versions)
            (changed if is_known else beyond).append(DriftFact(*place, old_value, new_value))
        if changed or beyond or versions[0] != versions[1]:
            yield Change(sorted(nodes), changed, versions, tuple(beyond))


def _moved(before: FleetSnapshot, after: FleetSnapshot) -> dict[tuple[int, int, tuple[str, str]], list[str]]:
    """Nodes in another group, or with another agent: by group and by version of the agent, before and after."""
    were, had, have = _group_of(before), version_of_nodes(before), version_of_nodes(after)
    moved: dict[tuple[int, int, tuple[str, str]], list[str]] = defaultdict(list)
    for node, group in _group_of(after).items():
        versions = had.get(node, ""), have.get(node, "")
        old = were.get(node)
        if old is not None and (old.id != group.id or versions[0] != versions[1]):
            moved[old.group, group.group, versions].append(node)
    return moved


class _Versions:
    """Tells what a fact that is missing before or after may be missing for."""

    def __init__(self, before: FleetSnapshot, after: FleetSnapshot) -> None:
        self._documents = Vocabulary.of(before), Vocabulary.of(after)
        self._same_aggregator = before.metadata.version == after.metadata.version

    def both_know(self, place: _Place, is_new: bool, versions: tuple[str, str]) -> bool:
        """Whether the side that has not the fact would have it if the node had it."""
        side = 0 if is_new else 1
        if place[0] is MeasurementType.K8S and not self._same_aggregator:
            return bool(self._documents[side].reporting(*place))
        return versions[0] == versions[1] or any(versions[side] in of.reporting(*place) for of in self._documents)


def _group_of(document: FleetSnapshot) -> dict[str, Group]:
    return {node: group for group in document.groups for node in unfold_names(group.nodes, document.node_table)}


def _scattered(document: FleetSnapshot) -> set[_Place]:
    return {(m.type, s.subtype, key) for m in document.measurements for s in m.subtypes for key in s.scattered}


def _facts(document: FleetSnapshot, group: int) -> dict[_Place, Scalar]:
    """One group's facts."""
    facts: dict[_Place, Scalar] = {}
    for measurement in document.measurements:
        for folded in measurement.subtypes:
            if folded.groups and group not in unfold_indexes(folded.groups):
                continue
            place = measurement.type, folded.subtype
            facts.update(((*place, key), value) for key, value in folded.data.items())
            for differing in folded.differs:
                facts.update(((*place, differing.key), value) for _, value in value_by_group(differing, [group]))
    return facts
