"""What the API shows of the fleet besides the document itself. No HTTP here."""

from collections.abc import Container, Iterable, Iterator, Mapping

import msgspec
from msgspec import UNSET, UnsetType

from aggregator.cluster_facts import cluster_subtypes
from aggregator.fleet import Fleet
from aggregator.ledger import timestamp
from aggregator.names import unfold_names
from aggregator.own_facts import Wanted, ways_to_read
from aggregator.run import Run
from aggregator.unfold import value_by_group
from aggregator.unread import Unread
from common.errors import Code, FleetError
from common.fleet import FleetSnapshot, FoldedSubtype
from common.fleet_api import FactValue, FactView, NodeView
from common.model import MeasurementType, Scalar
from common.nodeset import fold_names, unfold_indexes


def nodes(fleet: Fleet, after: str, limit: int, states: frozenset[str]) -> tuple[list[NodeView], bool]:
    """Expected nodes by name, and whether there are more."""
    latest = fleet.latest
    entries = {entry.node: entry for entry in latest.entries} if latest else {}
    groups = latest.group_of() if latest else {}
    found: list[NodeView] = []
    for expected in sorted(fleet.expected(), key=lambda node: node.node):
        name = expected.node
        if name <= after:
            continue
        entry = entries.get(name)
        if states and (entry is None or entry.state.value not in states):
            continue
        if len(found) == limit:
            return found, True
        node, group = fleet.hub.nodes.get(name), groups.get(name)
        found.append(
            NodeView(
                node=name,
                connected=node is not None and node.link is not None,
                state=entry.state if entry else UNSET,
                reason=entry.reason if entry else "",
                facts_at=timestamp(node.known.at) if node and node.known else "",
                group=group.group if group else UNSET,
                group_id=group.id if group else "",
            )
        )
    return found, False


def fact(fleet: Fleet, run: Run, document: FleetSnapshot, text: str, after: str, limit: int) -> FactView:
    """`Type.subtype.key` across the fleet; reads content. Raises FleetError when nobody has it."""
    nowhere = FleetError(Code.FLEET_NOT_FOUND, f"no node has a fact {text[:200]!r}", "Write it as Type.subtype.key.")
    kind_text = text.partition(".")[0]
    kind = next((kind for kind in MeasurementType if kind.value.lower() == kind_text.lower()), None)
    if kind is None:
        raise nowhere
    perhaps: FactView | None = None
    subtypes, unread = _subtypes(document, kind), Unread(document)
    for subtype, key in _readings(subtypes, text):
        folded = subtypes.get(subtype)
        unknown = unread.groups(kind, subtype, key)
        if folded is not None and key not in folded.scattered and (held := _held(document, folded, key)):
            unknown = unknown.difference(held)
            return FactView(kind, subtype, key, _values(document, held, unknown), unknown=_names(document, unknown))
        view = _own(fleet, run, Wanted(kind, subtype, key), unknown, after, limit)
        if view.own:
            return view
        if view.unknown:
            perhaps = perhaps or view
    if perhaps is None:
        raise nowhere
    return perhaps


def _subtypes(document: FleetSnapshot, kind: MeasurementType) -> dict[str, FoldedSubtype]:
    """By name, those of the cluster itself among them."""
    of_nodes = {s.subtype: s for m in document.measurements if m.type is kind for s in m.subtypes}
    return of_nodes | {folded.subtype: folded for _, folded in cluster_subtypes(document, [kind])}


def _readings(known: Container[str], text: str) -> list[tuple[str, str]]:
    """The ways to read it, those first whose subtype there is. Raises UsageError."""
    return sorted(ways_to_read(text.split(".")[1:]), key=lambda reading: reading[0] not in known)


def _held(document: FleetSnapshot, folded: FoldedSubtype, key: str) -> Mapping[int, Scalar]:
    """The fact by group, of those that have it."""
    having = unfold_indexes(folded.groups) if folded.groups else list(range(len(document.groups)))
    if key in folded.data:
        return dict.fromkeys(having, folded.data[key])
    return {
        group: value
        for differing in folded.differs
        if differing.key == key
        for group, value in value_by_group(differing, having)
    }


def _values(document: FleetSnapshot, held: Mapping[int, Scalar], unknown: Container[int]) -> list[FactValue]:
    """Who has which value, and who has none, but for groups of which nobody knows."""
    by_value: dict[bytes, tuple[Scalar | UnsetType, list[int]]] = {}
    for group in range(len(document.groups)):
        value = held.get(group, UNSET)
        if value is UNSET and group in unknown:
            continue
        token = b"" if value is UNSET else msgspec.msgpack.encode(value)
        by_value.setdefault(token, (value, []))[1].append(group)
    values = [
        FactValue(sum(document.groups[group].count for group in groups), _names(document, groups), value)
        for value, groups in by_value.values()
    ]
    return sorted(values, key=lambda value: -value.count)


def _names(document: FleetSnapshot, groups: Iterable[int]) -> str:
    """Names of several groups as one set. Names that stand in the table are written out."""
    return fold_names(
        name for group in groups for name in unfold_names(document.groups[group].nodes, document.node_table)
    )


def _own(fleet: Fleet, run: Run, wanted: Wanted, unread: Container[int], after: str, limit: int) -> FactView:
    """A fact that is each node's own, read node by node; `values` are those who have none."""
    found: dict[str, Scalar] = {}
    lacking: list[str] = []
    unknown: list[str] = []
    last = more = ""
    groups = run.group_of()
    for name in _after(sorted(groups), after):
        values = fleet.own_values(name, [wanted])
        if values is None or (values[0] is UNSET and groups[name].group in unread):
            unknown.append(name)
        elif values[0] is UNSET:
            lacking.append(name)
        elif len(found) == limit:
            more = last
            break
        else:
            found[name] = values[0]
        last = name
    none = [FactValue(len(lacking), fold_names(lacking))] if lacking else []
    return FactView(wanted.kind, wanted.subtype, wanted.key, none, found, fold_names(unknown), more)


def _after(names: Iterable[str], after: str) -> Iterator[str]:
    return (name for name in names if name > after)
