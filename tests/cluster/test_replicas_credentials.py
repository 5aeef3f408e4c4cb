"""Credentials in a real cluster: a certificate made by somebody else, and which tokens open the link."""

import http.client
import json
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM

import pytest
import trustme

from common.wire import AUDIENCE, LINK_PATH
from tests.cluster.cluster import Cluster
from tests.cluster.replicas import Fleet, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

NAMESPACE = "eidos-tls"


def write(directory: Path, authority: trustme.CA) -> None:
    """What kubelet mounts of a Secret that cert-manager keeps."""
    directory.mkdir()
    certificate = authority.issue_cert(f"eidos-link.{NAMESPACE}.svc", "localhost")
    (directory / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    (directory / "tls.key").write_bytes(certificate.private_key_pem.bytes())
    (directory / "ca.crt").write_bytes(authority.cert_pem.bytes())


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    for name in ("old", "new"):
        write(folder / name, trustme.CA())
    (folder / "tls").symlink_to("old")
    return folder


@pytest.fixture(scope="module")
def fleet(cluster: Cluster, mounted: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(cluster, NAMESPACE, tmp_path_factory.mktemp("credentials")) as running:
        running.start("only", "--tls-directory", str(mounted / "tls"))
        running.leader()
        running.join("gpu-1", "cpu-1")
        running.linked(2)
        yield running


def knock(fleet: Fleet, token: str, path: str = LINK_PATH, port: int = 0) -> int:
    """HTTP status of an attempt to get a link, or of another request with the token."""
    context = ssl.create_default_context(cadata=(fleet.data("configmap", "eidos-ca") or {})["ca.crt"])
    connection = http.client.HTTPSConnection(
        "localhost", port or fleet.leader().link_port, context=context, timeout=30
    )
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Authorization": f"Bearer {token}",
    }
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def check_tokens(fleet: Fleet) -> None:
    """An agent's opens the link and no other does."""
    create = ("create", "token", *fleet.here)
    unbound = fleet.kubectl(*create, "eidos-agent", f"--audience={AUDIENCE}").strip()
    others = fleet.kubectl(*create, "user", f"--audience={AUDIENCE}").strip()
    agents = fleet.agent_token("gpu-1")
    assert knock(fleet, agents) == 409, "a good one, but the node has a living agent"
    assert knock(fleet, fleet.agent_token("gpu-1", "https://kubernetes.default.svc")) == 401, "another audience"
    assert knock(fleet, unbound) == 401, "bound to no pod"
    assert knock(fleet, others) == 401, "another service account"
    header, claims, signature = agents.split(".")
    assert knock(fleet, f"{header}.{claims}.{signature[:-8]}AAAAAAAA") == 401, "another signature"
    assert knock(fleet, "") == 401


def test_which_tokens_open_the_link(fleet: Fleet) -> None:
    check_tokens(fleet)


@contextmanager
def keys_withheld(fleet: Fleet) -> Iterator[None]:
    """As in a cluster that shows no service account the public keys of its tokens."""
    role = ("clusterrole", f"{NAMESPACE}-aggregator")
    binding = ("clusterrolebinding", "system:service-account-issuer-discovery")
    rules, subjects = (json.loads(fleet.kubectl("get", *each, "-o", "json")) for each in (role, binding))
    kept = [rule for rule in rules["rules"] if "nonResourceURLs" not in rule]

    def patch(what: tuple[str, str], **fields: object) -> None:
        fleet.kubectl("patch", *what, "--type=merge", "-p", json.dumps(fields))

    patch(role, rules=kept)
    patch(binding, subjects=[])
    try:
        yield
    finally:
        patch(role, rules=rules["rules"])
        patch(binding, subjects=subjects["subjects"])


def test_tokens_are_reviewed_where_the_keys_cannot_be_read(fleet: Fleet, mounted: Path) -> None:
    with keys_withheld(fleet):
        fleet.leader().end(SIGTERM)
        reviewing = fleet.start("reviewing", "--tls-directory", str(mounted / "tls"))
        assert fleet.leader() is reviewing
        fleet.linked(2)
        check_tokens(fleet)
    line, *_ = [line for line in reviewing.log.read_text().splitlines() if "tokens are reviewed one by one" in line]
    assert "/.well-known/openid-configuration" in line
    assert "cannot get path" in line, line


def test_an_agents_token_opens_nothing_else(fleet: Fleet) -> None:
    token, port = fleet.agent_token("gpu-1"), fleet.leader().api_port
    for path in ("/v1/nodes", "/v1/snapshot", "/metrics", "/apis"):
        assert knock(fleet, token, path, port) == 401, path


def test_a_certificate_of_somebody_elses_is_used_and_followed(fleet: Fleet, mounted: Path) -> None:
    old, new = ((mounted / name / "ca.crt").read_text() for name in ("old", "new"))
    assert (fleet.data("configmap", "eidos-ca") or {})["ca.crt"] == old
    assert fleet.data("secret", "eidos-authority") is None, "no authority of its own"
    assert {state for state, _ in fleet.states().values()} <= {"ok", "partial"}
    (mounted / "link").symlink_to("new")
    os.replace(mounted / "link", mounted / "tls")
    wait_for(lambda: (fleet.data("configmap", "eidos-ca") or {})["ca.crt"] == new, 60)
    assert fleet.ask("/v1/nodes")[0] == 200, "who trusts the new authority only"
    fleet.linked(2)
