"""What changed from one document of the fleet to the next: nodes that changed alike, and in which facts. Pure.

Stable facts only. What either side could not read, was not asked for, or sets aside as scattered, is no change. What
comes or goes with another version of a node's agent, and is reported on no node by agents of one of the two, is told
apart: it may be the agent that knows more or less. (Of K8s, which the aggregator reads, the same with its version.)
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import NamedTuple

from msgspec import UNSET, UnsetType

from aggregator.names import unfold_names
from aggregator.unfold import value_by_group
from aggregator.unread import NOBODY, Unread
from aggregator.vocabulary import Vocabulary, version_of_nodes
from common.fleet import FleetSnapshot, FoldedSubtype, Group
from common.fleet_api import DriftFact
from common.model import MeasurementType, Scalar
from common.nodeset import unfold_indexes

_Place = tuple[MeasurementType, str, str]
_Move = tuple[int, int, tuple[str, str]]
"""A group before and after, and the version of its nodes' agents."""


class Change(NamedTuple):
    """Nodes that changed alike."""

    nodes: list[str]
    facts: list[DriftFact]
    versions: tuple[str, str] = ("", "")
    """Of the nodes' agents, before and after."""
    beyond: tuple[DriftFact, ...] = ()
    """Facts that agents of one of the versions never report: nobody can tell whether they changed."""


def drift(before: FleetSnapshot, after: FleetSnapshot) -> list[Change]:
    """Changes of the nodes that have facts in both, and of their agents; those of most nodes first."""
    moved = _moved(before, after)
    comparison = _Comparison(before, after, moved)
    for place, old, new in _places(before, after, moved):
        comparison.compare(place, old, new)
    return sorted(comparison.changes(), key=lambda change: (-len(change.nodes), change.nodes))


class _Comparison:
    """Place by place, all groups at once: a place is read once from each document, however many groups there are."""

    def __init__(self, before: FleetSnapshot, after: FleetSnapshot, moved: Mapping[_Move, list[str]]) -> None:
        self._moved = moved
        self._groups = len(before.groups), len(after.groups)
        self._versions = _Versions(before, after)
        self._unread = Unread(before), Unread(after)
        self._scattered = _scattered(before) | _scattered(after)
        self._facts: list[DriftFact] = []
        self._changed = [array("L") for _ in moved]
        """By move, positions among the facts."""
        self._beyond = [array("L") for _ in moved]

    def compare(self, place: _Place, old: Mapping[int, Scalar], new: Mapping[int, Scalar]) -> None:
        """A place with its values by group."""
        if place in self._scattered:
            return
        unread, now_unread = (
            self._unread[side].groups(*place) if len(values) < self._groups[side] else NOBODY
            for side, values in enumerate((old, new))
        )
        known: dict[tuple[object, ...], int] = {}
        for at, (group, now_group, versions) in enumerate(self._moved):
            was, now = old.get(group, UNSET), new.get(now_group, UNSET)
            if _same(was, now) or (was is UNSET and group in unread) or (now is UNSET and now_group in now_unread):
                continue
            is_known = UNSET not in (was, now) or self._versions.both_know(place, was is UNSET, versions)
            fact = known.setdefault((type(was), was, type(now), now), len(self._facts))
            if fact == len(self._facts):
                self._facts.append(DriftFact(*place, was, now))
            (self._changed if is_known else self._beyond)[at].append(fact)

    def changes(self) -> list[Change]:
        """Nodes that changed alike together, whatever groups they were and are in."""
        alike: dict[tuple[object, ...], Change] = {}
        for (_, _, versions), nodes, changed, beyond in zip(
            self._moved, self._moved.values(), self._changed, self._beyond, strict=True
        ):
            upgraded = versions if versions[0] != versions[1] else None
            if not (changed or beyond or upgraded):
                continue
            key = upgraded, changed.tobytes(), beyond.tobytes()
            if key not in alike:
                facts, others = ([self._facts[at] for at in found] for found in (changed, beyond))
                alike[key] = Change([], facts, versions, tuple(others))
            alike[key].nodes.extend(nodes)
        for change in alike.values():
            change.nodes.sort()
        return list(alike.values())


def _same(was: Scalar | UnsetType, now: Scalar | UnsetType) -> bool:
    return type(was) is type(now) and was == now


def _moved(before: FleetSnapshot, after: FleetSnapshot) -> dict[_Move, list[str]]:
    """Nodes in another group, or with another agent: by group and by version of the agent, before and after."""
    were, had, have = _group_of(before), version_of_nodes(before), version_of_nodes(after)
    moved: dict[_Move, list[str]] = defaultdict(list)
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
        self._reported: dict[_Place, tuple[frozenset[str], ...]] = {}

    def both_know(self, place: _Place, is_new: bool, versions: tuple[str, str]) -> bool:
        """Whether the side that has not the fact would have it if the node had it."""
        side = 0 if is_new else 1
        if place[0] is MeasurementType.K8S and not self._same_aggregator:
            return bool(self._reporting(place)[side])
        return versions[0] == versions[1] or any(versions[side] in reporting for reporting in self._reporting(place))

    def _reporting(self, place: _Place) -> tuple[frozenset[str], ...]:
        if place not in self._reported:
            self._reported[place] = tuple(document.reporting(*place) for document in self._documents)
        return self._reported[place]


def _group_of(document: FleetSnapshot) -> dict[str, Group]:
    return {node: group for group in document.groups for node in unfold_names(group.nodes, document.node_table)}


def _scattered(document: FleetSnapshot) -> set[_Place]:
    return {(m.type, s.subtype, key) for m in document.measurements for s in m.subtypes for key in s.scattered}


def _places(
    before: FleetSnapshot, after: FleetSnapshot, moved: Iterable[_Move]
) -> Iterator[tuple[_Place, Mapping[int, Scalar], Mapping[int, Scalar]]]:
    """Places whose value may have changed, in order, with the values by group."""
    old_subtypes, new_subtypes = _subtypes(before), _subtypes(after)
    for subject in sorted(old_subtypes.keys() | new_subtypes.keys()):
        old = _Subtype(old_subtypes.get(subject), len(before.groups))
        new = _Subtype(new_subtypes.get(subject), len(after.groups))
        stays = all((was in old.groups) == (now in new.groups) for was, now, _ in moved)
        for key in sorted(old.keys() | new.keys()):
            if not (stays and key in old.data and key in new.data and _same(old.data[key], new.data[key])):
                yield (*subject, key), old.values(key), new.values(key)


def _subtypes(document: FleetSnapshot) -> dict[tuple[MeasurementType, str], FoldedSubtype]:
    return {(m.type, folded.subtype): folded for m in document.measurements for folded in m.subtypes}


class _Subtype:
    """One subtype in one document; none when it is not there."""

    def __init__(self, folded: FoldedSubtype | None, groups: int) -> None:
        having = range(0) if folded is None else range(groups)
        self._having = unfold_indexes(folded.groups) if folded is not None and folded.groups else having
        self._differs = {differing.key: differing for differing in folded.differs} if folded is not None else {}
        self.groups = frozenset(self._having)
        self.data = folded.data if folded is not None else {}

    def keys(self) -> Set[str]:
        return self.data.keys() | self._differs.keys()

    def values(self, key: str) -> Mapping[int, Scalar]:
        if key in self._differs:
            return dict(value_by_group(self._differs[key], self._having))
        return dict.fromkeys(self._having, self.data[key]) if key in self.data else {}
