"""The fake API server's answers that go on: watches, and logs that are followed."""

import asyncio
import json

from aiohttp import web

from tests.fakes.objects import Json, RefusalError, Resource, Store, matches


class Streams:
    """Of one server. Runs in its loop."""

    def __init__(self, store: Store, stop: asyncio.Event) -> None:
        self.logs: dict[str, list[str]] = {}
        """Pod name to its log lines, each with its stamp."""
        self.changed = asyncio.Event()
        """Set when the store or a log has changed, and at the end."""
        self._store = store
        self._stop = stop
        self._open: set[web.StreamResponse] = set()

    def drop(self) -> None:
        """Close every connection, as a restarting server does."""
        for response in list(self._open):
            if response._req is not None and response._req.transport is not None:
                response._req.transport.abort()

    async def watch(self, request: web.Request, resource: Resource, namespace: str) -> web.StreamResponse:
        sent = int(request.query.get("resourceVersion") or self._store.version)
        if sent < self._store.oldest:
            raise RefusalError(410, "Expired", "too old resource version")
        response = await self._opened(request)
        try:
            while not self._stop.is_set():
                seen = self._store.version
                if sent < self._store.oldest:
                    gone = RefusalError(410, "Expired", "too old resource version").body
                    await _event(response, "ERROR", gone)
                    break
                for version, change, plural, item in list(self._store.history):
                    if version > sent:
                        sent = version
                        place = item["metadata"].get("namespace", "")
                        is_meant = plural == resource.plural and place.startswith(namespace)
                        if is_meant and matches(item, request.query):
                            await _event(response, change, item)
                # API servers up to 1.33 write out that it was never made.
                metadata = {"resourceVersion": str(sent), "creationTimestamp": None}
                bookmark = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
                await _event(response, "BOOKMARK", bookmark)
                if seen == self._store.version:
                    await self._next_change()
        finally:
            self._open.discard(response)
        return response

    async def log(self, request: web.Request, pod: str) -> web.StreamResponse:
        response = await self._opened(request)
        since, sent = request.query.get("sinceTime", ""), 0
        try:
            while True:
                lines = list(self.logs[pod])
                for line in lines[sent:]:
                    if line == "(end)":
                        return response
                    if line[: len(since) - 1] >= since[:-1]:
                        await response.write(line.encode() + b"\n")
                sent = sent + len(lines[sent:])
                if "follow" not in request.query or self._stop.is_set():
                    return response
                if sent == len(self.logs[pod]):
                    await self._next_change()
        finally:
            self._open.discard(response)

    async def _next_change(self) -> None:
        """Changes may come while another watcher is being served, so callers look again before they wait."""
        self.changed.clear()
        await self.changed.wait()

    async def _opened(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        self._open.add(response)
        return response


async def _event(response: web.StreamResponse, kind: str, item: Json) -> None:
    await response.write(json.dumps({"type": kind, "object": item}).encode() + b"\n")
