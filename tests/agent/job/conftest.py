"""A cluster for each test, and a client that does not wait between attempts."""

from collections.abc import Iterator

import pytest

from common.kube.client import Kube, Retry
from common.kube.credentials import Credential, FixedCredentials
from common.kube.target import Target
from tests.agent.job.fake import JobApi


@pytest.fixture
def api() -> Iterator[JobApi]:
    server = JobApi()
    with server:
        yield server


@pytest.fixture
def kube(api: JobApi) -> Kube:
    return Kube(target(api), retry=Retry(attempts=3, seconds=30, first=0.0001, longest=0.001))


def target(api: JobApi) -> Target:
    return Target(server=api.url, credentials=FixedCredentials(Credential()))
