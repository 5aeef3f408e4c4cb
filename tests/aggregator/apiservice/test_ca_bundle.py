"""spec.caBundle of the APIService: written when it is not right, and only then."""

from base64 import b64decode

import pytest

from aggregator.apiservice.ca_bundle import APISERVICE, keep_ca_bundle
from common.errors import ClusterError, Code
from common.kube.client import Kube, Retry
from common.kube.credentials import Credential, FixedCredentials
from common.kube.target import Target
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.objects import Resource

KIND = Resource("apiservices", "APIService", "apiregistration.k8s.io/v1", namespaced=False)


async def test_the_bundle_is_kept_right() -> None:
    with FakeApiServer() as server:
        server.resources.append(KIND)
        target = Target(server.url, FixedCredentials(Credential()))
        async with Kube(target, retry=Retry(attempts=1)) as kube:
            assert not await keep_ca_bundle(kube, b"one"), "there is none to write to"
            server.add("apiservices", {"metadata": {"name": APISERVICE}, "spec": {"versionPriority": 15}})
            assert await keep_ca_bundle(kube, b"one")
            assert not await keep_ca_bundle(kube, b"one")
            assert await keep_ca_bundle(kube, b"one and two")
            (spec,) = (item["spec"] for item in server.store.all("apiservices"))
            assert (b64decode(spec["caBundle"]), spec["versionPriority"]) == (b"one and two", 15)
            assert len(server.asked("patch", "apiservices")) == 2
            server.forbidden.add(("patch", "apiservices"))
            with pytest.raises(ClusterError) as caught:
                await keep_ca_bundle(kube, b"three")
            assert caught.value.code is Code.CLUSTER_FORBIDDEN
