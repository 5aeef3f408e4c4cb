"""The resident agent: `python -m agent`. Waits for the aggregator to ask, and costs next to nothing until then."""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent.collect import node_name
from agent.collecting import Collecting
from agent.collectors.base import DEFAULT_UNITS, Collector, Options
from agent.collectors.gpu import GpuCollector
from agent.collectors.registry import collectors
from agent.health import Health
from agent.holdings import Holdings
from agent.link import Link, LinkSettings
from agent.oneshot import find_host
from common.errors import EidosError, UsageError
from common.logs import log_as_json
from common.memory import give_back
from common.settings import port_number
from common.version import VERSION
from common.wire import is_node_name

_log: Final = logging.getLogger(__name__)

_SECRETS: Final = "/var/run/secrets/eidos"


def arguments(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """The flags; what the environment says are their defaults."""

    def default(name: str, otherwise: str | None = None) -> str | None:
        return environment.get(f"EIDOS_{name}") or otherwise

    parser = argparse.ArgumentParser(prog="eidos-agent", description="The resident agent of Eidos on one node.")
    parser.add_argument("--aggregator", default=default("AGGREGATOR"), help="https://host:port [EIDOS_AGGREGATOR]")
    parser.add_argument("--token-file", default=default("TOKEN_FILE", f"{_SECRETS}/token"), help="[EIDOS_TOKEN_FILE]")
    parser.add_argument("--ca-file", default=default("CA_FILE", f"{_SECRETS}/ca.crt"), help="[EIDOS_CA_FILE]")
    parser.add_argument(
        "--server-name",
        default=default("SERVER_NAME", ""),
        help="the name in the aggregator's certificate, where its address is another [EIDOS_SERVER_NAME]",
    )
    parser.add_argument("--node", default=None, help="this node's name [NODE_NAME]")
    parser.add_argument("--host-root", default=None, help="where the host's / is [EIDOS_HOST_ROOT]")
    parser.add_argument(
        "--health-port", type=port_number, default=default("HEALTH_PORT", "8445"), help="[EIDOS_HEALTH_PORT]"
    )
    parser.add_argument(
        "--systemd-units",
        default=default("SYSTEMD_UNITS", ",".join(DEFAULT_UNITS)),
        help="which are read, by comma [EIDOS_SYSTEMD_UNITS]",
    )
    parser.add_argument(
        "--log-level",
        default=default("LOG_LEVEL", "info"),
        choices=("debug", "info", "warning"),
        help="[EIDOS_LOG_LEVEL]",
    )
    parser.add_argument("--version", action="version", version=VERSION)
    return parser


def build(options: argparse.Namespace, environment: Mapping[str, str]) -> Link:
    """The agent, put together but not started. Raises EidosError on what cannot work."""
    if not (options.aggregator or "").startswith("https://"):
        raise UsageError("the aggregator's address is missing or not https", "Set --aggregator https://host:port.")
    host = find_host(environment, options.host_root)
    node = options.node or node_name(environment, host)
    if not is_node_name(node):
        raise UsageError(f"{node[:80]!r} cannot be a node's name", "Set --node or NODE_NAME.")
    units = tuple(filter(None, (unit.strip() for unit in options.systemd_units.split(","))))
    collecting = Collecting(_resident(collectors()), host, node, Options(systemd_units=units))
    settings = LinkSettings(
        _address(options.aggregator), Path(options.token_file), Path(options.ca_file), options.server_name
    )
    return Link(settings, collecting, Holdings(collecting.names))


def _address(text: str) -> str:
    """Where to dial. Raises UsageError on what never can be, rather than to try it for ever."""
    url = bracketed(text)
    try:
        parts = urlsplit(url)
        good = parts.hostname and parts.port != 0 and url.isprintable() and " " not in url
    except ValueError:  # no port, or no IPv6 address
        good = False
    if not good or "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(f"{text!r} is no address of an aggregator", "Write it as https://host:port.")
    return url


def bracketed(url: str) -> str:
    """The address with brackets around an IPv6 host, which `https://$(SERVICE_HOST):$(SERVICE_PORT)` has none of."""
    scheme, _, address = url.partition("://")
    host, colon, port = address.rpartition(":")
    return f"{scheme}://[{host}]{colon}{port}" if ":" in host and not {"[", "]"} & set(host) else url


def _resident(chosen: Sequence[Collector]) -> list[Collector]:
    """The collectors, for a program that stays: to initialise NVML for every collection would wake idle GPUs."""
    return [GpuCollector(keep=True) if isinstance(collector, GpuCollector) else collector for collector in chosen]


async def serve(link: Link, health_port: int) -> None:
    """Run until SIGTERM or SIGINT. Raises OSError when the health port is taken."""
    loop = asyncio.get_running_loop()
    health = Health(lambda: link.is_up)
    port = await health.start(health_port)
    _log.info("agent started", extra={"version": VERSION, "health_port": port, "pid": os.getpid()})
    running = loop.create_task(link.run(), name="link")
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    gc.collect()
    gc.freeze()
    give_back()
    with suppress(asyncio.CancelledError):
        await running
    await health.stop()
    _log.info("agent stopped")


def main(argv: Sequence[str] | None = None) -> int:
    """The program. Exit status 0 after a signal, 2 when it cannot work as told."""
    options = arguments(os.environ).parse_args(argv)
    log_as_json(options.log_level)
    try:
        asyncio.run(serve(build(options, os.environ), options.health_port))
    except EidosError as error:
        print(f"eidos-agent: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"eidos-agent: the health port cannot be used: {error}", file=sys.stderr)
        return 2
    return 0
