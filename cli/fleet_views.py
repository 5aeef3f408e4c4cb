"""`eidos fleet groups`, `outliers` and `fact`: the last snapshot, looked at from three sides."""

from typing import Any, Final

import click

from cli.fleet_options import Target, connection, fleet_options
from cli.options import Text
from common.errors import UsageError

GROUPS_EXAMPLES: Final = """\
\b
Examples:
  eidos fleet groups
  eidos fleet groups --format json | jq -r '.items[] | "\\(.count) \\(.nodes)"'
"""

OUTLIERS_EXAMPLES: Final = """\
\b
Examples:
  eidos fleet outliers
  eidos fleet outliers --format json | jq '.items[].facts'
"""

FACT_EXAMPLES: Final = """\
\b
Examples:
  eidos fleet fact GPU.smi.driver
  eidos fleet fact OS.sysctl./proc/sys/vm/swappiness
  eidos fleet fact OS.grub.iommu --format json
  eidos fleet fact OS.firmware.dmi.product_serial          each node's own
"""


@click.command("groups", epilog=GROUPS_EXAMPLES)
@fleet_options
def groups(**flags: Any) -> None:
    """Show which nodes are equal in every fact, and what tells the groups apart.

    Of the last snapshot; asks no node anything. A group that differs from a larger one in a few facts shows those.
    """
    from cli.fleet_client import ask

    target, aggregator = Target(flags), connection(flags)
    if target.is_table:
        from cli.fleet_text import group_blocks

        document = ask(aggregator, lambda client: client.snapshot())
        target.write_lines(lambda colour: group_blocks(document, colour))
    else:
        target.write(ask(aggregator, lambda client: client.groups()))


@click.command("outliers", epilog=OUTLIERS_EXAMPLES)
@fleet_options
def outliers(**flags: Any) -> None:
    """Show the small groups that differ in few facts from a larger one, nearest first, and in which facts.

    Of the last snapshot; asks no node anything.
    """
    from cli.fleet_client import ask

    target, aggregator = Target(flags), connection(flags)
    if target.is_table:
        from cli.fleet_text import outlier_blocks

        document = ask(aggregator, lambda client: client.snapshot())
        target.write_lines(lambda colour: outlier_blocks(document, colour))
    else:
        target.write(ask(aggregator, lambda client: client.outliers()))


@click.command("fact", epilog=FACT_EXAMPLES)
@click.argument("key", type=Text(), metavar="KEY")
@fleet_options
def fact(key: str, **flags: Any) -> None:
    """Show the values of one fact, Type.subtype.key, and which nodes have each.

    Of the last snapshot; asks no node anything. A fact that belongs to each node alone, such as a serial number, is
    listed node by node.
    """
    from cli.fleet_client import ask

    if not key:
        raise UsageError("no fact is named", "Write it as Type.subtype.key, such as GPU.smi.driver.")
    target = Target(flags)
    view = ask(connection(flags), lambda client: client.fact(key))
    if target.is_table:
        from cli.fleet_text import fact_blocks

        target.write_lines(lambda colour: fact_blocks(view, colour))
    else:
        target.write(view)
