"""An API server for each test, and a client that does not wait between attempts."""

import time
from collections.abc import Callable, Iterator

import pytest

from common.kube import configmap_writer, sharding
from common.kube.client import Kube, Retry
from common.kube.credentials import Credential, FixedCredentials, bearer
from common.kube.target import Target
from tests.fakes.apiserver import FakeApiServer

AT_ONCE = Retry(attempts=4, seconds=30, first=0.0001, longest=0.001)

Connect = Callable[..., Kube]


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with FakeApiServer() as server:
        yield server


@pytest.fixture
def connect(api: FakeApiServer) -> Connect:
    """A client of `api`; `seconds` is its deadline."""

    def make(token: str = "", seconds: float | None = None, retry: Retry = AT_ONCE) -> Kube:
        credential = Credential(bearer(token)) if token else Credential()
        target = Target(server=api.url, credentials=FixedCredentials(credential))
        return Kube(target, deadline=None if seconds is None else time.monotonic() + seconds, retry=retry)

    return make


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document of a few KB needs shards, as one of a few MB does in earnest."""
    for module in (sharding, configmap_writer):
        monkeypatch.setattr(module, "SHARD_BYTES", 4000)
