"""Kube: requests to one API server, retried, bounded in time and size, decoded into the fields we read.

    async with Kube(load_target(kubeconfig, context), deadline=time.monotonic() + 30) as kube:
        nodes, version = await kube.list(path_of("v1", "nodes"), Node)

Every method raises KubeError (a ClusterError) and nothing of the libraries below.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from common.kube.call import Call, Params
from common.kube.errors import KubeError, from_exception, from_reply, out_of_time, too_large
from common.kube.lines import LineTooLongError, split_lines
from common.kube.target import Target
from common.kube.transport import SILENCE_SECONDS, Transport, read_all
from common.kube.types import Metadata, Page

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
A = TypeVar("A")

FIELD_MANAGER: Final = "eidos"
MOST_BYTES: Final = 64 << 20
"""Longest answer read, in bytes."""
PAGE_SIZE: Final = 500
_REFUSAL_BYTES: Final = 1 << 18
_JSON: Final = "application/json"
ANY: Final = "application/json, */*"  # a log is plain text, a refusal JSON
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how long a call is tried again. Backoff doubles from `first` to `longest`, with full jitter."""

    attempts: int = 5
    seconds: float = 10.0
    """No further attempt is made after so long, Retry-After included, nor past the deadline."""
    first: float = 0.2
    longest: float = 5.0


@cache
def _decoder(kind: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind)


