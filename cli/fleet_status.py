"""`eidos fleet status`, `nodes` and `node`: how the nodes are, and one of them whole."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from cli.fleet_options import Target, connection, document_options, fleet_options
from cli.options import Text, refuse_empty, split_commas
from cli.text import colour_wanted
from common.errors import EidosError, UsageError

if TYPE_CHECKING:
    from cli.fleet_client import FleetClient
    from common.fleet import FleetSnapshot
    from common.fleet_api import NodeView
    from installer.inspection import Installation

STATUS_EXAMPLES: Final = """\
\b
Examples:
  eidos fleet status
  eidos fleet status --format json | jq .connected
"""

NODES_EXAMPLES: Final = """\
\b
Examples:
  eidos fleet nodes
  eidos fleet nodes --state unreachable,timeout,no-agent
  eidos fleet nodes --format json | jq -r '.items[].node'
"""

NODE_EXAMPLES: Final = """\
\b
Examples:
  eidos fleet node gpu-017
  eidos fleet node gpu-017 -o now.yaml && eidos diff before.yaml now.yaml
"""


@click.command("status", epilog=STATUS_EXAMPLES)
@fleet_options
def status(**flags: Any) -> None:
    """Say how many nodes are connected now, and how each ended in the last snapshot. Asks no node anything.

    In a cluster it also says what of the installation is not up, and why, when the aggregator does not answer, too.
    """
    from cli import fleet_installed
    from cli.fleet_client import ask

    target, where = Target(flags), connection(flags)
    installation = fleet_installed.look(where)
    try:
        nodes, document = ask(where, _nodes_and_snapshot)
    except EidosError:
        for line in fleet_installed.lines(installation, colour_wanted(sys.stderr)) if installation else ():
            click.echo(line, err=True)
        raise
    if target.is_table:
        target.write_lines(lambda colour: _status_lines(installation, nodes, document, colour))
        return
    target.write(
        {
            **({"installation": fleet_installed.as_data(installation)} if installation else {}),
            "expected": len(nodes),
            "connected": sum(node.connected for node in nodes),
            "snapshot": document and {"metadata": document.metadata, "summary": document.summary},
            "nodes": [
                {"state": state, "connected": connected, "reason": reason, "count": len(names), "nodes": _fold(names)}
                for (state, connected, reason), names in _alike(nodes).items()
            ],
        }
    )


async def _nodes_and_snapshot(client: "FleetClient") -> "tuple[list[NodeView], FleetSnapshot | None]":
    from common.errors import Code

    nodes = await client.nodes()
    try:
        return nodes, await client.snapshot()
    except EidosError as error:
        if error.code is not Code.FLEET_NOT_FOUND:  # there is none yet
            raise
        return nodes, None


def _alike(nodes: "list[NodeView]") -> dict[tuple[str, bool, str], list[str]]:
    """Names by state in the last snapshot, whether connected now, and reason; the largest first."""
    from collections import defaultdict

    from msgspec import UNSET

    alike: dict[tuple[str, bool, str], list[str]] = defaultdict(list)
    for node in nodes:
        state = "" if node.state is UNSET else node.state.value
        alike[state, node.connected, node.reason].append(node.node)
    return dict(sorted(alike.items(), key=lambda item: (-len(item[1]), item[0])))


def _fold(names: list[str]) -> str:
    from common.nodeset import fold_names

    return fold_names(names)


def _status_lines(
    installation: "Installation | None", nodes: "list[NodeView]", document: "FleetSnapshot | None", colour: bool
) -> Iterator[str]:
    from cli import fleet_installed
    from cli.fleet_text import names, numbers, state_text
    from cli.text import WIDEST_REASON, aligned, style, visible

    if installation is not None:
        yield from fleet_installed.lines(installation, colour)
    connected = sum(node.connected for node in nodes)
    yield style(f"{connected} of {len(nodes)} nodes connected", colour, bold=True)
    if document is None:
        yield "There is no snapshot yet. Take one: eidos fleet snapshot."
    else:
        yield from numbers(document, colour)
    yield ""
    rows = (
        (state_text(state, colour), "yes" if up else style("no", colour, fg="red"), str(len(alike)),
         visible(reason), names(_fold(alike)))
        for (state, up, reason), alike in _alike(nodes).items()
    )  # fmt: skip
    yield from aligned(rows, header=("STATE", "CONNECTED", "COUNT", "REASON", "NODES"), widest=WIDEST_REASON)


@click.command("nodes", epilog=NODES_EXAMPLES)
@click.option("--state", "states", type=Text(), metavar="STATES", multiple=True,
              help="Only nodes that ended so in the last snapshot, separated by commas.")  # fmt: skip
@fleet_options
def nodes(states: tuple[str, ...], **flags: Any) -> None:
    """List the nodes there should be, by name: state in the last snapshot, connected now or not, group, reason.

    States: ok, partial (some collectors failed), timeout, unreachable (its agent is gone), no-agent (never had one),
    not-ready (the node itself is down), stale (could not collect anew).
    """
    from cli.fleet_client import ask
    from cli.fleet_text import node_rows

    refuse_empty("--state", states, "state")
    target, wanted = Target(flags), ",".join(split_commas(states))
    found = ask(connection(flags), lambda client: client.nodes(wanted))
    if target.is_table:
        target.write_lines(lambda colour: node_rows(found, colour))
    else:
        target.write({"items": found})


@click.command("node", epilog=NODE_EXAMPLES)
@click.argument("name", type=Text(), metavar="NAME")
@document_options
def node(name: str, **flags: Any) -> None:
    """Write the last known snapshot of one node, exactly as eidos snapshot would have written it there."""
    from cli.fleet_client import ask
    from common.formats import load_snapshot

    if not name:
        raise UsageError("no node is named", "eidos fleet nodes lists what there is.")
    target = Target(flags, piped="yaml")
    document = load_snapshot(ask(connection(flags), lambda client: client.node(name)), f"the answer about {name}")
    if target.is_table:
        from cli.text import snapshot_text

        target.write_lines(lambda colour: snapshot_text(document, colour))
    else:
        target.write(document)
