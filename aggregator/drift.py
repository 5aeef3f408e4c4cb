"""What changed from one document of the fleet to the next: nodes that changed alike, and in which facts. Pure.

Stable facts only, group by group. What either side could not read, or sets aside as scattered, is no change.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple

from msgspec import UNSET

from aggregator.names import unfold_names
from aggregator.unfold import value_by_group
from aggregator.unread import Unread
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


def drift(before: FleetSnapshot, after: FleetSnapshot) -> Iterator[Change]:
    """Changes of the nodes that have facts in both, those of most nodes first."""
    were = _group_of(before)
    moved: dict[tuple[int, int], list[str]] = defaultdict(list)
    for node, group in _group_of(after).items():
        old = were.get(node)
        if old is not None and old.id != group.id:
            moved[old.group, group.group].append(node)
    if not moved:
        return
    old_unread, new_unread = Unread.of(before), Unread.of(after)
    scattered = _scattered(before) | _scattered(after)
    for (old_group, new_group), nodes in sorted(moved.items(), key=lambda item: -len(item[1]))[:MOST_CHANGES]:
        old_facts, new_facts = _facts(before, old_group), _facts(after, new_group)
        changed = []
        for place in sorted(old_facts.keys() | new_facts.keys()):
            old_value, new_value = old_facts.get(place, UNSET), new_facts.get(place, UNSET)
            if (type(old_value), old_value) == (type(new_value), new_value) or place in scattered:
                continue
            if old_value is UNSET and old_group in old_unread.groups(*place):
                continue
            if new_value is UNSET and new_group in new_unread.groups(*place):
                continue
            changed.append(DriftFact(*place, old_value, new_value))
        if changed:
            yield Change(sorted(nodes), changed)


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
