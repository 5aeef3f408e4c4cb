"""What sets groups of one document apart from other groups of it, large or small. Pure.

As with outliers, what was not read on a node, or not asked for, sets it apart in no way, nor does what agents of its
version never report; both are told beside. A subtype that only one group has counts as one fact.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec import UNSET, UnsetType

from aggregator.unread import Unread
from aggregator.vocabulary import Vocabulary
from common.fleet import FleetSnapshot, FoldedEntry, FoldedValue, OutlierFact
from common.model import MeasurementType, Scalar
from common.nodeset import unfold_indexes


class _Fact(NamedTuple):
    """One differing fact, as it is looked up."""

    key: str
    most: Scalar | UnsetType
    rarer: dict[int, Scalar | UnsetType]

    def of(self, group: int) -> Scalar | UnsetType:
        return self.rarer.get(group, self.most)


class _Subtype(NamedTuple):
    kind: MeasurementType
    name: str
    having: frozenset[int] | None
    """None: all groups."""
    facts: list[_Fact]

    def has(self, group: int) -> bool:
        return self.having is None or group in self.having


class GroupDiff:
    """Of one document; made once for any number of comparisons."""

    def __init__(self, document: FleetSnapshot) -> None:
        self._unread = Unread(document)
        self._vocabulary = Vocabulary.of(document)
        self._subtypes = [
            _Subtype(
                measurement.type,
                folded.subtype,
                frozenset(unfold_indexes(folded.groups)) if folded.groups else None,
                [_looked_up(differing.key, differing.values) for differing in folded.differs],
            )
            for measurement in document.measurements
            for folded in measurement.subtypes
        ]
        self._endings = [
            (entry, frozenset(unfold_indexes(entry.groups))) for entry in document.collection if entry.groups
        ]

    def facts(self, group: int, like: int) -> Iterator[OutlierFact]:
        """In which facts a group differs from another, which has the `expected` values."""
        for subtype in self._subtypes:
            here, there = subtype.has(group), subtype.has(like)
            where = subtype.kind, subtype.name
            if here != there and self._was_read(like if here else group, *where):
                yield OutlierFact(*where, value=here, expected=there)
            for fact in subtype.facts if here and there else ():
                value, expected = fact.of(group), fact.of(like)
                if (type(value), value) == (type(expected), expected):
                    continue
                if value is UNSET and not self._was_read(group, *where, fact.key):
                    continue
                if expected is UNSET and not self._was_read(like, *where, fact.key):
                    continue
                yield OutlierFact(*where, fact.key, value, expected)

    def endings(self, group: int, like: int) -> Iterator[FoldedEntry]:
        """How collectors ended on a group, but not on the other."""
        return (entry for entry, groups in self._endings if group in groups and like not in groups)

    def not_asked(self, group: int, like: int) -> list[MeasurementType]:
        """What a group was not asked for, although the other was."""
        groups = ((kind, self._unread.not_asked(kind)) for kind in MeasurementType)
        return [kind for kind, lacking in groups if group in lacking and like not in lacking]

    def _was_read(self, group: int, kind: MeasurementType, subtype: str, key: str = "") -> bool:
        where = kind, subtype, key
        return group not in self._unread.groups(*where) and group not in self._vocabulary.silent(*where)


def _looked_up(key: str, values: Sequence[FoldedValue]) -> _Fact:
    most, *rarer = values
    return _Fact(key, most.value, {group: value.value for value in rarer for group in unfold_indexes(value.groups)})
