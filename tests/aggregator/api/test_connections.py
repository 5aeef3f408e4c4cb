"""Connections to the HTTP API over TLS: the slow are dropped, and neither strangers nor users keep others out."""

import asyncio
from pathlib import Path

import pytest

from aggregator.settings import ApiSettings
from tests.aggregator.api.test_http import User, api
from tests.fleet.scene import until


async def test_slow_heads_and_slow_bodies_are_dropped(tmp_path: Path) -> None:
    async with api(tmp_path / "heads", join=0, limits=ApiSettings(headers_within=0.5)) as user:
        port = user.fleet.local.server.api_port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=user.fleet.context)
        writer.write(b"GET /v1/nodes HTTP/1.1\r\nX-Slow: ")
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
        assert user.fleet.counts.http_dropped["slow-head"] == 1
    async with api(tmp_path / "bodies", join=0, limits=ApiSettings(body_within=0.5)) as user:
        port = user.fleet.local.server.api_port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=user.fleet.context)
        head = (
            f"POST /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {user.token}\r\nContent-Length: 50\r\n\r\n{{"
        )
        writer.write(head.encode())
        answer = await asyncio.wait_for(reader.readline(), 60)
        assert b"408" in answer
        writer.close()


async def test_who_does_not_read_its_answer_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aggregator.listener._READ_WITHIN", 1.0)
    async with api(tmp_path) as user:
        await user.ask("POST", "/v1/runs")
        port = user.fleet.local.server.api_port
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=user.fleet.context, limit=1024)
        request = f"GET /v1/snapshot HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {user.token}\r\n\r\n".encode()
        writer.write(request * 300)  # far more than the kernel's own buffers hold, and nobody reads
        await until(lambda: user.fleet.counts.http_dropped["slow-reader"] == 1)
        writer.transport.abort()
        assert (await user.ask("GET", "/livez"))[0] == 200


async def _ask(user: User, path: str, token: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """Ask on a connection of its own, and leave that open: the first line of the answer."""
    port = user.fleet.local.server.api_port
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=user.fleet.context)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    return reader, writer, await asyncio.wait_for(reader.readline(), 60)


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [("/livez", "", b"200"), ("/v1/nodes", "", b"401"), ("/v1/nodes", "made-up", b"401"), ("/nothing", "", b"401")],
)
async def test_strangers_are_answered_once(tmp_path: Path, path: str, token: str, status: bytes) -> None:
    async with api(tmp_path, join=0) as user:
        reader, writer, line = await _ask(user, path, token)
        assert status in line
        rest = await asyncio.wait_for(reader.read(), 60)
        assert b"connection: close" in rest.lower()
        writer.transport.abort()


async def test_a_user_may_ask_again(tmp_path: Path) -> None:
    async with api(tmp_path, join=0) as user:
        reader, writer, line = await _ask(user, "/v1/nodes", user.token)
        assert b"200" in line
        while await reader.readline() != b"\r\n":
            pass
        assert await reader.readexactly(1)
        writer.write(b"GET /v1/nodes HTTP/1.1\r\nHost: x\r\n\r\n")
        told = await asyncio.wait_for(reader.read(), 60)
        assert b"401" in told, "whoever was let in once shows a token again, or is a stranger"
        writer.transport.abort()


async def test_strangers_keep_nobody_out(tmp_path: Path) -> None:
    async with api(tmp_path, join=0, limits=ApiSettings(most_connections=3)) as user:
        port, dropped = user.fleet.local.server.api_port, user.fleet.counts.http_dropped
        assert (await user.ask("GET", "/v1/nodes"))[0] == 200
        held = [await asyncio.open_connection("127.0.0.1", port, ssl=user.fleet.context) for _ in range(3)]
        await until(lambda: user.fleet.local.server.api_connections == 4)
        _, probe, line = await _ask(user, "/livez")
        assert b"200" in line, "the one who comes is served"
        assert await asyncio.wait_for(held[0][0].read(), 60) == b"", "the oldest of those who say nothing goes"
        assert dropped["too-many-connections"] == 1
        assert (await user.ask("GET", "/v1/nodes"))[0] == 200
        assert dropped["too-many-connections"] == 1, "users are apart from strangers"
        for writer in (probe, *(writer for _, writer in held)):
            writer.transport.abort()


async def test_of_users_the_one_goes_that_is_idle_for_longest(tmp_path: Path) -> None:
    async with api(tmp_path, limits=ApiSettings(most_connections=2)) as user:
        first, one, _ = await _ask(user, "/v1/nodes", user.token)
        _, two, _ = await _ask(user, "/v1/nodes", user.token)
        _, three, line = await _ask(user, "/v1/watch", user.token)
        assert b"200" in line
        while await asyncio.wait_for(first.readline(), 60):
            pass  # what was left of its answer
        _, four, line = await _ask(user, "/v1/watch", user.token)
        assert b"200" in line
        _, five, line = await _ask(user, "/v1/nodes", user.token)
        assert b"503" in line, "both are at work"
        _, six, line = await _ask(user, "/livez")
        assert b"200" in line
        for writer in (one, two, three, four, five, six):
            writer.transport.abort()
        await until(lambda: user.fleet.local.server.api_connections == 0)
