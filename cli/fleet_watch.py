"""`eidos fleet watch`: changes of a fleet as they happen."""

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from cli.fleet_options import connection, server_options
from cli.options import Duration
from cli.terminal import is_terminal

if TYPE_CHECKING:
    from cli.fleet_transport import ClusterConnection, Connection
    from common.fleet_api import AgentChange, ClusterDrift, Drift, NodeChange, Progress, WatchEvent

EXAMPLES: Final = """\
\b
Examples:
  eidos fleet watch
  eidos fleet watch --for 10m
  eidos fleet watch | jq -c 'select(.event == "drift") | {nodes, facts}'
  eidos fleet watch | jq -r 'select(.event == "nodes" and .connected == false).nodes'
"""

_PATIENCE: Final = 120.0
"""Seconds without a connection, once there was one, after which there is no more trying."""
_LONGEST_PAUSE: Final = 10.0


@click.command("watch", epilog=EXAMPLES)
@click.option("--for", "seconds", type=Duration(), metavar="TIME", help="Stop after this time.  [default: on Ctrl-C]")
@click.option("-t", "--format", "output_format", type=click.Choice(["text", "ndjson"]),
              help="[default: text on a terminal, ndjson in a pipe]")  # fmt: skip
@server_options
def command(seconds: float | None, output_format: str | None, **flags: Any) -> None:
    """Follow what happens in a fleet: nodes that come, go or end in another state; runs; and drift.

    Drift is facts that are not what they were in the snapshot before; take snapshots to see it, for watching asks
    no node anything. In a pipe each event is a JSON object on a line, as GET /v1/watch gives them. When the
    connection breaks it is made anew; another start event then says that something may have been missed.
    """
    import asyncio

    from common.file_output import check_stream

    check_stream("Redirect it to a file.")
    form = output_format or ("text" if is_terminal(sys.stdout) else "ndjson")
    try:
        asyncio.run(_follow(connection(flags), seconds, _as_text() if form == "text" else _as_line))
    except KeyboardInterrupt:  # how it is meant to end
        sys.exit(130)


async def _follow(
    aggregator: "Connection | ClusterConnection", seconds: float | None, show: "Callable[[WatchEvent], None]"
) -> None:
    """Until the time is over. Raises EidosError when there is no connection at first, or for long."""
    import asyncio
    import time

    from cli.fleet_client import connected
    from common.errors import Code, EidosError
    from common.fleet_api import LONGEST_WATCH, WatchEnd, WatchEnding

    until = time.monotonic() + (seconds if seconds is not None else float("inf"))
    passing = (Code.FLEET_UNREACHABLE, Code.FLEET_BUSY, Code.FLEET_FAILED, Code.DEADLINE, Code.CLUSTER_UNREACHABLE)
    heard_at, pause = 0.0, 1.0
    while (left := until - time.monotonic()) > 0:
        why = "the connection broke"
        try:
            async with connected(aggregator) as client:
                async for event in client.watch(max(1, round(min(left, LONGEST_WATCH)))):
                    heard_at, pause = time.monotonic(), 1.0
                    if isinstance(event, WatchEnd):
                        why = "" if event.code is WatchEnding.TIME else event.reason
                    else:
                        show(event)
        except EidosError as error:
            why = str(error)
            if not heard_at or error.code not in passing or time.monotonic() - heard_at > _PATIENCE:
                raise
        if why and (left := until - time.monotonic()) > 0:
            click.echo(f"Note: {why.rstrip('.')}; trying again.", err=True)
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)


def _as_line(event: "WatchEvent") -> None:
    import msgspec

    click.echo(msgspec.json.encode(event))


def _as_text() -> "Callable[[WatchEvent], None]":
    """Prints what is news to a person."""
    from cli.text import colour_wanted
    from common.fleet_api import WatchStart

    colour = colour_wanted()
    last_start: list[WatchStart] = []

    def show(event: "WatchEvent") -> None:
        if isinstance(event, WatchStart):
            known = [(start.expected, start.connected, start.states, start.run) for start in last_start]
            last_start[:] = [event]
            if known == [(event.expected, event.connected, event.states, event.run)]:
                return  # a connection made anew, and nothing else
        for line in lines(event, colour):
            click.echo(line)

    return show


def lines(event: "WatchEvent", colour: bool) -> Iterator[str]:
    """An event for a person; nothing for a mere sign of life."""
    from cli.text import style
    from common.fleet_api import AgentChange, ClusterDrift, Drift, NodeChange, RunChange, WatchStart

    at = style(event.at[11:19], colour, fg="bright_black")
    if isinstance(event, WatchStart):
        states = _states(event.states, colour) or "there is no snapshot yet"
        yield f"{at}  {event.connected} of {event.expected} nodes connected; {states}"
    elif isinstance(event, RunChange):
        yield f"{at}  {_run(event.progress, colour)}"
    elif isinstance(event, NodeChange):
        yield f"{at}  {_nodes(event, colour)}"
    elif isinstance(event, Drift | AgentChange | ClusterDrift):
        yield from _drift(at, event, colour)


def _run(progress: "Progress", colour: bool) -> str:
    from cli.text import visible

    what = f"run {visible(progress.run)} {progress.state.value}"
    if progress.state.value in ("done", "failed"):
        return f"{what} after {progress.seconds:.1f} s: {_states(progress.states, colour)}"
    return f"{what}, {progress.answered} of {progress.expected} answered"


def _nodes(change: "NodeChange", colour: bool) -> str:
    from msgspec import UNSET

    from cli.fleet_text import names, state_text
    from cli.text import style, visible

    who = f"{style(names(change.nodes), colour, bold=True)} ({change.count})"
    if not change.expected:
        return f"{who} no longer expected"
    link = "connected" if change.connected else style("not connected", colour, fg="red")
    state = "" if change.state is UNSET else f", {state_text(change.state.value, colour)} in the last snapshot"
    return f"{who} {link}{state}{f': {visible(change.reason)}' if change.reason else ''}"


def _drift(at: str, event: "Drift | AgentChange | ClusterDrift", colour: bool) -> Iterator[str]:
    from cli.fleet_text import counted, names, shown
    from cli.text import style, visible
    from common.fleet_api import AgentChange, ClusterDrift

    if isinstance(event, ClusterDrift):
        who = "cluster"
    else:
        who = f"{style(names(event.nodes), colour, bold=True)} ({event.count})"
    if isinstance(event, AgentChange):
        only = "; only one of them reports, on any node:" if event.facts else ""
        yield f"{at}  {who} agent {visible(event.version_before)} -> {visible(event.version)}{only}"
    else:
        yield f"{at}  {who} {style('drift', colour, fg='yellow')} since run {event.before}"
    if not isinstance(event, ClusterDrift) and not event.alike:
        yield f"            each in its own way, in {counted(event.more, 'fact')}"
        return
    for fact in event.facts:
        name = f"{fact.type.value}.{visible(fact.subtype)}.{visible(fact.key)}"
        yield f"            {name}  {shown(fact.before)} -> {shown(fact.after)}"
    if event.more:
        yield f"            … and {event.more} more"


def _states(states: dict[str, int], colour: bool) -> str:
    from cli.fleet_text import state_text

    return ", ".join(f"{count:,} {state_text(state, colour)}" for state, count in states.items())
