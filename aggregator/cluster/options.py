"""What the aggregator in a cluster can be told: flags, whose defaults the environment gives."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aggregator.settings import RunSettings, Settings
from common.errors import UsageError
from common.kube.choice import SERVICE_ACCOUNT

AGENT_ACCOUNT: Final = "eidos-agent"
LEASE: Final = "eidos-aggregator"
_LINK_PORT: Final = 8443
_API_PORT: Final = 8444
_WARMING: Final = 20.0
"""Seconds; agents dial again within 15 (agent/link.py), so after these they are back."""


@dataclass(frozen=True, slots=True)
class Options:
    """See `add_options`."""

    namespace: str
    identity: str
    settings: Settings
    kubeconfig: str | None = None
    tls_directory: Path | None = None
    node_selector: str = ""


def add_options(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    """Flags that only `--cluster` knows."""
    cluster = parser.add_argument_group("in a cluster")
    cluster.add_argument("--namespace", default=environment.get("POD_NAMESPACE"), help="[POD_NAMESPACE]")
    cluster.add_argument(
        "--identity", default=environment.get("POD_NAME"), help="this replica's name, which no other has [POD_NAME]"
    )
    cluster.add_argument("--kubeconfig", help="instead of the pod's service account")
    cluster.add_argument(
        "--tls-directory",
        default=environment.get("EIDOS_TLS_DIRECTORY") or None,
        type=Path,
        help="tls.crt, tls.key and ca.crt made by somebody else, instead of an authority of its own"
        " [EIDOS_TLS_DIRECTORY]",
    )
    cluster.add_argument(
        "--node-selector",
        default=environment.get("EIDOS_NODE_SELECTOR", ""),
        help="labels of the nodes that are expected, all without [EIDOS_NODE_SELECTOR]",
    )
    cluster.add_argument(
        "--directory",
        default=environment.get("EIDOS_DIRECTORY") or "/var/lib/eidos",
        type=Path,
        help="for content beyond memory [EIDOS_DIRECTORY]",
    )
    cluster.add_argument(
        "--names",
        default=environment.get("EIDOS_NAMES", ""),
        help="more names for its certificate, by comma [EIDOS_NAMES]",
    )


def read_options(options: argparse.Namespace) -> Options:
    """What the flags say. Raises UsageError."""
    namespace = options.namespace or _own_namespace()
    if not namespace:
        raise UsageError("the namespace is not known", "Set POD_NAMESPACE or --namespace.")
    if not options.identity:
        raise UsageError("this replica has no name", "Set POD_NAME or --identity.")
    address = "" if options.address is None else options.address
    settings = Settings(
        options.directory,
        link_address=address,
        api_address=address,
        link_port=_LINK_PORT if options.link_port is None else options.link_port,
        api_port=_API_PORT if options.api_port is None else options.api_port,
        names=(*service_names(namespace), "localhost", "127.0.0.1", *filter(None, options.names.split(","))),
        run=RunSettings(warming=_WARMING),
    )
    return Options(
        namespace, options.identity, settings, options.kubeconfig, options.tls_directory, options.node_selector
    )


def service_names(namespace: str) -> tuple[str, ...]:
    """What agents and kube-apiserver call the aggregator."""
    return tuple(
        f"{service}.{namespace}.svc{domain}"
        for service in ("eidos-link", "eidos-api")
        for domain in ("", ".cluster.local")
    )


def _own_namespace() -> str:
    try:
        return Path(os.path.join(SERVICE_ACCOUNT, "namespace")).read_text().strip()
    except OSError:
        return ""
