"""FleetSnapshots as text: the set of nodes as a header, then what they share, as `clush -b` does."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

from msgspec import UNSET, UnsetType

from aggregator.group_diff import GroupDiff
from aggregator.names import unfold_names
from aggregator.unfold import value_by_group
from cli.cluster_text import cluster_lines
from cli.text import WIDEST_REASON, aligned, style, visible
from common.fleet import FleetSnapshot, FoldedEntry, Group, LedgerLine, NodeState, NodeTable, Outlier, OutlierFact
from common.fleet_api import FactValue, FactView, NodeView
from common.model import MeasurementType, Scalar
from common.nodeset import fold_names, unfold_indexes

_RULE: Final = "-" * 15
_LONGEST_SET: Final = 200
"""Characters of a set of nodes in a table; YAML and JSON have all of it."""
_MOST_FACTS: Final = 8
_MOST_SHOWN: Final = 20
_MOST_COMPARED: Final = 200
"""Groups that are compared with those like them; nobody reads on so far."""

_COLOUR: Final = {NodeState.OK.value: "green", NodeState.PARTIAL.value: "yellow", NodeState.STALE.value: "yellow"}

# What an operator tells kinds of machines apart by, most telling first: type, subtype, key.
_HEADLINES: Final = (
    ("GPU", "smi", "gpu.model"),
    ("GPU", "smi", "gpu-count"),
    ("GPU", "smi", "driver"),
    ("OS", "release", "PRETTY_NAME"),
    ("OS", "sysctl", "/proc/sys/kernel/osrelease"),
    ("OS", "firmware", "dmi.product_name"),
    ("OS", "cpu", "model-name"),
    ("OS", "cpu", "threads"),
    ("OS", "memory", "total-gib"),
)


def names(nodes: str, table: Sequence[NodeTable] = ()) -> str:
    """A set of nodes as it is shown: names of the node table written out, cut when it is very long."""
    text = fold_names(unfold_names(nodes, table)) if "@" in nodes else nodes
    if len(text) <= _LONGEST_SET:
        return visible(text)
    cut = text.rfind(",", 0, _LONGEST_SET)
    return visible(text[: cut if cut > 0 else _LONGEST_SET]) + ",…"


def overview(document: FleetSnapshot, colour: bool) -> Iterator[str]:
    """The whole snapshot for a person: numbers, ledger, groups, outliers."""
    odd = {outlier.group for outlier in document.outliers}
    usual = [group for group in document.groups if group.group not in odd]
    yield from numbers(document, colour)
    yield ""
    yield from ledger(document.ledger, document.node_table, colour)
    yield ""
    if document.cluster is not UNSET:
        yield from cluster_lines(document.cluster, colour)
        yield ""
    yield style("GROUPS" if not odd else "GROUPS  those that are outliers apart", colour, bold=True)
    yield from group_blocks(document, colour, usual)
    yield ""
    yield style("OUTLIERS", colour, bold=True)
    yield from outlier_blocks(document, colour)


def numbers(document: FleetSnapshot, colour: bool) -> Iterator[str]:
    """Who, when, and how much."""
    summary, meta = document.summary, document.metadata
    yield (
        style(f"Fleet snapshot of {counted(summary.expected, 'node')}", colour, bold=True)
        + f"  {visible(meta.timestamp)}  run {visible(meta.run)}"
    )
    facts = f"{counted(summary.facts, 'fact')}, " + (
        f"{summary.differing:,} not the same everywhere" if summary.differing else "the same everywhere"
    )
    scattered = f", {summary.scattered:,} with a value of its own on nearly every node" if summary.scattered else ""
    yield f"{counted(summary.groups, 'group')}, {counted(summary.outliers, 'outlier')}; {facts}{scattered}"


def state_text(state: str, colour: bool) -> str:
    """A node's state; a dash before the first snapshot."""
    return style(state, colour, fg=_COLOUR.get(state, "red")) if state else "-"


def ledger(lines: Iterable[LedgerLine], table: Sequence[NodeTable], colour: bool) -> Iterator[str]:
    """One line for the nodes in one state for one reason."""
    rows = (
        (
            state_text(line.state.value, colour),
            str(line.count),
            visible(line.reason) + (f"  (facts of {visible(line.oldest)})" if line.oldest else ""),
            names(line.nodes, table),  # last, because it is the longest: no other column moves when it is broken
        )
        for line in lines
    )
    yield from aligned(rows, header=("STATE", "COUNT", "REASON", "NODES"), widest=WIDEST_REASON)


def group_blocks(document: FleetSnapshot, colour: bool, chosen: Sequence[Group] | None = None) -> Iterator[str]:
    """Each group under its nodes: what tells it from others, or what it differs in from a larger one like it."""
    if not document.groups:
        yield "No facts of any node are known."
        return
    odd = {outlier.group: outlier for outlier in document.outliers}
    headlines = [(f"{kind}.{sub}.{key}", _values(document, kind, sub, key)) for kind, sub, key in _HEADLINES]
    first: dict[tuple[tuple[str, str], ...], int] = {}
    compared: GroupDiff | None = None
    for number, group in enumerate(document.groups if chosen is None else chosen):
        if number:
            yield ""
        yield from _header(group, document.node_table, colour, f"  group {group.group}")
        rows = tuple((f"  {name}", visible(held[group.group])) for name, held in headlines if group.group in held)
        outlier = odd.get(group.group)
        like = outlier.like if outlier is not None else first.setdefault(rows, group.group)
        if outlier is not None:
            yield from _unlike(like, outlier.facts, (), ())
        elif like == group.group or number >= _MOST_COMPARED:
            yield from aligned(rows, header=None) if rows else ("neither its GPUs nor its system are known",)
        else:
            compared = compared or GroupDiff(document)
            pair = group.group, like
            yield from _unlike(like, list(compared.facts(*pair)), compared.endings(*pair), compared.not_asked(*pair))


