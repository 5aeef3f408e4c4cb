"""`python -m aggregator --cluster`, or `--local DIRECTORY --nodes NODESET`: an aggregator as a process of its own."""

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from aggregator.cluster import options as cluster_options
from aggregator.local import LocalFleet
from aggregator.settings import Settings
from common.errors import EidosError, UsageError
from common.logs import log_as_json
from common.nodeset import unfold_names
from common.settings import port_number


def arguments() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(prog="eidos-aggregator", description="The aggregator of Eidos.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--cluster", action="store_true", help="serve the cluster that this is a pod of")
    where.add_argument("--local", metavar="DIRECTORY", type=Path, help="serve a local fleet from here")
    parser.add_argument("--nodes", help="the expected nodes of a local fleet, such as gpu-[001-512],login")
    parser.add_argument("--address", help="127.0.0.1 for a local fleet, all of them in a cluster")
    parser.add_argument("--link-port", type=port_number, help="8443 in a cluster")
    parser.add_argument("--api-port", type=port_number, help="8444 in a cluster")
    parser.add_argument(
        "--log-level",
        default=os.environ.get("EIDOS_LOG_LEVEL") or "info",
        choices=("debug", "info", "warning"),
        help="[EIDOS_LOG_LEVEL]",
    )
    cluster_options.add_options(parser, os.environ)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The program. Exit status 0 after a signal, 2 when it cannot work as told, 4 when another took over."""
    options = arguments().parse_args(argv)
    log_as_json(options.log_level)
    try:
        import uvloop

        uvloop.run(_cluster(options) if options.cluster else _local(options))
    except EidosError as error:
        print(f"eidos-aggregator: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"eidos-aggregator: cannot serve: {error}", file=sys.stderr)
        return 2
    return 0


def _cluster(options: argparse.Namespace) -> Coroutine[Any, Any, None]:
    from aggregator.cluster.service import ClusterService
    from common.kube.target import load_target

    chosen = cluster_options.read_options(options)
    target = load_target(chosen.kubeconfig)

    async def serve() -> None:
        service = ClusterService(chosen, target)
        await service.start()
        stop = _settle({"api_port": service.server.api_port, "namespace": chosen.namespace})
        await service.run(stop)

    return serve()


def _local(options: argparse.Namespace) -> Coroutine[Any, Any, None]:
    nodes = unfold_names(options.nodes or "")
    if not nodes:
        raise UsageError("--local needs --nodes", "Name at least one, such as gpu-[001-512],login.")
    address = options.address or "127.0.0.1"
    settings = Settings(
        options.local,
        link_address=address,
        api_address=address,
        link_port=options.link_port or 0,
        api_port=options.api_port or 0,
        names=("localhost", "127.0.0.1", address),
    )

    async def serve() -> None:
        fleet = LocalFleet(settings, nodes)
        await fleet.start()
        ports = {"link_port": fleet.server.link_port, "api_port": fleet.server.api_port}
        stop = _settle({**ports, "directory": str(settings.directory)})
        await stop.wait()
        await fleet.stop()

    return serve()


def _settle(told: dict[str, object]) -> asyncio.Event:
    """Started: one line for whoever started this process, and an event that is set when it shall end."""
    # Ten thousand links are a million objects that stay: looking through them for garbage is wasted time.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print(json.dumps(told), flush=True)
    return stop


if __name__ == "__main__":
    raise SystemExit(main())
