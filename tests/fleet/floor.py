"""The floor: as many frames of the same sizes over as many TLS WebSockets, with no work at either end.

python -m tests.fleet.floor serve DIRECTORY COUNT     answers `go` with the seconds one round took
python -m tests.fleet.floor dial DIRECTORY COUNT PORT
"""

import asyncio
import json
import ssl
import sys
import time
from pathlib import Path
from typing import cast

from aggregator.tls import Authority, ServerTls
from aggregator.websocket import FrameReader, accept, frame, parse_head
from tests.fleet.dial import Dialled, dial

_QUESTION = frame(b"q" * 25)
_ANSWER = b"a" * 25


class Floor:
    """Counts answers."""

    def __init__(self) -> None:
        self.peers: list[asyncio.Transport] = []
        self.left = 0
        self.done = asyncio.Event()


class Peer(asyncio.Protocol):
    """One connection."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._reader: FrameReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            self._transport.write(accept(parse_head(data)[1]))
            self._reader = FrameReader()
            self._floor.peers.append(self._transport)
            return
        self._floor.left -= len(self._reader.feed(data))
        if self._floor.left == 0:
            self._floor.done.set()


async def serve(directory: Path, count: int) -> None:
    authority = Authority()
    authority.rotate()
    (directory / "floor.crt").write_bytes(authority.bundle)
    tls = ServerTls(*authority.issue(["localhost"]))
    floor, loop = Floor(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Peer(floor), "127.0.0.1", 0, ssl=tls.context, backlog=4096)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        floor.left = count
        floor.done.clear()
        began = time.perf_counter()
        for peer in floor.peers:
            peer.write(_QUESTION)
        await floor.done.wait()
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)


async def dial_all(directory: Path, count: int, port: int) -> None:
    context = ssl.create_default_context(cadata=(directory / "floor.crt").read_text())
    gate = asyncio.Semaphore(400)

    def answer(link: Dialled, opcode: int, payload: bytes) -> None:
        link.send(_ANSWER)

    async def one() -> Dialled:
        async with gate:
            return await dial(context, port, "", answer)

    links = await asyncio.gather(*(one() for _ in range(count)))
    print(json.dumps({"linked": len(links)}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


if __name__ == "__main__":
    import uvloop

    mode, folder, number, *rest = sys.argv[1:]
    if mode == "serve":
        uvloop.run(serve(Path(folder), int(number)))
    else:
        uvloop.run(dial_all(Path(folder), int(number), int(rest[0])))
