"""A TCP relay in a thread, for tests that cut connections, or that stand in for a Service whose endpoints change."""

import asyncio
import threading
from collections.abc import Callable
from typing import Self


class Relay:
    """Listens on a port of loopback and leads to wherever `target` says at the moment. Use with `with`."""

    def __init__(self, target: Callable[[], int | None]) -> None:
        """`target` gives a port of loopback for each new connection; None refuses it."""
        self.port = 0
        self._target = target
        self._open = True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = threading.Event()
        self._stop = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait(60)
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def cut(self) -> None:
        """End all connections, and let none through until `mend`."""
        self._open = False
        self._loop.call_soon_threadsafe(self._abort)

    def mend(self) -> None:
        """Let connections through again."""
        self._open = True

    def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        self._abort()
        await asyncio.sleep(0.05)  # for transports to close

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)  # from now on `cut` ends it
        try:
            port = await asyncio.to_thread(self._target) if self._open else None
            if port is None or writer.is_closing():
                return
            there, onward = await asyncio.open_connection("127.0.0.1", port)
            self._writers.add(onward)
            try:
                await asyncio.gather(_copy(reader, onward), _copy(there, writer))
            finally:
                self._writers.discard(onward)
                onward.transport.abort()
        except OSError:
            return
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    finally:
        target.transport.abort()
