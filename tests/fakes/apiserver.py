"""A Kubernetes API server in the test's own process, speaking real HTTP and TLS, with faults on request.

It runs in a thread with a loop of its own, so that synchronous code and other loops can call it. What it stores is
in `store` (objects.py); `faults` says which calls go wrong and how; `calls` holds what was asked.
"""

import asyncio
import re
import ssl
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from tests.fakes.discovery import discovered
from tests.fakes.objects import RESOURCES, Json, Key, RefusalError, Resource, Store, matches
from tests.fakes.streams import Streams

_PATH = re.compile(
    r"(?:/api/(?P<core>v1)|/apis/(?P<group>[^/]+/[^/]+))(?:/namespaces/(?P<namespace>[^/]+)(?=/[^/]))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[^/]+))?)?"
)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True)
class Asked:
    """One call the server received."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    verb: str = ""
    plural: str = ""


@dataclass
class Fault:
    """What goes wrong with the next `times` calls whose `METHOD path?query` contains `match`.

    `how`: "status" answers with `status`; "drop" closes the connection without a word; "cut" sends half of an
    answer; "hang" never answers; "html" answers like a proxy's login page; "text" answers 200 with `message`;
    "late" carries the call out and then closes the connection; "wait" answers after `seconds`.
    """

    how: str
    match: str = ""
    times: int = 1
    status: int = 500
    reason: str = ""
    message: str = "made up by the test"
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class FakeApiServer:
    """Start it with `with`. `url` is its address."""

    def __init__(self, tls: ssl.SSLContext | None = None, token: str = "") -> None:
        self.store = Store(on_change=self._changed)
        self.resources: list[Resource] = list(RESOURCES)
        self.faults: list[Fault] = []
        self.calls: list[Asked] = []
        self.was_asked = threading.Event()
        self.forbidden: set[tuple[str, str]] = set()
        """(verb, plural) that answer 403."""
        self.token = token
        """The bearer token that is accepted; empty accepts all."""
        self.before: Callable[[Asked], None] = lambda asked: None
        """Called in the server's thread before each call is carried out."""
        self.aggregated_discovery = True
        self.url = ""
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = threading.Event()
        self._stop = asyncio.Event()
        self._lists: dict[str, tuple[int, list[Json]]] = {}
        self._streams = Streams(self.store, self._stop)
        self.logs = self._streams.logs

    # ---- for the test ----

    def __enter__(self) -> "FakeApiServer":
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def add(self, plural: str, item: Json, namespace: str = "") -> Json:
        """Store an object as if somebody had created it."""
        resource = next(r for r in self.resources if r.plural == plural)
        key = (namespace if resource.namespaced else "", item["metadata"]["name"])
        return self.store.create(resource, key, item, "somebody")

    def remove(self, plural: str, name: str, namespace: str = "") -> None:
        resource = next(r for r in self.resources if r.plural == plural)
        self.store.delete(resource, (namespace if resource.namespaced else "", name))

    def drop_watches(self) -> None:
        """Close the connection of every watch and followed log, as a restarting server does."""
        self._loop.call_soon_threadsafe(self._streams.drop)

    def asked(self, verb: str, plural: str) -> list[Asked]:
        return [call for call in self.calls if (call.verb, call.plural) == (verb, plural)]

    # ---- the server ----

    def _run(self) -> None:
        # A Runner ends what is still under way before it closes the loop.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        application = web.Application(client_max_size=4 << 20)
        application.router.add_route("*", "/{tail:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        server = runner.server
        assert server is not None
        accepted: list[RequestHandler] = []

        def connection() -> RequestHandler:
            made: RequestHandler = server()
            accepted.append(made)
            return made

        listening = await self._loop.create_server(connection, "127.0.0.1", 0, ssl=self._tls)
        port = listening.sockets[0].getsockname()[1]
        self.url = f"https://localhost:{port}" if self._tls else f"http://127.0.0.1:{port}"
        self._started.set()
        await self._stop.wait()
        self._streams.changed.set()
        # asyncio loses sockets that were accepted just before the end, and aiohttp forgets connections that were; one
        # that nobody reads never empties. The loop must see them all made, and then all closed.
        await _turns(10)
        listening.close()
        await runner.cleanup()
        for each in accepted:
            if each.transport is not None:
                each.transport.abort()
        await _turns(10)

    def _changed(self) -> None:
        self._loop.call_soon_threadsafe(self._streams.changed.set)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        match = _PATH.fullmatch(request.path)
        verb = _VERBS.get(request.method) or ("list" if match and not match["name"] else "get")
        verb = "watch" if "watch" in request.query else verb
        asked = Asked(
            request.method,
            request.path,
            dict(request.query),
            dict(request.headers),
            verb,
            match["plural"] if match else "",
        )
        self.calls.append(asked)
        self.was_asked.set()
        fault = self._fault(request)
        if fault is not None and (answer := await self._misbehave(request, fault)) is not None:
            return answer
        try:
            self.before(asked)
            if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
                raise RefusalError(401, "Unauthorized", "Unauthorized")
            if (verb, asked.plural) in self.forbidden:
                raise RefusalError(
                    403,
                    "Forbidden",
                    f'{asked.plural} is forbidden: User "tester" cannot {verb} resource "{asked.plural}"',
                )
            answer = await self._resource(request, match) if match else self._other(request)
        except RefusalError as refusal:
            return web.json_response(refusal.body, status=refusal.status)
        except ConnectionResetError:  # the caller has gone, or a test dropped it
            return web.Response()
        if fault is not None and fault.how == "late":
            _abort(request)
        return answer

    def _fault(self, request: web.Request) -> Fault | None:
        line = f"{request.method} {request.path_qs}"
        for fault in self.faults:
            if fault.times > 0 and fault.match in line:
                fault.times -= 1
                return fault
        return None

    async def _misbehave(self, request: web.Request, fault: Fault) -> web.StreamResponse | None:
        if fault.how == "status":
            refusal = RefusalError(fault.status, fault.reason, fault.message)
            return web.json_response(refusal.body, status=fault.status, headers=fault.headers)
        if fault.how == "text":
            return web.Response(text=fault.message)
        if fault.how == "html":
            return web.Response(text="<html>Please log in</html>", content_type="text/html")
        if fault.how == "drop":
            _abort(request)
        elif fault.how == "hang":
            await self._stop.wait()
            _abort(request)
        elif fault.how == "cut":
            response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
            await response.prepare(request)
            await response.write(b'{"kind": "Node')
            _abort(request)
            return response
        elif fault.how == "wait":
            await asyncio.sleep(fault.seconds)
        return None

    def _other(self, request: web.Request) -> web.StreamResponse:
        aggregated = "APIGroupDiscoveryList" in request.headers["Accept"] and self.aggregated_discovery
        found = discovered(request.path, self.resources, aggregated)
        if found is None:
            raise RefusalError(404, "NotFound", "the server could not find the requested resource")
        return web.json_response(found)

    async def _resource(self, request: web.Request, match: re.Match[str]) -> web.StreamResponse:
        version = match["core"] or match["group"]
        resource = next((r for r in self.resources if (r.plural, r.api_version) == (match["plural"], version)), None)
        if resource is None:
            return web.Response(status=404, text="404 page not found\n")
        key = (match["namespace"] or "", match["name"] or "")
        if match["sub"] == "log":
            return await self._streams.log(request, key[1])
        handlers: dict[str, Callable[[web.Request, Resource, Key], Awaitable[web.StreamResponse]]] = {
            "GET": self._get,
            "POST": self._create,
            "PUT": self._replace,
            "PATCH": self._patch,
            "DELETE": self._delete,
        }
        return await handlers[request.method](request, resource, key)

    async def _get(self, request: web.Request, resource: Resource, key: Key) -> web.StreamResponse:
        if key[1]:
            return _json(self.store.get(resource, key))
        if "watch" in request.query:
            return await self._streams.watch(request, resource, key[0])
        return self._list(request, resource, key[0])

    async def _create(self, request: web.Request, resource: Resource, key: Key) -> web.StreamResponse:
        body = await request.json()
        name = (key[0], body["metadata"]["name"])
        return _json(self.store.create(resource, name, body, request.query.get("fieldManager", "")), 201)

    async def _replace(self, request: web.Request, resource: Resource, key: Key) -> web.StreamResponse:
        return _json(self.store.replace(resource, key, await request.json(), request.query.get("fieldManager", "")))

    async def _patch(self, request: web.Request, resource: Resource, key: Key) -> web.StreamResponse:
        body = await request.json()
        if "apply-patch" in request.content_type:
            force = request.query.get("force") == "true"
            return _json(self.store.apply(resource, key, body, request.query["fieldManager"], force))
        return _json(self.store.merge(resource, key, body))

    async def _delete(self, request: web.Request, resource: Resource, key: Key) -> web.StreamResponse:
        options = await request.json() if request.can_read_body else {}
        return _json(self.store.delete(resource, key, options.get("preconditions")))

    def _list(self, request: web.Request, resource: Resource, namespace: str) -> web.StreamResponse:
        token = request.query.get("continue", "")
        if token:
            name, _, offset = token.partition(":")
            version, items = self._lists[name]
            if version < self.store.oldest:
                raise RefusalError(410, "Expired", "The provided continue parameter is too old")
            start = int(offset)
        else:
            version, items, start = self.store.version, self._selected(request, resource, namespace), 0
            name = str(len(self._lists))
            self._lists[name] = (version, items)
        limit = int(request.query.get("limit", "0")) or len(items)
        page, rest = items[start : start + limit], items[start + limit :]
        meta: Json = {"resourceVersion": str(version)}
        if rest:
            meta |= {"continue": f"{name}:{start + limit}", "remainingItemCount": len(rest)}
        return _json({"kind": f"{resource.kind}List", "metadata": meta, "items": page})

    def _selected(self, request: web.Request, resource: Resource, namespace: str) -> list[Json]:
        return [i for i in self.store.all(resource.plural, namespace) if matches(i, request.query)]

    def say(self, pod: str, *lines: str) -> None:
        """Add lines to a pod's log; "(end)" ends it."""
        self.logs.setdefault(pod, []).extend(lines)
        self._changed()


def _json(item: Any, status: int = 200) -> web.Response:
    response = web.json_response(item, status=status)
    if len(response.body or b"") > 128 << 10:  # type: ignore[arg-type]  # a JSON response's body is bytes
        response.enable_compression()
    return response


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def _turns(count: int) -> None:
    """Let the loop do what is ready, so many times."""
    for _ in range(count):
        await asyncio.sleep(0)
