"""`eidos fleet demo`: a fleet of processes on this machine, what is odd in it, and whether that was found."""

import asyncio
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cli.terminal import is_terminal

if TYPE_CHECKING:
    from cli.fleet_client import FleetClient
    from cli.fleet_transport import Connection
    from cli.local_fleet import LocalFleet
    from cli.replay_hosts import Cast, Seeded
    from common.fleet import FleetSnapshot

EXAMPLES: Final = """\
\b
Examples:
  eidos fleet demo                    12 nodes: start, take a snapshot, find the odd ones, stop
  eidos fleet demo --keep             the same, left running for the other commands until Ctrl-C
  eidos fleet demo --nodes 200        with more nodes, several in one process
"""

_FEWEST: Final = 4
_MOST: Final = 500
_LONGEST_RUN: Final = 110.0
_LINKED_WITHIN: Final = 120.0


@click.command("demo", epilog=EXAMPLES)
@click.option("--nodes", type=click.IntRange(_FEWEST, _MOST), default=12, show_default=True, metavar="N",
              help="How many nodes.")  # fmt: skip
@click.option("--keep", is_flag=True, help="Leave it running until Ctrl-C, and say how to ask it.")
@click.pass_context
def command(ctx: click.Context, nodes: int, keep: bool) -> None:
    """Start a fleet on this machine, without a cluster, and find what is odd in it.

    An aggregator and agents run as processes of their own, with TLS and tokens as in a cluster. One agent reads this
    machine; the others replay files of other hosts, a few of them changed on purpose. The ledger, the groups and the
    outliers of a fleet snapshot are shown, and it is checked that the changed nodes were found: exit status 1 when
    one was missed. Nothing is left behind, however it ends.
    """
    from cli.interrupts import remembered
    from cli.local_fleet import local_fleet, scratch
    from cli.replay_hosts import cast
    from common.file_output import check_stream

    check_stream("Redirect it to a file, or to /dev/null.")
    with remembered() as check_interrupt, scratch() as directory:
        began = time.monotonic()
        members = cast(nodes, _here(), directory / "hosts")
        _introduce(members)
        with local_fleet(directory, members.nodes) as fleet:
            missed = asyncio.run(_show(fleet, members, began))
            check_interrupt()
            if keep:
                _wait(fleet)
    ctx.exit(1 if missed else 0)


def _here() -> str:
    """This machine's name, if it can be that of a node."""
    import socket

    from common.wire import is_node_name

    name = socket.gethostname()
    return name if is_node_name(name) else "this-machine"


def _introduce(members: "Cast") -> None:
    from cli.local_fleet import shares

    here, *replayed = members.nodes
    processes = len(shares(replayed)) + 1
    agents = "each agent a process" if processes == len(members.nodes) else (
        f"its agents in {processes} processes, each agent with a link and a token of its own"
    )  # fmt: skip
    _say(f"Local fleet of {len(members.nodes)} nodes: one aggregator, {agents}, TLS and signed tokens.")
    _say(f"{here.name} is this machine", indent="  ")
    _say(f"{len(replayed)} others {members.source}; GPUs and systemd are not replayed", indent="  ")
    click.echo("Seeded differences:" if members.seeded else "No differences could be seeded.")
    for seeded in members.seeded:
        click.echo(f"  {_told(seeded)}")


def _say(text: str, indent: str = "") -> None:
    """A sentence, broken between words where the reader is a terminal."""
    if is_terminal(sys.stdout):
        click.echo(click.wrap_text(text, shutil.get_terminal_size().columns, indent, indent + "  "))
    else:
        click.echo(indent + text)


async def _show(fleet: "LocalFleet", members: "Cast", began: float) -> "list[Seeded]":
    """Take a snapshot, show it; what was seeded and is not found."""
    from cli.fleet_client import connected
    from cli.fleet_run import take
    from cli.fleet_text import overview
    from cli.text import colour_wanted
    from common.fleet_api import RunBody

    async with connected(_connection(fleet)) as client:
        await _all_linked(fleet, client, len(members.nodes))
        click.echo(f"All agents connected after {time.monotonic() - began:.1f} s.\n")
        seconds = min(_LONGEST_RUN, 20.0 + len(members.nodes))
        document, progress = await take(client, RunBody(seconds=seconds))
    for line in overview(document, colour_wanted()):
        click.echo(line)
    missed = [seeded for seeded in members.seeded if not _is_found(document, seeded)]
    click.echo(f"\nThe run took {progress.seconds:.2f} s; everything so far {time.monotonic() - began:.1f} s.")
    found = len(members.seeded) - len(missed)
    click.echo(f"Seeded differences found: {found} of {len(members.seeded)}.")
    for seeded in missed:
        click.echo(f"  missed on {_told(seeded)}")
    return missed


def _connection(fleet: "LocalFleet") -> "Connection":
    from cli.fleet_transport import Connection

    return Connection(fleet.url, fleet.ca_file.read_text(), fleet.token_file.read_text().strip())


async def _all_linked(fleet: "LocalFleet", client: "FleetClient", count: int) -> None:
    from common.errors import Code, FleetError

    until = time.monotonic() + _LINKED_WITHIN
    while (linked := sum(node.connected for node in await client.nodes())) < count:
        fleet.check()
        if time.monotonic() > until:
            raise FleetError(Code.DEADLINE, f"only {linked} of {count} agents connected")
        await asyncio.sleep(0.1)


def _is_found(document: "FleetSnapshot", seeded: "Seeded") -> bool:
    """Whether the node stands alone as an outlier, in this fact and no other."""
    kind, subtype, key = seeded.change.fact
    facts = [list(outlier.facts) for outlier in document.outliers if outlier.nodes == seeded.node]
    return len(facts) == 1 and [
        (fact.type, fact.subtype, fact.key, fact.value) for fact in facts[0]
    ] == [(kind, subtype, key, seeded.change.value)]  # fmt: skip


def _told(seeded: "Seeded") -> str:
    from cli.text import visible

    return f"{seeded.node}: {'.'.join(seeded.change.fact)} = {visible(seeded.change.value)}"


def _wait(fleet: "LocalFleet") -> None:
    """Until Ctrl-C, or the aggregator's end; agents may be killed, to see what becomes of their nodes."""
    click.echo("\nIt is left running. In another shell:\n")
    for name, value in _variables(fleet):
        click.echo(f"  export {name}={value}")
    click.echo("  eidos fleet status\n")
    click.echo("The same with flags:\n")
    click.echo(f"  eidos fleet status --server {fleet.url} \\")
    click.echo(f"    --ca {fleet.ca_file} \\\n    --token-file {fleet.token_file}\n")
    click.echo("Ctrl-C ends it.")
    try:
        while True:
            for sentence in fleet.lost():
                click.echo(f"{sentence[0].upper()}{sentence[1:]}. The rest goes on.")
            time.sleep(0.5)
    except KeyboardInterrupt:
        click.echo("\nStopping.")


def _variables(fleet: "LocalFleet") -> Iterable[tuple[str, str | Path]]:
    yield "EIDOS_SERVER", fleet.url
    yield "EIDOS_CA_FILE", fleet.ca_file
    yield "EIDOS_TOKEN_FILE", fleet.token_file
