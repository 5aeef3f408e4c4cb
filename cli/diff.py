"""`eidos diff`: what changed between two snapshots."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from cli.text import aligned, colour_wanted, style, visible

if TYPE_CHECKING:
    from common.diff import Change, Diff

EXAMPLES = """\
\b
Examples:
  eidos diff before.yaml after.yaml
  eidos snapshot | eidos diff before.yaml -                 against this machine now
  eidos diff a.yaml b.yaml --ignore 'OS.sysctl.*'           one subtype left out
  eidos diff a.yaml b.yaml --format json | jq '.changes[]'
  eidos diff baseline.yaml now.yaml --fail-on-drift         for scripts

\b
Exit status: 0 compared, 1 drift and --fail-on-drift is given, 2 a snapshot cannot be read.
"""

_SIGN: Final = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


@click.command("diff", epilog=EXAMPLES)
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--ignore", metavar="PATTERN", multiple=True,
              help="Leave out facts whose Type.subtype.key matches; * stands for any text.")  # fmt: skip
@click.option("-t", "--format", "output_format", type=click.Choice(["table", "yaml", "json"]), default="table",
              show_default=True, help="How to write the difference.")  # fmt: skip
@click.option("-o", "--output", metavar="REF", default="-", show_default=True, help="Where to write it.")
@click.option("--fail-on-drift", is_flag=True, help="Exit with status 1 when anything changed.")
@click.option("--kubeconfig", metavar="FILE", help="Kubeconfig for cm:// references.")
@click.option("--context", "kube_context", metavar="NAME", help="Context within the kubeconfig.")
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
    """
    from common.diff import diff
    from common.formats import load_snapshot
    from common.refs import parse_ref, read, write

    if before == after == "-":
        raise click.UsageError("Only one of A and B can be standard input.")
    target = parse_ref(output)
    documents = [load_snapshot(read(parse_ref(ref)), ref) for ref in (before, after)]
    result = diff(documents[0], documents[1], ignore)
    write(target, _render(result, output_format, colour_wanted() and output in ("-", "stdout")))
    if fail_on_drift and result.changes:
        ctx.exit(1)


def _render(result: "Diff", output_format: str, colour: bool) -> bytes:
    if output_format == "table":
        return ("\n".join(_lines(result, colour)) + "\n").encode()
    from common.formats import Format, dump_plain

    return dump_plain(result, Format(output_format))
