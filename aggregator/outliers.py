"""Outliers: small groups that differ in few facts from a larger one. Pure.

A node is odd only beside nodes like it. So each group is compared with those at least `TIMES_LARGER` times its size,
and described by what sets it apart from the nearest of them. A group with more than `MOST_FACTS` differences from
every larger one is another kind of machine, not an outlier. What could not be read on a node sets it apart in no way:
that is how its collectors ended, which the document tells beside.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from aggregator.fold import Folded
from aggregator.fold_subtype import Slot, value_indexes
from common.fleet import Outlier, OutlierFact
from common.model import State
from common.nodeset import unfold_indexes

TIMES_LARGER: Final = 2
MOST_FACTS: Final = 64
MOST_CANDIDATES: Final = 64
"""Larger groups that one group is compared with, largest first."""
MOST_OUTLIERS: Final = 1000
_MOST_KNOWN: Final = 100_000
"""Distances kept at once, so that thousands of all-different nodes stay bounded in memory."""


def outliers(folded: Folded) -> list[Outlier]:
    """The outliers, those with the fewest differing facts first; at most `MOST_OUTLIERS` of them."""
    distances = _Distances(folded)
    found: list[tuple[int, int, int]] = []
    for group in folded.groups:
        nearest = _nearest(folded, distances, group.group)
        if nearest is not None and nearest[0] > 0:  # 0: only their collectors ended differently
            found.append((nearest[0], group.group, nearest[1]))
        if len(found) == MOST_OUTLIERS:
            break
    return [
        Outlier(
            group,
            folded.groups[group].count,
            folded.groups[group].nodes,
            like,
            list(_facts(folded, distances, group, like)),
        )
        for _, group, like in sorted(found)
    ]


def _nearest(folded: Folded, distances: "_Distances", group: int) -> tuple[int, int] | None:
    """Distance and position of the nearest larger group, or None when there is none near."""
    count = folded.groups[group].count
    best: tuple[int, int] | None = None
    for candidate in folded.groups[:MOST_CANDIDATES]:  # groups are sorted by size
        if candidate.count < count * TIMES_LARGER:
            break
        distance = distances.between(group, candidate.group, best[0] if best else MOST_FACTS + 1)
        if distance is not None:
            best = distance, candidate.group
    return best


class _Distances:
    """In how many facts two groups differ. A whole subtype that one of them has not counts as one."""

    def __init__(self, folded: Folded) -> None:
        self._folded = folded
        self._unread = _unread(folded)
        self._known: dict[tuple[Slot, int, int], int] = {}

    def between(self, first: int, second: int, limit: int) -> int | None:
        """The distance, or None when it is not below the limit."""
        mine, other = self._folded.variants[first], self._folded.variants[second]
        distance = sum(self.both_read(slot, first, second) for slot in mine.keys() ^ other.keys())
        for slot in mine.keys() & other.keys():
            if mine[slot] != other[slot]:
                distance += self._within(slot, mine[slot], other[slot])
            if distance >= limit:
                return None
        return distance if distance < limit else None

    def both_read(self, slot: Slot, first: int, second: int) -> bool:
        """Whether the subtype is missing on neither for want of reading."""
        return slot not in self._unread.get(first, ()) and slot not in self._unread.get(second, ())

    def _within(self, slot: Slot, first: int, second: int) -> int:
        key = (slot, first, second)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            signatures = self._folded.subtypes[slot].signatures
            pairs = zip(value_indexes(signatures[first]), value_indexes(signatures[second]), strict=True)
            known = self._known[key] = sum(a != b for a, b in pairs)
        return known


def _unread(folded: Folded) -> dict[int, set[Slot]]:
    """For each group the subtypes that it may have and that could not be read there."""
    read_by: dict[str, set[Slot]] = defaultdict(set)
    for entry in folded.collection:
        read_by[entry.collector].update(Slot(entry.type, name) for name in entry.subtypes)
    unread: dict[int, set[Slot]] = defaultdict(set)
    for entry in folded.collection:
        if entry.state is State.FAILED:
            slots = {Slot(entry.type, entry.subtype)} if entry.subtype else read_by[entry.collector]
            for group in unfold_indexes(entry.groups) if entry.groups else range(len(folded.groups)):
                unread[group] |= slots - folded.variants[group].keys()
    return unread


def _facts(folded: Folded, distances: _Distances, group: int, like: int) -> Iterator[OutlierFact]:
    mine, other = folded.variants[group], folded.variants[like]
    for slot, subtype in folded.subtypes.items():
        here, there = mine.get(slot), other.get(slot)
        if here == there:
            continue
        if here is None or there is None:
            # Written as present or not: the subtype's facts are in the document under its groups.
            if distances.both_read(slot, group, like):
                yield OutlierFact(slot.kind, slot.name, value=here is not None, expected=there is not None)
            continue
        pairs = zip(value_indexes(subtype.signatures[here]), value_indexes(subtype.signatures[there]), strict=True)
        for key, (value, expected) in enumerate(pairs):
            if value != expected:
                yield OutlierFact(
                    slot.kind,
                    slot.name,
                    subtype.keys[key],
                    subtype.values[key][value],
                    subtype.values[key][expected],
                )