def _unlike(
    like: int, facts: Sequence[OutlierFact], endings: Iterable[FoldedEntry], not_asked: Iterable[MeasurementType]
) -> Iterator[str]:
    """What sets a group apart from a larger one; where the facts are the same, what was not read."""
    if facts:
        yield f"as group {like}, but for:"
        yield from aligned(_fact_rows(facts[:_MOST_FACTS]), header=None)
        yield from _more(len(facts) - _MOST_FACTS)
        return
    yield f"the same facts as group {like}, as far as they were read"
    failures = (
        (f"  {visible(entry.subtype or entry.collector)}", entry.state.value, visible(entry.reason))
        for entry in endings
    )
    yield from aligned(chain(failures, ((f"  {kind.value}", "not asked for", "") for kind in not_asked)), header=None)


def outlier_blocks(document: FleetSnapshot, colour: bool) -> Iterator[str]:
    """Each outlier under its nodes: what it has, and what its like have."""
    if not document.outliers:
        yield "No outliers: no small group differs in few facts from a larger one."
        return
    for number, outlier in enumerate(document.outliers):
        if number:
            yield ""
        yield from _outlier(outlier, document.groups[outlier.like], document.node_table, colour)


def _outlier(outlier: Outlier, like: Group, table: Sequence[NodeTable], colour: bool) -> Iterator[str]:
    yield from _header(outlier, table, colour, f"  unlike {names(like.nodes, table)} ({like.count})")
    yield from aligned(_fact_rows(outlier.facts[:_MOST_SHOWN]), header=None)
    yield from _more(len(outlier.facts) - _MOST_SHOWN)


def _fact_rows(facts: Iterable[OutlierFact]) -> Iterator[tuple[str, ...]]:
    for fact in facts:
        name = f"  {fact.type.value}.{visible(fact.subtype)}"
        if fact.key is UNSET:  # the subtype as a whole, there or not
            yield name, "only here" if fact.value else "not here", ""
        else:
            yield f"{name}.{visible(fact.key)}", shown(fact.value), f"instead of {shown(fact.expected)}"


def _more(count: int) -> Iterator[str]:
    if count > 0:
        yield f"  … and {count} more: --format yaml has all"


def fact_blocks(view: FactView, colour: bool) -> Iterator[str]:
    """Each value under the nodes that have it; or node by node where each has its own."""
    yield style(f"{view.type.value}.{visible(view.subtype)}.{visible(view.key)}", colour, fg="cyan", bold=True)
    for node, own in view.own.items():
        yield f"{style(visible(node), colour, bold=True)}: {shown(own)}"
    for value in view.values:
        yield from _header(value, (), colour)
        yield shown(value.value)
    if view.unknown:
        yield from _header(FactValue(len(unfold_names(view.unknown)), view.unknown), (), colour)
        yield "(not known)"


def node_rows(nodes: Iterable[NodeView], colour: bool) -> Iterator[str]:
    """A line per node."""
    rows = (
        (
            visible(node.node),
            state_text("" if node.state is UNSET else node.state.value, colour),
            "yes" if node.connected else style("no", colour, fg="red"),
            "-" if node.group is UNSET else str(node.group),
            visible(node.facts_at) or "-",
            visible(node.reason),
        )
        for node in nodes
    )
    yield from aligned(rows, header=("NODE", "STATE", "CONNECTED", "GROUP", "FACTS OF", "REASON"))


def _header(
    block: Group | Outlier | FactValue, table: Sequence[NodeTable], colour: bool, beside: str = ""
) -> Iterator[str]:
    yield style(_RULE, colour, fg="blue")
    yield style(f"{names(block.nodes, table)} ({block.count})", colour, fg="blue", bold=True) + beside
    yield style(_RULE, colour, fg="blue")


def _values(document: FleetSnapshot, kind: str, subtype: str, key: str) -> dict[int, Scalar]:
    """A fact's value by group, for the groups that have it."""
    for measurement in document.measurements:
        for folded in measurement.subtypes if measurement.type.value == kind else ():
            if folded.subtype != subtype:
                continue
            having = unfold_indexes(folded.groups) if folded.groups else range(len(document.groups))
            if key in folded.data:
                return dict.fromkeys(having, folded.data[key])
            found = (differing for differing in folded.differs if differing.key == key)
            return {group: value for differing in found for group, value in value_by_group(differing, having)}
    return {}


def shown(value: Scalar | UnsetType) -> str:
    """A value as text; what is not there says so."""
    if value is UNSET:
        return "(not there)"
    return visible(value) or '""'


def counted(count: int, noun: str) -> str:
    """`1 node`, `2,000 nodes`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
