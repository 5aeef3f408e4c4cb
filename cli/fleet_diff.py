"""`eidos diff` of two FleetSnapshots, for a person."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec import UNSET

from aggregator.fleet_diff import FleetDiff
from cli.text import aligned, changed_row, style, visible
from common.fleet_api import DriftFact
from common.nodeset import unfold_names


def fleet_lines(result: FleetDiff, colour: bool) -> Iterator[str]:
    """The cluster, nodes that changed alike under their names, nodes that came and went, and a summary."""
    from cli.fleet_text import names

    sides = (f"{visible(side.timestamp)} (run {visible(side.run)})" for side in (result.before, result.after))
    yield style("Diff of a fleet", colour, bold=True) + f"  {' → '.join(sides)}"
    yield from _block("the cluster", result.cluster, colour)
    for change in result.changes:
        heading = f"{names(change.nodes)} ({change.count})"
        yield from _block(heading, change.facts, colour)
        if change.incomparable:
            yield ""
            yield f"{heading}  {style('not compared', colour, fg='yellow')}: only one version of the agent reports"
            yield from (f"    {_name(fact)}" for fact in change.incomparable)
    for word, nodes in (("new", result.added), ("gone", result.removed)):
        if nodes:
            yield ""
            yield f"{style(word, colour, bold=True)}  {names(nodes)} ({len(unfold_names(nodes))})"
    if result.incomparable:
        yield ""
        yield style("Not compared", colour, fg="yellow", bold=True)
        yield from aligned(((f"  {of.type.value}", of.side, of.reason) for of in result.incomparable), header=None)
    yield ""
    yield _summary(result, colour)


def _block(heading: str, facts: Sequence[DriftFact], colour: bool) -> Iterator[str]:
    if facts:
        yield ""
        yield style(heading, colour, fg="cyan", bold=True)
        yield from aligned(_rows(facts, colour), header=None)


def _rows(facts: Iterable[DriftFact], colour: bool) -> Iterator[tuple[str, str]]:
    for fact in facts:
        old, new = (None if value is UNSET else value for value in (fact.before, fact.after))
        yield changed_row(_name(fact), old, new, colour)


def _name(fact: DriftFact) -> str:
    return visible(f"{fact.type.value}.{fact.subtype}.{fact.key}")


def _summary(result: FleetDiff, colour: bool) -> str:
    if not result.has_drift:
        verdict = "No drift in what could be compared" if result.incomparable else "No drift"
        return f"{style(verdict, colour, fg='green', bold=True)}."
    from cli.fleet_text import counted

    changed = [change for change in result.changes if change.facts]
    nodes = {name for change in changed for name in unfold_names(change.nodes)}
    facts = sum(len(change.facts) for change in changed)
    parts = [f"{counted(facts, 'change')} of facts on {counted(len(nodes), 'node')}"] if changed else []
    parts += [f"{len(result.cluster):,} of the cluster"] if result.cluster else []
    return f"{style('Drift', colour, fg='red', bold=True)}: {', '.join(parts)}."
