"""/v1/watch: changes of the fleet, a line each, as they happen."""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web

from aggregator.api.requests import whole_number
from aggregator.duty import Duty
from aggregator.fleet import Fleet
from aggregator.watch import Watchers
from common.fleet_api import LONGEST_WATCH, NDJSON, WatchEnding

_TAKEN_WITHIN: Final = 20.0
"""Seconds for a line to be taken from us, before the connection is dropped."""


class WatchApi:
    """The handler, over one fleet."""

    def __init__(self, fleet: Fleet, duty: Callable[[], Duty]) -> None:
        self._counts = fleet.counts
        self._watchers = Watchers(fleet, lambda: duty() is not Duty.STANDBY)

    def routes(self) -> list[web.RouteDef]:
        """What is served."""
        # No HEAD of what is streamed: aiohttp would send the body all the same, and the next answer would follow it.
        return [web.get("/v1/watch", self.watch, allow_head=False)]

    async def stop(self, app: web.Application) -> None:
        """End every watch: the server is stopping."""
        await self._watchers.close()

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """Changes as they happen, an object a line: nodes' states, runs, facts that drift from snapshot to snapshot.

        Begins with `start`, which says how things are, and ends with `end`, which says why, after `seconds` at the
        latest. What a run has found comes before its end. `alive` comes when nothing happens. Who does not read in
        time is dropped.
        """
        seconds = whole_number(request.query, "seconds", LONGEST_WATCH, LONGEST_WATCH)
        with self._watchers.watching() as watcher:
            response = web.StreamResponse(headers={"Content-Type": NDJSON, "Cache-Control": "no-cache"})
            await response.prepare(request)
            until = asyncio.get_running_loop().call_later(seconds, watcher.end, WatchEnding.TIME)
            try:
                async for event in watcher.events():
                    async with asyncio.timeout(_TAKEN_WITHIN):
                        await response.write(msgspec.json.encode(event) + b"\n")
                await response.write_eof()
            except TimeoutError:
                self._counts.http_dropped["slow-watcher"] += 1
                response.force_close()
                if request.transport is not None:
                    request.transport.abort()
            finally:
                until.cancel()
        return response
