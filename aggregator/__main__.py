"""`python -m aggregator --local DIRECTORY --nodes NODESET`: a local fleet's aggregator as a process of its own."""

import argparse
import asyncio
import gc
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from aggregator.local import LocalFleet
from aggregator.settings import Settings
from common.errors import EidosError
from common.logs import log_as_json
from common.nodeset import unfold_names


def main(argv: Sequence[str] | None = None) -> int:
    """The program. Exit status 0 after a signal, 2 when it cannot work as told."""
    parser = argparse.ArgumentParser(prog="eidos-aggregator", description="The aggregator of Eidos.")
    parser.add_argument(
        "--local", metavar="DIRECTORY", type=Path, required=True, help="serve a local fleet from here"
    )
    parser.add_argument("--nodes", required=True, help="the expected nodes, such as gpu-[001-512],login")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--link-port", type=int, default=0)
    parser.add_argument("--api-port", type=int, default=0)
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning"))
    options = parser.parse_args(argv)
    log_as_json(options.log_level)
    settings = Settings(
        options.local,
        link_address=options.address,
        api_address=options.address,
        link_port=options.link_port,
        api_port=options.api_port,
        names=("localhost", "127.0.0.1", options.address),
    )
    try:
        import uvloop

        uvloop.run(_serve(settings, unfold_names(options.nodes)))
    except EidosError as error:
        print(f"eidos-aggregator: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"eidos-aggregator: cannot serve: {error}", file=sys.stderr)
        return 2
    return 0


async def _serve(settings: Settings, nodes: list[str]) -> None:
    fleet = LocalFleet(settings, nodes)
    await fleet.start()
    # Ten thousand links are a million objects that stay: looking through them for garbage is wasted time.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # One line for whoever started this process: where to find it.
    ports = {"link_port": fleet.server.link_port, "api_port": fleet.server.api_port}
    print(json.dumps({**ports, "directory": str(settings.directory)}), flush=True)
    await stop.wait()
    await fleet.stop()


if __name__ == "__main__":
    raise SystemExit(main())
