"""Sets of node names as text: `gpu-[001-512],login`, or positions in a table for names that do not fold.

Cloud names (`ip-10-0-12-34.us-west-2.compute.internal`) share no brackets. Written out wherever a set names them,
they would be most of a document: they stand once in a table, and sets refer to them as `@0-17`. Pure.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from common.errors import Code, InputError
from common.fleet import FleetSnapshot, NodeTable
from common.nodeset import fold_indexes, fold_names, unfold_indexes
from common.nodeset import unfold_names as unfold_set

_WORTH_FOLDING: Final = 4
"""Names in a bracket that make it shorter than their positions."""
_WORTH_A_TABLE: Final = 16
"""Whole names that make a table worth reading."""


class NodeNames:
    """The names of one fleet, and how each of them is written in a set."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names: tuple[str, ...] = tuple(sorted(set(names)))
        whole: list[str] = []
        for bracket in _brackets(fold_names(self.names)):
            if len(members := unfold_set(bracket)) < _WORTH_FOLDING:
                whole.extend(members)
        self.table = _table(sorted(whole)) if len(whole) >= _WORTH_A_TABLE else []
        self._position = {name: position for position, name in enumerate(_entries(self.table))}

    def fold(self, names: Iterable[str]) -> str:
        """The set as text, in one fixed order whatever the order given. Names must be among the fleet's."""
        rest: list[str] = []
        positions: list[int] = []
        for name in names:
            position = self._position.get(name)
            if position is None:
                rest.append(name)
            else:
                positions.append(position)
        folded = [fold_names(rest)] if rest else []
        folded.extend(f"@{part}" for part in fold_indexes(positions).split(",") if part)
        return ",".join(folded)


def unfold_names(text: str, table: Sequence[NodeTable] = ()) -> list[str]:
    """The names a text stands for, sorted. Raises EidosError naming the part that is wrong."""
    names, at, positions = text.partition("@")
    unfolded = set(unfold_set(names.removesuffix(",") if at else names))
    entries = list(_entries(table)) if at else []
    for part in positions.split(",@") if at else []:
        for position in unfold_indexes(part):
            if position >= len(entries):
                raise InputError(Code.INPUT_MALFORMED, f"@{part} is beyond the node table")
            unfolded.add(entries[position])
    return sorted(unfolded)


def ledger_nodes(document: FleetSnapshot) -> set[str]:
    """All nodes of a document, answered or not. Raises EidosError."""
    return {name for line in document.ledger for name in unfold_names(line.nodes, document.node_table)}


def _brackets(text: str) -> Iterator[str]:
    """The parts of a node set between commas that stand outside brackets."""
    start, inside = 0, False
    for at, character in enumerate(text):
        if character in "[]":
            inside = character == "["
        elif character == "," and not inside:
            yield text[start:at]
            start = at + 1
    if text:
        yield text[start:]


def _table(names: Sequence[str]) -> list[NodeTable]:
    by_suffix: dict[str, list[str]] = defaultdict(list)
    for name in names:
        host, dot, domain = name.partition(".")
        by_suffix[dot + domain].append(host)
    return [NodeTable(suffix, by_suffix[suffix]) for suffix in sorted(by_suffix)]


def _entries(tables: Iterable[NodeTable]) -> Iterator[str]:
    return (name + table.suffix for table in tables for name in table.names)
