"""Get, list and watch of one kind of objects, by the rules of the Kubernetes API.

A list begins at what is now, and its further pages show the same moment; it is written out piece by piece. A watch
has no queue of its own: it reads the collection's changes, and one that falls too far behind is told so (410).
"""

import asyncio
import logging
import random
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, Generic, TypeVar

import msgspec
from aiohttp import web

from aggregator.apiservice.collection import Event, ExpiredError, Stored
from aggregator.apiservice.render import PIECE, Renderer, WatchRenderer, event
from aggregator.apiservice.request import Form, Place, Selection, flag, number, wanted_form, watch_seconds
from aggregator.apiservice.source import Source
from aggregator.apiservice.status import StatusError, not_found, status_of

T = TypeVar("T")

_log: Final = logging.getLogger(__name__)
_LOOKS_EVERY: Final = 1.0
"""Seconds between two looks at what has changed, while somebody watches."""
_BOOKMARK_EVERY: Final = 60.0
_WATCH_SECONDS: Final = (1800, 3600)
_MOST_WATCHES: Final = 100
_TAKEN_WITHIN: Final = 20.0
"""Seconds for a piece to be taken from us, before the connection is dropped."""


class Resource(Generic[T]):
    """The handlers of one kind."""

    def __init__(self, source: Source[T]) -> None:
        self._source = source
        self._collection = source.collection
        self._renderer = Renderer(source)
        self._changed = asyncio.Event()
        self._watches = 0
        self._looking: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One object, whole."""
        form, name = _form(request), request.match_info["name"]
        await self.look()
        stored = self._collection.get(name)
        if stored is None:
            raise not_found(self._source.resource, name)
        if form is not Form.PLAIN:
            return json_answer(self._renderer.encoded(stored, form))
        (whole,) = await self._source.wholes([stored], alone=True)
        return json_answer(msgspec.json.encode(whole))

    async def listing(self, request: web.Request) -> web.StreamResponse:
        """All objects, or those selected; a watch when that is asked for."""
        query = request.query
        form = _form(request)
        selection = Selection.read(query, self._source.fields)
        if flag(query, "watch"):
            return await self._watch(request, form, selection)
        limit = number(query, "limit")
        if query.get("continue"):
            place = Place.read(query["continue"])
        else:
            await self.look()
            place = Place(self._version_asked(request), "")
        chosen, more = self._page(place, limit, selection)
        further = Place(place.version, chosen[-1].name).token() if more else ""
        whole = query.get("include") == "snapshot" and form is Form.PLAIN
        return await self._send(request, self._renderer.listing(form, place.version, chosen, further, whole))

    def encoded(self, name: str, form: Form) -> bytes:
        """An object that is there."""
        stored = self._collection.get(name)
        if stored is None:
            raise not_found(self._source.resource, name)
        return self._renderer.encoded(stored, form)

    def _version_asked(self, request: web.Request) -> int:
        """The version a list is to show. Raises StatusError when it is not to be had."""
        asked, now = number(request.query, "resourceVersion"), self._collection.version
        if request.query.get("resourceVersionMatch") == "Exact" and asked:
            return asked
        if asked > now:
            raise StatusError(504, f"Too large resource version: {asked}, current: {now}")
        return now

    def _page(self, place: Place, limit: int, selection: Selection) -> tuple[list[Stored[T]], bool]:
        """Those selected after a place, as many as asked, and whether there are more. Raises StatusError."""
        try:
            items = self._collection.list_at(place.version)
        except ExpiredError as error:
            raise StatusError(410, f"{error}; list again from the beginning") from error
        chosen: list[Stored[T]] = []
        for stored in items[bisect_right(items, place.name, key=lambda stored: stored.name) :]:
            if self._renderer.selects(selection, stored):
                if limit and len(chosen) == limit:
                    self._collection.keep_list(place.version)
                    return chosen, True
                chosen.append(stored)
        return chosen, False

    async def _send(self, request: web.Request, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
        """Written as it is made: nothing of it is kept, however long it is."""
        response = _stream()
        response.enable_compression()
        await response.prepare(request)
        pending: list[bytes] = []
        size = 0
        async for piece in pieces:
            pending.append(piece)
            size += len(piece)
            if size >= PIECE:
                await _put(request, response, b"".join(pending))
                pending, size = [], 0
        await _put(request, response, b"".join(pending))
        await response.write_eof()
        return response

    async def look(self) -> None:
        """See what has changed."""
        async with self._turn:
            if await self._source.look():
                self._changed.set()
                self._changed = asyncio.Event()

    async def _look_again_and_again(self) -> None:
        failed = False
        while True:
            await asyncio.sleep(_LOOKS_EVERY)
            try:
                await self.look()
            except Exception:  # of a disk, say: whoever watches must hear of what comes after it
                if not failed:
                    _log.exception("changes cannot be seen", extra={"resource": self._source.resource})
                failed = True
            else:
                failed = False

    @asynccontextmanager
    async def _looked_at(self) -> AsyncIterator[None]:
        """While somebody watches, changes are looked for."""
        if self._watches >= _MOST_WATCHES:
            raise StatusError(429, f"{self._watches} watches are open")
        self._watches += 1
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look_again_and_again(), name="apiservice")
        try:
            yield
        finally:
            self._watches -= 1
            if not self._watches and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def _watch(self, request: web.Request, form: Form, selection: Selection) -> web.StreamResponse:
        query = request.query
        seconds = watch_seconds(query) or random.randint(*_WATCH_SECONDS)  # noqa: S311 - no secret
        cursor, initial = number(query, "resourceVersion"), flag(query, "sendInitialEvents")
        await self.look()
        if cursor and not initial:
            self._since(cursor)  # refuses here what is gone
        async with self._looked_at():
            response = _stream()
            await response.prepare(request)
            renderer = WatchRenderer(self._renderer, form, selection)
            if initial or not cursor:
                cursor = self._collection.version
                for piece in renderer.everything(self._collection.all()):
                    await _put(request, response, piece)
            if initial:
                await _put(request, response, renderer.bookmark(cursor, {"k8s.io/initial-events-end": "true"}))
            await self._follow(request, response, renderer, cursor, seconds, flag(query, "allowWatchBookmarks"))
            await response.write_eof()
        return response

    async def _follow(
        self,
        request: web.Request,
        response: web.StreamResponse,
        renderer: WatchRenderer[T],
        cursor: int,
        seconds: int,
        bookmarks: bool,
    ) -> None:
        until = time.monotonic() + seconds
        marked = time.monotonic()
        while (left := until - time.monotonic()) > 0:
            changed = self._changed
            try:
                events = self._collection.since(cursor)
            except ExpiredError as error:
                await _put(request, response, event("ERROR", msgspec.json.encode(status_of(410, str(error)))))
                return
            cursor = events[-1].version if events else cursor
            for piece in renderer.changes(events):
                await _put(request, response, piece)
            if bookmarks and time.monotonic() - marked >= _BOOKMARK_EVERY:
                marked = time.monotonic()
                await _put(request, response, renderer.bookmark(cursor))
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), min(left, _BOOKMARK_EVERY))

    def _since(self, version: int) -> Sequence[Event[T]]:
        try:
            return self._collection.since(version)
        except ExpiredError as error:
            raise StatusError(410, f"too old resource version: {error}") from error


def _form(request: web.Request) -> Form:
    return wanted_form(request.headers.get("Accept", ""), request.query.get("includeObject", ""))


async def _put(request: web.Request, response: web.StreamResponse, piece: bytes) -> None:
    """Write a piece. Whoever does not take it in time is dropped: raises ConnectionError."""
    try:
        async with asyncio.timeout(_TAKEN_WITHIN):
            await response.write(piece)
    except TimeoutError as error:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionAbortedError("the caller does not read") from error


def _stream() -> web.StreamResponse:
    return web.StreamResponse(headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"})


def json_answer(body: bytes, status: int = 200) -> web.Response:
    """JSON, compressed where that is worth it."""
    headers = {"Cache-Control": "no-cache, private"}
    response = web.Response(status=status, body=body, content_type="application/json", headers=headers)
    if len(body) > PIECE:
        response.enable_compression()
    return response
