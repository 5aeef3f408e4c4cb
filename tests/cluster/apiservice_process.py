"""An aggregator as part of the cluster's API, as a process of its own: expected nodes from a count.

    python -m tests.cluster.apiservice_process --kubeconfig F --directory D --namespace N --address A --count N

It prints its ports, and answers lines on standard input: `rotate` begins a new authority and certificate.
"""

import argparse
import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aggregator.apiservice.ca_bundle import keep_ca_bundle
from aggregator.apiservice.front_proxy import FrontProxy
from aggregator.apiservice.service import ApiService
from aggregator.auth import Authenticator
from aggregator.cluster.users import ClusterUsers
from aggregator.fleet import Fleet
from aggregator.ledger import Expected
from aggregator.local_files import write_whole
from aggregator.server import Server
from aggregator.settings import LinkSettings, RunSettings, Settings
from aggregator.signer import LOCAL_ISSUER, LOCAL_SERVICE_ACCOUNT, LocalSigner
from aggregator.tls import Authority, OwnCertificates
from common.kube.client import Kube
from common.kube.target import load_target
from tests.cluster.kwok import node
from tests.fleet.naming import NAMINGS


def expected(count: int) -> list[Expected]:
    """Nodes with as many labels as clouds give."""
    names = [NAMINGS["counted"](number) for number in range(count)]
    return [Expected(name, labels=node(name, number, 30)["metadata"]["labels"]) for number, name in enumerate(names)]


async def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    for name in ("kubeconfig", "namespace", "address"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    directory: Path = options.directory
    nodes, signer = expected(options.count), LocalSigner()
    (directory / "tokens").mkdir(parents=True)
    for each in nodes:
        write_whole(directory / "tokens" / each.node, signer.token(each.node).encode())
    names = (f"eidos-api.{options.namespace}.svc", "localhost", "127.0.0.1")
    patient = LinkSettings(hello_within=60.0)  # a thousand agents dial at once, on a machine that may be busy
    settings = Settings(
        directory, "127.0.0.1", 0, options.address, 0, names, link=patient, run=RunSettings(warming=0.0)
    )
    fleet = Fleet(settings, lambda: nodes)
    certificates = OwnCertificates(Authority(), names)
    certificates.authority.rotate()
    write_whole(directory / "ca.crt", certificates.authority.bundle)
    async with Kube(load_target(options.kubeconfig, environment={})) as kube:
        front_proxy = FrontProxy()
        server = Server(
            fleet,
            Authenticator(signer, LOCAL_ISSUER, LOCAL_SERVICE_ACCOUNT),
            ClusterUsers(kube, front_proxy),
            certificates.issue(),
            ApiService(fleet).add_to,
        )
        following = asyncio.create_task(front_proxy.follow(kube, server.trust_clients))
        await server.start()
        await keep_ca_bundle(kube, certificates.authority.bundle)
        _say({"link_port": server.link_port, "api_port": server.api_port})
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.strip() == "rotate":
                later = datetime.now(UTC) + timedelta(days=300)
                certificates.authority.rotate(later)
                server.use_certificate(certificates.issue())
                written = await keep_ca_bundle(kube, certificates.authority.bundle)
                _say({"written": written, "authorities": certificates.authority.bundle.count(b"BEGIN CERT")})
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await server.stop()


def _say(answer: dict[str, object]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
