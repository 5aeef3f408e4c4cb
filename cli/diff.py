"""`eidos diff`: what changed between two snapshots."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import click

from cli import suggestions
from cli.text import aligned, changed_row, colour_wanted, style, visible

if TYPE_CHECKING:
    from aggregator.fleet_diff import FleetDiff
    from common.diff import Diff, Incomparable
    from common.fleet import FleetSnapshot
    from common.model import Snapshot

EXAMPLES = """\
\b
Examples:
  eidos diff before.yaml after.yaml
  eidos snapshot | eidos diff before.yaml -                 against this machine now
  eidos diff a.yaml b.yaml --ignore 'OS.sysctl.*'           one subtype left out
  eidos diff a.yaml b.yaml --format json | jq '.changes[]'
  eidos diff baseline.yaml now.yaml --fail-on-drift         for scripts
  eidos fleet snapshot | eidos diff fleet.yaml -            all nodes, and the cluster itself

\b
Exit status: 0 compared, 1 drift and --fail-on-drift is given, 2 a snapshot cannot be read.
"""

_KINDS: Final = ("added", "removed", "changed")


@click.command("diff", epilog=EXAMPLES)
@click.argument("before", metavar="A", shell_complete=suggestions.a_file)
@click.argument("after", metavar="B", shell_complete=suggestions.a_file)
@click.option("--ignore", metavar="PATTERN", multiple=True,
              help="Leave out facts whose Type.subtype.key matches; * stands for any text.")  # fmt: skip
@click.option("-t", "--format", "output_format", type=click.Choice(["table", "yaml", "json"]), default="table",
              show_default=True, help="How to write the difference.")  # fmt: skip
@click.option("-o", "--output", metavar="REF", default="-", show_default=True, shell_complete=suggestions.a_file,
              help="Where to write it.")  # fmt: skip
@click.option("--fail-on-drift", is_flag=True, help="Exit with status 1 when anything changed.")
@click.option("--kubeconfig", metavar="FILE", shell_complete=suggestions.a_file,
              help="Kubeconfig for cm:// references.")  # fmt: skip
@click.option("--context", "kube_context", metavar="NAME", shell_complete=suggestions.contexts,
              help="Context within the kubeconfig.")  # fmt: skip
@click.pass_context
def command(
    ctx: click.Context,
    before: str,
    after: str,
    ignore: tuple[str, ...],
    output_format: str,
    output: str,
    fail_on_drift: bool,
    kubeconfig: str | None,
    kube_context: str | None,
) -> None:
    """Compare snapshots A and B fact by fact.

    A and B are files, - for standard input, or cm://NAMESPACE/NAME. Facts that change by themselves are never
    compared, facts that belong to one node only (serial numbers, addresses) only when both snapshots are of the
    same node. What could not be read in one of them is listed apart and is no drift.

    Two FleetSnapshots are compared node by node, nodes that changed alike are told together, and nodes that came or
    went are no drift.
    """
    from common.kube.choice import ClusterChoice
    from common.refs import check_writable, parse_ref, read, write

    if before == after == "-":
        raise click.UsageError("Only one of A and B can be standard input.")
    target, cluster = parse_ref(output), ClusterChoice(kubeconfig, kube_context)
    check_writable(target, cluster)
    contents = [read(parse_ref(ref), cluster=cluster) for ref in (before, after)]
    one, other = (_load(content, ref) for content, ref in zip(contents, (before, after), strict=True))
    colour = colour_wanted() and output in ("-", "stdout")
    rendered, has_drift = _compare(one, other, ignore, output_format, colour)
    write(target, rendered, cluster)
    if fail_on_drift and has_drift:
        ctx.exit(1)


def _load(content: bytes, ref: str) -> "Snapshot | FleetSnapshot":
    from common.errors import Code, InputError
    from common.formats import load_snapshot

    try:
        return load_snapshot(content, ref)
    except InputError as error:
        if error.code is not Code.INPUT_WRONG_KIND or b"FleetSnapshot" not in content:
            raise
        from aggregator.published import read_published

        return read_published(content, ref)


def _compare(
    before: "Snapshot | FleetSnapshot",
    after: "Snapshot | FleetSnapshot",
    ignore: tuple[str, ...],
    output_format: str,
    colour: bool,
) -> tuple[bytes, bool]:
    """The result as it is written, and whether there is drift."""
    from common.diff import Ignore, diff
    from common.errors import UsageError
    from common.fleet import FleetSnapshot

    if isinstance(before, FleetSnapshot) and isinstance(after, FleetSnapshot):
        from aggregator.fleet_diff import fleet_diff
        from cli.fleet_diff import fleet_lines

        of_fleet = fleet_diff(before, after, Ignore(ignore).__contains__)
        return _render(of_fleet, fleet_lines(of_fleet, colour), output_format), of_fleet.has_drift
    if isinstance(before, FleetSnapshot) or isinstance(after, FleetSnapshot):
        raise UsageError(
            "one of them is a FleetSnapshot and the other one node's Snapshot",
            "Compare two of a kind; `eidos fleet node NAME` writes one node's out of the fleet.",
        )
    result = diff(before, after, ignore)
    return _render(result, _lines(result, colour), output_format), bool(result.changes)


def _render(result: "Diff | FleetDiff", lines: Iterable[str], output_format: str) -> bytes:
    if output_format == "table":
        return ("\n".join(lines) + "\n").encode()
    from common.formats import Format, dump_plain

    return dump_plain(result, Format(output_format))


def _lines(result: "Diff", colour: bool) -> Iterator[str]:
    """Changes under a heading per subtype, then what could not be compared, then a summary."""
    names = (visible(result.before.source_node), visible(result.after.source_node))
    times = (visible(result.before.timestamp), visible(result.after.timestamp))
    who = names[0] if result.same_node else f"{names[0]} and {names[1]}"
    yield style(f"Diff of {who}", colour, bold=True) + f"  {times[0]} → {times[1]}"
    heading = ""
    block: list[tuple[str, ...]] = []
    for change in result.changes:
        if heading != (heading := f"{change.type.value}.{visible(change.subtype)}"):
            yield from aligned(block, header=None)
            block = []
            yield ""
            yield style(heading, colour, fg="cyan", bold=True)
        block.append(changed_row(change.key, change.old, change.new, colour))
    yield from aligned(block, header=None)
    if result.incomparable:
        yield ""
        yield style("Not compared", colour, fg="yellow", bold=True)
        rows = ((f"  {_what(entry)}", entry.side, visible(entry.reason)) for entry in result.incomparable)
        yield from aligned(rows, header=None)
    yield ""
    yield _summary(result, colour)


def _what(entry: "Incomparable") -> str:
    return f"{entry.type.value}.{visible(entry.subtype)}" if entry.subtype else visible(entry.collector)


def _summary(result: "Diff", colour: bool) -> str:
    counts = {kind: sum(change.change.value == kind for change in result.changes) for kind in _KINDS}
    compared = f"{result.compared:,} facts compared" + (f", {result.ignored:,} ignored" if result.ignored else "")
    if not result.changes:
        verdict = "No drift" if not result.incomparable else "No drift in what could be compared"
        return f"{style(verdict, colour, fg='green', bold=True)}: {compared}."
    parts = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    return f"{style('Drift', colour, fg='red', bold=True)}: {parts}; {compared}."
