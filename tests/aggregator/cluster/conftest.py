"""A fake API server with what the aggregator keeps in a cluster."""

from collections.abc import Iterator

import pytest

from common.kube.client import Kube, Retry
from common.kube.credentials import Credential, FixedCredentials
from common.kube.target import Target
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.objects import Resource


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with FakeApiServer() as server:
        server.resources += [Resource("leases", "Lease", "coordination.k8s.io/v1"), Resource("secrets", "Secret")]
        yield server


def kube_of(api: FakeApiServer, attempts: int = 1) -> Kube:
    retry = Retry(attempts=attempts, first=0.01, longest=0.05)
    return Kube(Target(server=api.url, credentials=FixedCredentials(Credential())), retry=retry)
