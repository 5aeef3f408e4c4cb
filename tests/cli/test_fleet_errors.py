"""What becomes of a connection to an aggregator that is none: one sentence, in words that belong into it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from aggregator.api.problems import errors_as_problems
from cli.fleet_client import FleetClient, connected
from cli.fleet_errors import refusal, translated
from cli.fleet_transport import Connection
from common.errors import EidosError
from common.fleet_api import Problem

URL = "https://127.0.0.1:1"


@asynccontextmanager
async def answering(answer: bytes, speaks_tls: bool = True) -> AsyncIterator[FleetClient]:
    """A client of something that reads a little, says this, and closes the connection."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context if speaks_tls else None)
    async with server:
        address = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with connected(Connection(address, authority.cert_pem.bytes().decode(), "secret")) as client:
            yield client


@pytest.mark.parametrize(
    ("answer", "speaks_tls", "said"),
    [
        (b"", True, " broke: it was closed before an answer. The aggregator may be starting anew"),
        (b"hello world\r\n\r\n", True, " broke: its answer is no HTTP. The aggregator may be starting anew"),
        (b"HTTP/1.1 200 OK\r\nA B\r\n\r\n", True, " broke: its answer is no HTTP. The aggregator may"),
        (b"", False, " cannot be reached: the connection failed. Check --server"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False, " does not speak TLS: wrong version number"),
    ],
)
async def test_what_is_no_aggregator(answer: bytes, speaks_tls: bool, said: str) -> None:
    async with answering(answer, speaks_tls) as client:
        with pytest.raises(EidosError) as caught:
            await client.nodes()
    assert said in str(caught.value)
    assert caught.value.exit_status == 4


def test_the_systems_words_belong_into_the_sentence() -> None:
    with pytest.raises(EidosError, match=r"broke: connection reset by peer\. The"), translated(URL):
        raise ConnectionResetError(104, "Connection reset by peer")


async def test_a_defect_of_the_aggregator_is_one_sentence_and_where_to_look() -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        raise RuntimeError("inside")

    answer = await errors_as_problems(make_mocked_request("GET", "/v1/nodes"), broken)
    assert isinstance(answer, web.Response)
    assert isinstance(answer.body, bytes)
    told = msgspec.json.decode(answer.body, type=Problem)
    error = refusal(f"the aggregator at {URL}", URL, True, answer.status, answer.content_type, told, "")
    assert str(error) == f"the aggregator at {URL} failed: internal error. The aggregator's log has the details."
