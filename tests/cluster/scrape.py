"""What Prometheus does with a ServiceMonitor: finds the targets it means, and reads them as it says."""

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any

from tests.cluster.cluster import Cluster

Item = dict[str, Any]


def targets(cluster: Cluster, monitor: Item) -> list[tuple[str, int]]:
    """Address and port of each pod behind the Services it selects, ready or not."""
    (endpoint,) = monitor["spec"]["endpoints"]
    labels = ",".join(f"{key}={value}" for key, value in monitor["spec"]["selector"]["matchLabels"].items())
    found = []
    for service in _get(cluster, monitor, "services", "-l", labels)["items"]:
        name = service["metadata"]["name"]
        for part in _get(cluster, monitor, "endpointslices", "-l", f"kubernetes.io/service-name={name}")["items"]:
            ports = [port["port"] for port in part["ports"] or [] if port["name"] == endpoint["port"]]
            found += [(each["addresses"][0], port) for each in part["endpoints"] or [] for port in ports]
    return sorted(found)


def scrape(cluster: Cluster, monitor: Item, target: tuple[str, int], token: str) -> tuple[int, str]:
    """Status and text. `token` is what Prometheus would read from the file that is named."""
    (endpoint,) = monitor["spec"]["endpoints"]
    tls = endpoint["tlsConfig"]
    reference = tls["ca"]["configMap"]
    authorities = _get(cluster, monitor, "configmap", reference["name"])["data"][reference["key"]]
    context = ssl.create_default_context(cadata=authorities)
    assert endpoint["scheme"] == "https"
    assert endpoint["bearerTokenFile"] == "/var/run/secrets/kubernetes.io/serviceaccount/token"
    with _reached(cluster, *target) as plain, context.wrap_socket(plain, server_hostname=tls["serverName"]) as secure:
        connection = HTTPConnection(tls["serverName"])
        connection.sock = secure
        connection.request("GET", endpoint["path"], headers={"Authorization": f"Bearer {token}"} if token else {})
        response = connection.getresponse()
        return response.status, response.read().decode()


def samples(text: str) -> dict[str, float]:
    """Values by name, without labels."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines if "{" not in name}


@contextmanager
def _reached(cluster: Cluster, address: str, port: int) -> Iterator[socket.socket]:
    near, forwarder = cluster.forward(address, port)
    try:
        with socket.create_connection(("127.0.0.1", near), timeout=30) as connection:
            yield connection
    finally:
        forwarder.kill()
        forwarder.wait(10)


def _get(cluster: Cluster, monitor: Item, *arguments: str) -> Item:
    found: Item = json.loads(cluster.kubectl("get", *arguments, "-n", monitor["metadata"]["namespace"], "-o", "json"))
    return found
