"""What the facts that an expression names are on each node, and which nodes are alike in them. Pure.

Nodes of a group are alike in every stable fact, so the folded document answers for all of them at once. Only facts
that it does not hold (each node's own, and those set aside as scattered) are read node by node, and only when named.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from aggregator.cluster_facts import cluster_subtypes
from aggregator.names import unfold_names
from aggregator.own_facts import Wanted, held_as, ways_to_read
from aggregator.query_child import Given, Missing
from aggregator.query_compared import ValueType, value_type
from aggregator.query_names import Name
from aggregator.unfold import value_by_group
from aggregator.unread import NOBODY, Unread
from common.errors import UsageError
from common.fleet import FleetSnapshot, FoldedSubtype
from common.model import Scalar
from common.nodeset import unfold_indexes
from common.section import restored
from common.stability import NODE_PLACEHOLDER

ReadOwn: TypeAlias = Callable[[str, Sequence[Wanted]], Sequence[Scalar | UnsetType] | None]
"""A node's own values of some facts; None when nothing is known of the node."""

_MOST_FACTS: Final = 200_000
"""Facts of whole subtypes in one query."""
_MOST_READINGS: Final = 1_000_000
"""Of names on nodes, one by one: seconds of a thread that nobody can end."""


@dataclass(frozen=True, slots=True)
class Row:
    """Nodes that are alike in every fact named."""

    cells: tuple[Given | Missing, ...]
    nodes: list[str]


@dataclass(slots=True)
class _Column:
    """One name over the fleet."""

    values: Mapping[int, Scalar | dict[str, Scalar]] = field(default_factory=dict)
    """By group."""
    unread: frozenset[int] = NOBODY
    """Groups of which nobody knows whether they have it."""
    own: list[Wanted] = field(default_factory=list)
    """Where each node may have a value of its own, when the document holds none."""


