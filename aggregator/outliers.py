"""Outliers: small groups that differ in few facts from a larger one. Pure.

A node is odd only beside nodes like it. So each group is compared with those at least `TIMES_LARGER` times its size,
and described by what sets it apart from the nearest of them. A group with more than `MOST_FACTS` differences from
every larger one is another kind of machine, not an outlier. What could not be read on a node sets it apart in no way:
that is how its collectors ended, which the document tells beside. Nor does what it was not asked for, or what agents
of its version never report.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import UNSET

from aggregator.fold import Folded
from aggregator.fold_subtype import Slot, value_indexes
from aggregator.unread import Unread
from aggregator.vocabulary import Vocabulary
from common.fleet import Outlier, OutlierFact

TIMES_LARGER: Final = 2
MOST_FACTS: Final = 64
MOST_CANDIDATES: Final = 64
"""Larger groups that one group is compared with, largest first."""
MOST_OUTLIERS: Final = 1000
_MOST_KNOWN: Final = 100_000
"""Distances kept at once, so that thousands of all-different nodes stay bounded in memory."""


def outliers(folded: Folded, unread: Unread, vocabulary: Vocabulary) -> list[Outlier]:
    """The outliers, those with the fewest differing facts first; at most `MOST_OUTLIERS` of them."""
    distances = _Distances(folded, unread, vocabulary)
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

    def __init__(self, folded: Folded, unread: Unread, vocabulary: Vocabulary) -> None:
        self._folded = folded
        self._vocabulary = vocabulary
        self._unread = unread
        self._partly: dict[Slot, frozenset[int]] = {}
        self._known: dict[tuple[Slot, int, int], int] = {}
        self._without: dict[tuple[Slot, str], frozenset[int]] = {}

    def between(self, first: int, second: int, limit: int) -> int | None:
        """The distance, or None when it is not below the limit."""
        mine, other = self._folded.variants[first], self._folded.variants[second]
        distance = sum(self.whole(slot, first, second) for slot in mine.keys() ^ other.keys())
        for slot in mine.keys() & other.keys():
            if mine[slot] != other[slot]:
                distance += self._within(slot, first, second)
            if distance >= limit:
                return None
        return distance if distance < limit else None

    def whole(self, slot: Slot, first: int, second: int) -> bool:
        """Whether a subtype that only one of two groups has sets them apart: it was read on the other too."""
        return self._was_read(second if slot in self._folded.variants[first] else first, slot)

    def differing(self, slot: Slot, first: int, second: int) -> Iterator[tuple[int, int, int]]:
        """Where two groups that have a subtype differ in it: the key's position and those of both values."""
        subtype = self._folded.subtypes[slot]
        mine, other = (subtype.signatures[self._folded.variants[group][slot]] for group in (first, second))
        for key, (here, there) in enumerate(zip(value_indexes(mine), value_indexes(other), strict=True)):
            if here == there:
                continue
            values, name = subtype.values[key], subtype.keys[key]
            if values[here] is UNSET and not self._was_read(first, slot, name):
                continue
            if values[there] is UNSET and not self._was_read(second, slot, name):
                continue
            yield key, here, there

    def _was_read(self, group: int, slot: Slot, key: str = "") -> bool:
        """Whether what a group lacks is really not there."""
        if group not in self._partly_unread(slot) and not self._vocabulary.is_mixed:
            return True
        without = self._without.get((slot, key))
        if without is None:
            if len(self._without) >= _MOST_KNOWN:
                self._without.clear()
            without = self._without[slot, key] = self._silent(slot, key)
        return group not in without

    def _partly_unread(self, slot: Slot) -> frozenset[int]:
        """Groups whose distance in a subtype does not follow from their variants of it alone."""
        partly = self._partly.get(slot)
        if partly is None:
            partly = self._partly[slot] = self._unread.partly(slot.kind, slot.name)
        return partly

    def _silent(self, slot: Slot, key: str) -> frozenset[int]:
        where = slot.kind, slot.name, key
        return self._unread.groups(*where) | self._vocabulary.silent(*where)

    def _within(self, slot: Slot, first: int, second: int) -> int:
        spoken = self._vocabulary.spoken
        partly = self._partly_unread(slot)
        if first in partly or second in partly or spoken[first] != spoken[second]:
            return sum(1 for _ in self.differing(slot, first, second))
        mine, other = self._folded.variants[first][slot], self._folded.variants[second][slot]
        known = self._known.get((slot, mine, other))
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[slot, mine, other] = sum(1 for _ in self.differing(slot, first, second))
        return known


def _facts(folded: Folded, distances: _Distances, group: int, like: int) -> Iterator[OutlierFact]:
    mine, other = folded.variants[group], folded.variants[like]
    for slot, subtype in folded.subtypes.items():
        here, there = mine.get(slot), other.get(slot)
        if here == there:
            continue
        if here is None or there is None:
            # Written as present or not: the subtype's facts are in the document under its groups.
            if distances.whole(slot, group, like):
                yield OutlierFact(slot.kind, slot.name, value=here is not None, expected=there is not None)
            continue
        for key, value, expected in distances.differing(slot, group, like):
            values = subtype.values[key]
            yield OutlierFact(slot.kind, slot.name, subtype.keys[key], values[value], values[expected])