class Kube:
    """One API server. Use as an async context manager, in one event loop."""

    def __init__(self, target: Target, *, deadline: float | None = None, retry: Retry | None = None) -> None:
        """`deadline` is the time.monotonic() by which every call must have returned; None leaves it to the caller."""
        self.target = target
        self.deadline = deadline
        self.retry = retry or Retry()
        self._transport = Transport(target)

    async def __aenter__(self) -> "Kube":
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._transport.close()

    @property
    def server(self) -> str:
        """The server's address, for messages."""
        return self.target.server

    # ---- reading ----

    async def get_bytes(self, path: str, params: Params | None = None, *, accept: str = _JSON) -> bytes:
        """What the server answers to a GET, as it is."""
        return await self._request(Call("GET", path, params or {}), None, {"Accept": accept})

    async def get(self, path: str, kind: type[T], params: Params | None = None, *, accept: str = _JSON) -> T:
        """One object."""
        call = Call("GET", path, params or {})
        answer: T = self._decode(call, await self._request(call, None, {"Accept": accept}), kind)
        return answer

    async def list(
        self, path: str, kind: type[T], params: Params | None = None, *, accept: str = _JSON
    ) -> "tuple[list[T], str]":
        """All objects of a collection and the version they were read at, fetched in pages."""
        items: list[T]
        items, version = await self.fold(path, kind, list[T], list[T].append, params, accept=accept)
        return items, version

    async def fold(
        self,
        path: str,
        kind: type[T],
        start: Callable[[], A],
        add: Callable[[A, T], object],
        params: Params | None = None,
        *,
        accept: str = _JSON,
    ) -> tuple[A, str]:
        """Like `list`, but gives each object to `add` and keeps none: memory stays that of a page.

        `start` makes what `add` fills; it is called anew when the list expires under way and begins again. After a
        second expiry (reading a page takes longer than the server keeps versions) all is asked for in one answer.
        """
        for limit in (PAGE_SIZE, PAGE_SIZE, 0):
            folded = start()
            version = token = ""
            try:
                while True:
                    paging: dict[str, str | int] = {"limit": limit} if limit else {}
                    if token:
                        paging["continue"] = token
                    call = Call("GET", path, {**(params or {}), **paging})
                    page = self._decode(call, await self._request(call, None, {"Accept": accept}), Page[kind])  # type: ignore[valid-type]  # a type variable at run time
                    for item in page.items or ():
                        add(folded, item)
                    version, token = page.metadata.resource_version, page.metadata.continue_
                    if not token:
                        return folded, version
            except KubeError as error:
                if error.status != 410 or not limit:
                    raise
        raise AssertionError("an unpaged list returns or raises")

    # ---- writing ----

    async def create(self, path: str, body: object, kind: type[T], params: Params | None = None) -> T:
        """Create in the collection `path`. An object of that name makes it fail with reason "AlreadyExists"."""
        call = Call("POST", path, {"fieldManager": FIELD_MANAGER, **(params or {})})
        return await self._write(call, body, kind, _JSON)

    async def apply(
        self, path: str, body: object, kind: type[T], *, force: bool = False, params: Params | None = None
    ) -> T:
        """Server-side apply of the object `path`, created when it is not there.

        With metadata.resourceVersion in the body the object must still be at that version (CLUSTER_CONFLICT).
        """
        settings = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        return await self._write(Call("PATCH", path, {**settings, **(params or {})}), body, kind, _APPLY)

    async def patch(self, path: str, body: object, kind: type[T], params: Params | None = None) -> T:
        """JSON merge patch (RFC 7386) of the object `path`."""
        call = Call("PATCH", path, {"fieldManager": FIELD_MANAGER, **(params or {})})
        return await self._write(call, body, kind, _MERGE)

    async def replace(self, path: str, body: object, kind: type[T], params: Params | None = None) -> T:
        """PUT of the whole object `path`."""
        call = Call("PUT", path, {"fieldManager": FIELD_MANAGER, **(params or {})})
        return await self._write(call, body, kind, _JSON)

    async def delete(
        self,
        path: str,
        *,
        propagation: str = "Background",
        preconditions: Mapping[str, str] | None = None,
        missing_ok: bool = True,
    ) -> bool:
        """Delete the object `path`. False when it was not there, which raises if `missing_ok` is false.

        `preconditions` (uid, resourceVersion) make it fail with CLUSTER_CONFLICT where another has taken its place.
        """
        options: dict[str, object] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if preconditions:
            options["preconditions"] = dict(preconditions)
        try:
            await self._request(Call("DELETE", path), msgspec.json.encode(options), {"Content-Type": _JSON})
        except KubeError as error:
            if error.status == 404 and missing_ok:
                return False
            raise
        return True

    async def _write(self, call: Call, body: object, kind: type[T], content_type: str) -> T:
        headers = {"Content-Type": content_type, "Accept": _JSON}
        answer: T = self._decode(call, await self._request(call, msgspec.json.encode(body), headers), kind)
        return answer

    # ---- one call, retried ----

    async def _request(self, call: Call, body: bytes | None, headers: dict[str, str]) -> bytes:
        from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

        last: KubeError | None = None

        def worth_another(error: BaseException) -> bool:
            nonlocal last
            last = error if isinstance(error, KubeError) else None
            return last is not None and last.transient and last.code.name != "DEADLINE"

        def wait(state: RetryCallState) -> float:
            return self.pause(state.attempt_number, last)

        def stop(state: RetryCallState) -> bool:
            passed = (state.seconds_since_start or 0.0) + state.upcoming_sleep
            return (
                state.attempt_number >= self.retry.attempts
                or passed > self.retry.seconds
                or (self.deadline is not None and time.monotonic() + state.upcoming_sleep >= self.deadline)
            )

        async for attempt in AsyncRetrying(
            retry=retry_if_exception(worth_another), wait=wait, stop=stop, reraise=True
        ):
            with attempt:
                async with self.within_deadline(call, last), self.exchange(call, body, headers) as response:
                    return await read_all(response, call, MOST_BYTES)
        raise AssertionError("the last attempt returns or raises")

    def pause(self, failures: int, error: KubeError | None) -> float:
        """Seconds to wait after so many failures: full jitter, and never less than the server asks for."""
        import random

        jitter = random.uniform(0, min(self.retry.longest, self.retry.first * 2.0 ** min(failures - 1, 32)))  # noqa: S311 - no secret
        return max(jitter, (error.retry_after or 0.0) if error else 0.0)

    @asynccontextmanager
    async def within_deadline(self, call: Call, last: KubeError | None = None) -> AsyncIterator[None]:
        """Raise KubeError (DEADLINE) once the deadline has passed; `last` is what went wrong before."""
        remaining = None if self.deadline is None else self.deadline - time.monotonic()
        try:
            async with asyncio.timeout(remaining):
                yield
        except TimeoutError:
            raise out_of_time(call, self.server, last) from last

    @asynccontextmanager
    async def exchange(
        self, call: Call, body: bytes | None, headers: dict[str, str], silence: float | None = SILENCE_SECONDS
    ) -> "AsyncIterator[aiohttp.ClientResponse]":
        """One attempt: the answer if it is a success, KubeError otherwise. A refused credential is renewed once."""
        for last_try in (False, True):
            async with self._transport.send(call, body, headers, silence) as response:
                if response.status < 300:
                    yield response
                    return
                content = await self._refusal(response, call)
                if response.status != 401 or last_try or not self._transport.reject_credential():
                    raise from_reply(
                        call, self.server, response.status, content, response.headers.get("Retry-After", "")
                    )

    async def lines(
        self,
        call: Call,
        silence: float | None = None,
        longest: int = MOST_BYTES,
        *,
        cut: bool = False,
        last: KubeError | None = None,
        accept: str = ANY,
    ) -> AsyncGenerator[bytes, None]:
        """One attempt at a streamed answer, line by line; see lines.py for `longest` and `cut`.

        `last` is what went wrong in the attempt before.

        The deadline is applied to each wait and never across a yield, where it would strike the caller's own code.
        """
        async with AsyncExitStack() as stack:
            async with self.within_deadline(call, last):
                response = await stack.enter_async_context(self.exchange(call, None, {"Accept": accept}, silence))
            lines = split_lines(response.content.iter_any(), longest, cut=cut)
            try:
                while True:
                    async with self.within_deadline(call):
                        line = await anext(lines, None)
                    if line is None:
                        return
                    yield line
            except LineTooLongError:
                raise too_large(call, longest) from None

    async def _refusal(self, response: "aiohttp.ClientResponse", call: Call) -> bytes:
        """What the server says against it; the status alone counts where that cannot be read."""
        try:
            return await read_all(response, call, _REFUSAL_BYTES)
        except KubeError:
            return b""

    def _decode(self, call: Call, content: bytes, kind: Any) -> Any:
        try:
            return _decoder(kind).decode(content)
        except msgspec.DecodeError as error:
            raise from_exception(call, self.server, error) from error


__all__ = ["FIELD_MANAGER", "MOST_BYTES", "PAGE_SIZE", "Kube", "KubeError", "Metadata", "Retry"]
