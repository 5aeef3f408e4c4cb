"""The naive way, to compare with: GET every node's whole snapshot over HTTPS, merge afterwards.

python -m tests.fleet.naive serve DIRECTORY           every node's snapshot at /NUMBER, each on its own connection
python -m tests.fleet.naive fetch DIRECTORY COUNT PORT   prints the seconds it took
"""

import asyncio
import json
import resource
import ssl
import sys
import time
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from aggregator.tls import Authority, ServerTls
from common.model import Snapshot
from tests.fleet.hosts import hosts

_AT_ONCE = 128
_PLACE = b"node-name-goes-here"


async def serve(directory: Path) -> None:
    authority = Authority()
    authority.rotate()
    (directory / "naive.crt").write_bytes(authority.bundle)
    tls = ServerTls(*authority.issue(["localhost"]))
    bodies = [msgspec.json.encode(host.snapshot(_PLACE.decode())) for host in hosts()]

    async def answer(request: web.Request) -> web.Response:
        number = int(request.match_info["node"])
        body = bodies[number % len(bodies)].replace(_PLACE, f"gpu-{number:05}".encode())
        return web.Response(body=body, content_type="application/json", headers={"Connection": "close"})

    app = web.Application()
    app.router.add_get("/{node}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    handlers = runner.server
    assert handlers is not None
    server = await asyncio.get_running_loop().create_server(handlers, "127.0.0.1", 0, ssl=tls.context, backlog=4096)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.Event().wait()


async def fetch(directory: Path, count: int, port: int) -> None:
    context = ssl.create_default_context(cadata=(directory / "naive.crt").read_text())
    connector = aiohttp.TCPConnector(ssl=context, limit=_AT_ONCE, force_close=True)
    decoder = msgspec.json.Decoder(Snapshot)
    merged: dict[tuple[str, str, str], dict[object, list[str]]] = {}
    size = 0
    began = time.perf_counter()
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one(number: int) -> None:
            nonlocal size
            async with session.get(f"https://localhost:{port}/{number}") as response:
                body = await response.read()
            size += len(body)
            snapshot = decoder.decode(body)
            for fact, value in snapshot.facts().items():
                merged.setdefault(fact, {}).setdefault(value, []).append(snapshot.metadata.source_node)

        await asyncio.gather(*(one(number) for number in range(count)))
    seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "bytes": size, "rss_mb": peak / 1024}), flush=True)


if __name__ == "__main__":
    import uvloop

    mode, folder, *rest = sys.argv[1:]
    if mode == "serve":
        uvloop.run(serve(Path(folder)))
    else:
        uvloop.run(fetch(Path(folder), int(rest[0]), int(rest[1])))
