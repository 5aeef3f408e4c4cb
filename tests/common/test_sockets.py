"""What a client session has given up before it ends is closed too: seen by the peer, and by Python's own warnings."""

import asyncio
import gc
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import trustme

from common.sockets import Sockets
from tests.fakes.apiserver import FakeApiServer

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class Server:
    """Answers one request over TLS and then, unlike well-behaved ones, says nothing of the connection's end."""

    def __init__(self, ca: trustme.CA) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("127.0.0.1").configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.saw_end = threading.Event()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        plain, _ = self._listener.accept()
        with plain, self._context.wrap_socket(plain, server_side=True) as secure:
            secure.recv(1 << 16)
            secure.sendall(ANSWER)
            self._leave.wait(10)
            with socket.socket(fileno=secure.detach()) as raw:  # beneath TLS, which would answer by itself
                raw.settimeout(10)
                while raw.recv(1 << 16):
                    pass
            self.saw_end.set()

    def look(self) -> bool:
        """Whether the client has closed the connection by now."""
        self._leave.set()
        return self.saw_end.wait(10)

    def close(self) -> None:
        self._leave.set()
        self._thread.join()
        self._listener.close()


@contextmanager
def a_server() -> Iterator[tuple[Server, ssl.SSLContext]]:
    ca = trustme.CA()
    trusting = ssl.create_default_context(cadata=ca.cert_pem.bytes().decode())
    server = Server(ca)
    try:
        yield server, trusting
    finally:
        server.close()


async def ask(server: Server, trusting: ssl.SSLContext, sockets: Sockets) -> bytes:
    connector = aiohttp.TCPConnector(ssl=trusting, socket_factory=sockets)
    try:
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"https://127.0.0.1:{server.port}/") as response,
        ):
            return await response.read()
    finally:
        await sockets.close()


def test_a_connection_whose_peer_does_not_say_goodbye_is_closed_with_its_session() -> None:
    with a_server() as (server, trusting), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert asyncio.run(ask(server, trusting, Sockets())) == b"ok"
        gc.collect()
        assert [str(warning.message) for warning in caught] == []
        assert server.look()


def test_a_socket_that_never_got_anywhere_holds_nothing_up() -> None:
    async def close() -> None:
        sockets = Sockets()
        with sockets((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 9))):
            pass
        await sockets.close()

    asyncio.run(close())


def test_a_peer_that_is_gone_without_a_word_is_noticed() -> None:
    with Sockets()((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 9))) as connection:
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 60


def test_the_fake_api_server_closes_connections_that_come_just_before_its_end() -> None:
    """Left to Python, they fail whatever test runs when the garbage is collected."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            with FakeApiServer() as server:
                address = "127.0.0.1", int(server.url.rpartition(":")[2])
                clients = [socket.create_connection(address) for _ in range(3)]
            for client in clients:
                client.close()
        del server
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
