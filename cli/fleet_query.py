"""`eidos fleet query`: the nodes that an expression over their facts is true for."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from cli.fleet_options import Target, connection, fleet_options, is_flag
from cli.options import Text

if TYPE_CHECKING:
    from common.fleet_api import QueryResult
    from common.model import Scalar

EXAMPLES: Final = """\
\b
Examples:
  eidos fleet query 'OS.release.VERSION_ID != "22.04" && semver(GPU.smi.driver) < semver("570.0.0")'
  eidos fleet query 'int(OS.sysctl["/proc/sys/vm/swappiness"]) > 10'
  eidos fleet query 'GPU.smi["gpu-count"] < 8 || !has(GPU.smi.driver)'
  eidos fleet query 'OS.kmod.exists(m, m.startsWith("nouveau"))'
  clush -w "$(eidos fleet query --names 'OS.release.ID == "ubuntu"')" uptime
  eidos fleet query --exit-status --names 'OS.grub.iommu == "off"' && echo some are left
"""

_SHOWN: Final = {"matched": ("matched", "green"), "undecided": ("undecided", "yellow"), "not-matched": ("not", None)}
_READS_AS_OTHER: Final = re.compile(r"[+-]?(?:[0-9]+\.?|[0-9]*\.[0-9]+)(?:[eE][+-]?[0-9]+)?|true|false|-")
"""Text that would pass for a number, for true or false, or for a fact that is not there."""


@click.command("query", epilog=EXAMPLES)
@click.argument("expression", type=Text())
@click.option(
    "--names", is_flag=True, help="Only the nodes that match, as one set on one line, empty when none does."
)
@click.option("--exit-status", "by_status", is_flag=True, help="End with status 1 when no node matches.")
@fleet_options
@click.pass_context
def command(ctx: click.Context, /, expression: str, names: bool, by_status: bool, **flags: Any) -> None:
    """Find the nodes that a CEL expression over their facts is true for.

    A fact is written Type.subtype.key; a key that is no plain word stands in brackets: GPU.smi["gpu-count"]. Facts
    are text, numbers, true or false: int(), double(), quantity() and semver() make text comparable. Nodes that lack a
    fact the answer depends on are undecided and counted apart; has() asks whether it is there.

    Of the last snapshot; asks no node anything. docs/query.md says more.
    """
    from cli.fleet_client import ask
    from cli.text import visible

    _check(expression, names)
    target = Target(flags)
    result = ask(connection(flags), lambda client: client.query(expression))
    if result.nowhere:
        click.echo(f"Note: no node has {', '.join(map(visible, result.nowhere))}.", err=True)
    if names:
        if result.undecided:
            reason = next((f": {visible(g.reason)}" for g in result.groups if g.reason), "")
            click.echo(f"Note: {result.undecided:,} undecided{reason}.", err=True)
        target.write_lines(lambda colour: [result.nodes])
    elif target.is_table:
        target.write_lines(lambda colour: lines(result, colour))
    else:
        target.write(result)
    if by_status and not result.matched:
        ctx.exit(1)


def _check(expression: str, names: bool) -> None:
    """What can be refused without asking anybody. Raises UsageError."""
    from common.errors import UsageError
    from common.fleet_api import MOST_EXPRESSION

    if not expression.strip():
        raise UsageError("the expression is empty", "Write one such as 'OS.release.ID == \"ubuntu\"'.")
    if len(expression) > MOST_EXPRESSION:
        raise UsageError(
            f"the expression has {len(expression):,} characters, and {MOST_EXPRESSION:,} at most are taken"
        )
    if names and is_flag("output_format"):
        raise UsageError("--names and --format exclude each other: --names gives one line of text")


def lines(result: "QueryResult", colour: bool) -> Iterator[str]:
    """Numbers, then a line for all nodes that are alike in every single fact named."""
    from cli.fleet_text import names
    from cli.text import aligned, style, visible

    others = [(result.not_matched, "do not"), (result.undecided, "undecided"), (result.unknown, "without facts")]
    counts = [
        f"{result.matched:,} match",
        *(f"{count:,} {what}" for count, what in others if count or what == "do not"),
    ]
    yield style(", ".join(counts), colour, bold=True)
    if not result.groups:
        return
    yield ""
    facts = list(dict.fromkeys(name for group in result.groups for name in group.values))
    rows = []
    for group in result.groups:
        word, hue = _SHOWN[group.result.value]
        values = [_shown(group.values[fact]) if fact in group.values else "-" for fact in facts]
        rows.append(
            (style(word, colour, fg=hue), str(group.count), *values, names(group.nodes), visible(group.reason))
        )
    yield from aligned(rows, header=("RESULT", "COUNT", *map(visible, facts), "NODES", "REASON"))
    if result.left_out:
        yield f"… and {result.left_out:,} more combinations of values"


def _shown(value: "Scalar") -> str:
    """A value as text; text that reads as something else, or as nothing, in quotes."""
    from cli.text import visible

    is_mistakable = isinstance(value, str) and (not value.strip() or _READS_AS_OTHER.fullmatch(value) is not None)
    return f'"{visible(value)}"' if is_mistakable else visible(value)
