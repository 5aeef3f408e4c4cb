"""Forwards a port of this machine's loopback to an address inside a cluster's network namespace.

Run as a program: `python forward.py PID ADDRESS PORT [LISTEN_PORT]`. It listens outside, prints the port, then moves
to the network namespace of process PID and connects from there. So the machine outside gets no interface and no
route, and killing the forwarder is how a test cuts the connection to the API.
"""

import asyncio
import ctypes
import os
import socket
import sys

_CLONE_NEWNET = 0x40000000
_CHUNK = 1 << 18


def _enter_network_of(pid: int) -> None:
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        # os.setns came with Python 3.12.
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns to the network of {pid}")
    finally:
        os.close(descriptor)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()
    except ConnectionError:
        target.close()


async def _serve(listener: socket.socket, address: str, port: int) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(address, port, limit=_CHUNK)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        for each in (writer, far_writer):
            each.close()

    server = await asyncio.start_server(connected, sock=listener, limit=_CHUNK)
    await server.serve_forever()


def main(arguments: list[str]) -> None:
    pid, address, port = int(arguments[0]), arguments[1], int(arguments[2])
    listener = socket.create_server(("127.0.0.1", int(arguments[3]) if len(arguments) > 3 else 0), backlog=512)
    print(listener.getsockname()[1], flush=True)
    sys.stdout.close()
    _enter_network_of(pid)
    asyncio.run(_serve(listener, address, port))


if __name__ == "__main__":
    main(sys.argv[1:])
