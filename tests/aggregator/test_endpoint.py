"""What strangers leave behind in the endpoint: nothing."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from aggregator.admission import Admission
from aggregator.auth import AgentIdentity
from aggregator.blobs import BlobStore
from aggregator.catalog import Catalog
from aggregator.counts import Counts
from aggregator.endpoint import Connection, LinkEndpoint
from aggregator.hub import Hub
from aggregator.settings import LinkSettings
from common.wire import LINK_PATH
from tests.aggregator.test_hub import Wire


class Hanging:
    """An authenticator whose API server does not answer."""

    async def identify(self, token: str) -> AgentIdentity:
        await asyncio.Event().wait()
        raise AssertionError


def opening(token: str) -> bytes:
    """An agent's first bytes."""
    return (
        f"GET {LINK_PATH} HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {'a' * 22}==\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()


@pytest.fixture
def endpoint(tmp_path: Path) -> LinkEndpoint:
    hub = Hub(Catalog(BlobStore(tmp_path)), Counts(), LinkSettings())
    authenticator: Any = Hanging()
    return LinkEndpoint(hub, Admission(hub, authenticator))


async def test_nobody_is_admitted_any_more_whose_connection_has_ended(endpoint: LinkEndpoint) -> None:
    connections = [Connection(endpoint) for _ in range(3)]
    for number, connection in enumerate(connections):
        transport: Any = Wire()
        connection.connection_made(transport)
        connection.data_received(opening(f"made-up-{number}"))
    await asyncio.sleep(0)
    assert len(endpoint.tasks) == 3
    for connection in connections:
        connection.connection_lost(None)
    async with asyncio.timeout(60):
        await asyncio.gather(*endpoint.tasks, return_exceptions=True)
    assert (len(endpoint.tasks), len(endpoint.connections)) == (0, 0)
