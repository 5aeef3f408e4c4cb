"""A renewed certificate reaches everybody who must know it, whatever one of them refuses."""

import asyncio
from base64 import b64decode
from pathlib import Path

import pytest

from aggregator.apiservice.ca_bundle import APISERVICE
from aggregator.cluster import guard
from aggregator.cluster.options import Options
from aggregator.cluster.service import ClusterService
from aggregator.settings import Settings
from aggregator.tls import BUNDLE, Authority, OwnCertificates
from common.kube.credentials import Credential, FixedCredentials
from common.kube.target import Target
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.objects import Resource
from tests.fleet.scene import until


class Renewed:
    """`Certificates` that a test renews."""

    def __init__(self) -> None:
        self.renew()

    @property
    def bundle(self) -> bytes:
        return self._authority.bundle

    def renew(self) -> tuple[bytes, bytes]:
        """A pair of another authority."""
        self._authority = Authority()
        self._authority.rotate()
        return OwnCertificates(self._authority, ["localhost"]).issue()


def published(api: FakeApiServer) -> list[bytes]:
    return [item["data"][BUNDLE].encode() for item in api.store.all("configmaps")]


def given(api: FakeApiServer) -> list[bytes]:
    return [b64decode(item["spec"].get("caBundle", "")) for item in api.store.all("apiservices")]


@pytest.mark.parametrize("refused", ["apiservices", "configmaps"])
async def test_what_is_refused_holds_up_no_renewal_and_is_tried_again(
    api: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    monkeypatch.setattr(guard, "_AGAIN_AFTER", 0.05)
    monkeypatch.setattr(guard, "_AT_LEAST", 0.01)
    api.resources.append(Resource("apiservices", "APIService", "apiregistration.k8s.io/v1", namespaced=False))
    api.add("apiservices", {"metadata": {"name": APISERVICE}, "spec": {}})
    certificates, target = Renewed(), Target(api.url, FixedCredentials(Credential()))
    service = ClusterService(Options("eidos", "a", Settings(tmp_path)), target)
    monkeypatch.setattr(service, "_certificates", certificates)
    following = [asyncio.create_task(service._bundle.follow()), asyncio.create_task(service._follow_apiservice())]
    await until(lambda: published(api) == given(api) == [certificates.bundle])
    api.forbidden |= {("get", refused), ("list", refused), ("watch", refused)}
    for _ in range(2):
        async with asyncio.timeout(30):
            await service._renewed(certificates.renew())
    if refused == "apiservices":
        await until(lambda: published(api) == [certificates.bundle])
    else:
        await until(lambda: given(api) == [certificates.bundle])
    api.forbidden.clear()
    await until(lambda: published(api) == given(api) == [certificates.bundle])
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    stop = asyncio.Event()
    stop.set()
    await service.run(stop)
