"""`python -m agent.replay`: agents of nodes that are directories, several in one process, for a fleet on one machine.

Each has a link, a token and collectors of its own, the same as the resident agent's. They collect what is in files
below the node's root: GPUs, systemd and the cluster are not, and must not be taken from the machine this runs on.
"""

import argparse
import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agent.collecting import Collecting, Collection
from agent.collectors.base import Options
from agent.collectors.registry import collectors
from agent.holdings import Holdings
from agent.host import Host
from agent.link import Link, LinkSettings
from common.logs import log_as_json
from common.model import MeasurementType


class TurnTaking(Collecting):
    """Collections of one process take turns: side by side each of them would only take longer."""

    def __init__(self, host: Host, node: str, turn: asyncio.Semaphore) -> None:
        files = [collector for collector in collectors() if collector.type is MeasurementType.OS]
        super().__init__(files, host, node, Options())
        self._turn = turn

    async def collect(self, kinds: Sequence[MeasurementType], seconds: float) -> Collection:
        """See Collecting."""
        async with self._turn:
            return await super().collect(kinds, seconds)


def _link(url: str, ca_file: Path, tokens: Path, named: str, turn: asyncio.Semaphore) -> Link:
    node, _, root = named.partition("=")
    collecting = TurnTaking(Host(root), node, turn)
    return Link(LinkSettings(url, tokens / node, ca_file), collecting, Holdings(collecting.names))


async def serve(options: argparse.Namespace) -> None:
    """Run all agents until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    turn = asyncio.Semaphore(1)
    links = [_link(options.aggregator, options.ca_file, options.tokens, named, turn) for named in options.node]
    running = asyncio.gather(*(link.run() for link in links))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    with suppress(asyncio.CancelledError):
        await running


def main(argv: Sequence[str] | None = None) -> int:
    """The program. Exit status 0 after a signal."""
    parser = argparse.ArgumentParser(prog="eidos-replay", description="Agents of nodes that are directories.")
    parser.add_argument("--aggregator", required=True, help="https://host:port")
    parser.add_argument("--ca-file", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, required=True, help="the directory with a token per node")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning"))
    parser.add_argument("node", nargs="+", metavar="NODE=ROOT")
    options = parser.parse_args(argv)
    log_as_json(options.log_level)
    asyncio.run(serve(options))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