class FactTable:
    """The rows of one query, and which of the names no node has."""

    def __init__(self, document: FleetSnapshot, names: Sequence[Name], read_own: ReadOwn) -> None:
        """Raises UsageError when the names are of more facts than a query may look at."""
        self._document = document
        self._names = names
        self._read_own = read_own
        self._subtypes = {(m.type, s.subtype): s for m in document.measurements for s in m.subtypes}
        for kind, folded in cluster_subtypes(document, {name.kind for name in names}):
            self._subtypes[kind, folded.subtype] = folded
        self._unread = Unread(document)
        self._facts = 0
        self._is_all_known = True
        columns = [self._column(name) for name in names]
        if document.summary.folded * sum(len(column.own) for column in columns) > _MOST_READINGS:
            raise UsageError(
                f"the expression asks each of {document.summary.folded} nodes for too much",
                "Name fewer facts that are each node's own, or that no node has.",
            )
        found: set[int] = set()
        rows: dict[bytes, Row] = {}
        for cells, nodes in self._alike(columns):
            found.update(
                number
                for number, (name, cell) in enumerate(zip(names, cells, strict=True))
                if isinstance(cell, Given) and not (name.is_test and cell.value is False)
            )
            token = msgspec.msgpack.encode(cells)  # true and 1 are equal to Python, and not here
            rows.setdefault(token, Row(cells, [])).nodes.extend(nodes)
        self.rows = list(rows.values())
        self.nowhere = [
            name.text
            for number, (name, column) in enumerate(zip(names, columns, strict=True))
            if number not in found and (self._is_all_known or not column.own)
        ]

    def _alike(self, columns: Sequence[_Column]) -> Iterator[tuple[tuple[Given | Missing, ...], list[str]]]:
        wanted = [one for column in columns for one in column.own]
        for group in self._document.groups:
            nodes = unfold_names(group.nodes, self._document.node_table)
            cells = [
                _cell(name, column.values.get(group.group, UNSET), group.group in column.unread)
                for name, column in zip(self._names, columns, strict=True)
            ]
            if not wanted and not any(map(_names_node, cells)):
                yield tuple(cells), nodes
                continue
            for node in nodes:
                values = self._read_own(node, wanted) if wanted else ()
                self._is_all_known &= values is not None
                own = None if values is None else iter(values)
                shared = zip(self._names, columns, cells, strict=True)
                yield tuple(self._of_node(node, own, *each) for each in shared), [node]

    def _of_node(
        self, node: str, own: Iterator[Scalar | UnsetType] | None, name: Name, column: _Column, cell: Given | Missing
    ) -> Given | Missing:
        if column.own:
            if own is None:
                return Missing(unread=True)
            values = [next(own) for _ in column.own]
            value = next((value for value in values if value is not UNSET), UNSET)
            return _cell(name, value, isinstance(cell, Missing) and cell.unread)
        if isinstance(cell, Missing) or not _names_node(cell):
            return cell
        if isinstance(cell.value, dict):
            return Given({key: restored(value, node) for key, value in cell.value.items()})
        return Given(restored(cell.value, node))

    def _column(self, name: Name) -> _Column:
        readings = ways_to_read(name.parts)
        for subtype, key in readings:
            folded = self._subtypes.get((name.kind, subtype))
            if folded is None:
                continue
            lacking = self._unread.groups(name.kind, subtype, key)
            if held_as(dict.fromkeys(folded.scattered), key) is not None:
                return _Column(unread=lacking, own=[Wanted(name.kind, subtype, key)])
            if values := self._values(folded, key):
                return _Column(values, lacking)
        lacking = self._unread.groups(name.kind, name.whole)
        if (folded := self._subtypes.get((name.kind, name.whole))) is not None:
            return _Column(self._whole(folded, name.is_test), lacking)
        for subtype, key in readings:
            lacking |= self._unread.groups(name.kind, subtype, key)
        return _Column(unread=lacking, own=[Wanted(name.kind, *reading, stable=False) for reading in readings])

    def _having(self, folded: FoldedSubtype) -> list[int]:
        return unfold_indexes(folded.groups) if folded.groups else list(range(len(self._document.groups)))

    def _values(self, folded: FoldedSubtype, key: str) -> dict[int, Scalar]:
        """A fact by group. Of several equal things the key of one may be folded otherwise on every group."""
        having = self._having(folded)
        if (common := held_as(folded.data, key)) is not None:
            return dict.fromkeys(having, folded.data[common])
        differing = {differing.key: differing for differing in folded.differs}
        values: dict[int, Scalar] = {}
        while (found := held_as(differing, key)) is not None:
            values.update(value_by_group(differing.pop(found), having))
        return values

    def _whole(self, folded: FoldedSubtype, is_test: bool) -> Mapping[int, Scalar | dict[str, Scalar]]:
        """A whole subtype by group; groups alike in it share one object."""
        having = self._having(folded)
        if is_test:
            return dict.fromkeys(having, True)
        differing: dict[int, dict[str, Scalar]] = defaultdict(dict)
        for one in folded.differs:
            for group, value in value_by_group(one, having):
                differing[group][one.key] = value
        shared: dict[bytes, dict[str, Scalar]] = {}
        values: dict[int, Scalar | dict[str, Scalar]] = {}
        for group in having:
            token = msgspec.msgpack.encode(differing.get(group, {}))
            if token not in shared:
                shared[token] = {**folded.data, **differing.get(group, {})}
                self._facts += len(shared[token])
                if self._facts > _MOST_FACTS:
                    raise UsageError(
                        f"the expression looks at more than {_MOST_FACTS:,} facts",
                        f"Name single facts instead of all of {folded.subtype}.",
                    )
            values[group] = shared[token]
        return values


def _cell(name: Name, value: Scalar | dict[str, Scalar] | UnsetType, unread: bool) -> Given | Missing:
    if value is UNSET:
        return Given(False) if name.is_test and not unread else Missing(unread)
    return Given(True) if name.is_test else Given(value)


def usable(cell: Given | Missing, takes: Collection[ValueType]) -> Given | Missing:
    """The fact as CEL is given it in a place that takes values of these types; not at all when it is of another."""
    return Missing() if takes and isinstance(cell, Given) and value_type(cell.value) not in takes else cell


def _names_node(cell: Given | Missing) -> bool:
    if isinstance(cell, Missing):
        return False
    texts: Iterable[object] = cell.value.values() if isinstance(cell.value, dict) else (cell.value,)
    return any(isinstance(text, str) and NODE_PLACEHOLDER in text for text in texts)
