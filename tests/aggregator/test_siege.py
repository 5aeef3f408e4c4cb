"""Hundreds of strangers and forty agents gone bad at once: each is closed for a counted reason, memory stays bounded,
and the honest agent does not notice.
"""

import asyncio
import os
import random
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import pytest

from common import wire
from common.wire import MAX_FRAME, Hello, Pong
from tests.fleet.dial import Dialled, dial
from tests.fleet.processes import Agent, Aggregator

BAD = [f"b{number:02}" for number in range(1, 41)]
MOST_GROWTH = 150 << 20
"""Bytes of resident memory that all of this at once may cost: some 800 TLS connections and messages without end."""
MOST_LEFT = 30 << 20
"""Bytes of it that may still be there a while later."""
REASONS = {
    "eidos_links_closed_total": {"bad-frame", "lost", "out-of-turn", "too-large", "too-many-frames"},
    "eidos_links_refused_total": {"no-handshake", "no-websocket", "silent"},
    "eidos_http_dropped_total": {"no-request", "slow-head"},
    "eidos_http_answers_total": {"400", "408", "413"},
}
AT_LINK = 50 + 20 + 200 + 20 + 50
AT_API = 50 + 20 + 200 + 20 + 50 + 50 + 20
HEAD = b"GET /v1/link HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[tuple[Aggregator, Agent]]:
    directory = tmp_path / "fleet"
    directory.mkdir()
    aggregator = Aggregator(directory, f"n1,{','.join(BAD)}")
    agent = Agent(aggregator, "n1")
    try:
        aggregator.client.wait_for("eidos_links", 1)
        yield aggregator, agent
    finally:
        agent.end(SIGKILL)
        aggregator.end()


class Siege:
    """All attacks, each until it is thrown out."""

    def __init__(self, aggregator: Aggregator, seed: int) -> None:
        self._aggregator = aggregator
        self._random = random.Random(seed)  # noqa: S311  # repeatable, and no secret
        directory = aggregator.directory
        self._context = ssl.create_default_context(cadata=(directory / "ca.crt").read_text())
        self._tokens = {node: (directory / "tokens" / node).read_text() for node in BAD}
        self._user = (directory / "user-token").read_text()
        # All are held at once; hundreds of handshakes at once take longer than one may on a busy machine.
        self._opening = asyncio.Semaphore(32)

    async def __call__(self) -> None:
        link, api = self._aggregator.link_port, self._aggregator.api_port
        linked = [await dial(self._context, link, self._tokens[node], lambda *_: None) for node in BAD]
        assert {dialled.status for dialled in linked} == {101}
        request = f"POST /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._user}\r\n".encode()
        strangers = [
            *(self._held(port, b"", tls=False) for port in (link, api) for _ in range(50)),
            *(self._held(port, os.urandom(3000), tls=False) for port in (link, api) for _ in range(20)),
            *(self._held(link, HEAD + b"X-Slow: ") for _ in range(200)),
            *(self._held(link, HEAD + b"X-Large: " + bytes(100_000)) for _ in range(20)),
            *(self._held(link, self._random.randbytes(2000)) for _ in range(50)),
            *(self._held(api, b"GET /v1/nodes HTTP/1.1\r\nX-Slow: ") for _ in range(200)),
            *(self._held(api, b"GET / HTTP/1.1\r\nX-Large: " + b"x" * 100_000) for _ in range(20)),
            *(self._held(api, self._random.randbytes(2000) + b"\r\n\r\n") for _ in range(50)),
            *(self._held(api, request + b"Content-Length: 100\r\n\r\n{") for _ in range(50)),
            *(self._held(api, request + b"Content-Length: 9999999\r\n\r\n" + bytes(200_000)) for _ in range(20)),
        ]
        await asyncio.gather(*strangers, *(self._gone_bad(*each) for each in enumerate(linked)))

    async def _held(self, port: int, data: bytes, tls: bool = True) -> None:
        """Send this, and then nothing until the other side has had enough."""
        context = self._context if tls else None
        name = "localhost" if tls else None
        try:
            async with self._opening:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        except OSError:
            return
        try:
            writer.write(data)
            async with asyncio.timeout(60):
                while await reader.read(1 << 16):
                    pass
        except OSError:
            pass
        finally:
            writer.transport.abort()

    async def _gone_bad(self, number: int, link: Dialled) -> None:
        """A linked agent: says anything, too much, too large, or half."""
        if number % 2:
            link.send(wire.encode(Hello(wire.PROTOCOL, 1, "siege")))
        kind = number // 2 % 4
        if kind == 0:
            link.transport.write(b"\x82\xff" + MAX_FRAME.to_bytes(8, "big") + bytes(MAX_FRAME))  # lacks four bytes
            await asyncio.wait([link.ended], timeout=8)
            link.transport.abort()
        elif kind == 1:
            link.send(bytes(MAX_FRAME + 1))
        elif kind == 2:
            for _ in range(600):
                link.send(wire.encode(Pong(1)))
        else:
            while not link.ended.done():
                link.send(self._random.randbytes(self._random.randrange(1, 200)))
                await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await link.ended


async def test_a_siege(fleet: tuple[Aggregator, Agent]) -> None:
    aggregator, agent = fleet
    client = aggregator.client
    before = await asyncio.to_thread(client.run)
    calm = aggregator.status()["rss"]
    siege = asyncio.create_task(Siege(aggregator, 1)())
    during = await asyncio.to_thread(client.run, 10.0, nodes="n1")
    assert during["summary"]["states"].keys() <= {"ok", "partial"}
    assert not siege.done()
    await siege
    assert aggregator.status()["peak"] - calm < MOST_GROWTH
    _, metrics, _ = await asyncio.to_thread(client.request, "/metrics")
    counted = {name: _by_reason(name, metrics.decode()) for name in REASONS}
    assert not [name for name, by_reason in counted.items() if REASONS[name] - by_reason.keys()], counted
    closed, refused, dropped, answered = (sum(by_reason.values()) for by_reason in counted.values())
    assert (closed, refused) == (len(BAD), AT_LINK)
    assert dropped + answered >= AT_API
    after = await asyncio.to_thread(client.run)
    assert after["groups"] == before["groups"]
    assert "link down" not in agent.log.read_text()
    end = time.monotonic() + 60
    while (left := aggregator.status()["rss"] - calm) > MOST_LEFT:
        assert time.monotonic() < end, f"{left >> 20} MiB more than before are still there"
        await asyncio.sleep(0.5)


def _by_reason(name: str, metrics: str) -> dict[str, float]:
    found = re.findall(rf'^{name}{{\w+="([^"]+)"}} ([0-9.]+)$', metrics, re.MULTILINE)
    return {reason: float(count) for reason, count in found}
