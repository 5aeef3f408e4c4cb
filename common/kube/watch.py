"""Watching a collection: every change, across lost connections, idle ends and expired versions."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

import msgspec

from common.kube.call import Call, Params
from common.kube.client import ANY, METADATA, METADATA_LIST, Kube
from common.kube.errors import KubeError, from_reply, unexpected_reply
from common.kube.types import Status, WatchEvent

T = TypeVar("T")

_SERVER_SECONDS: Final = (240, 300)
"""How long the server is asked to keep one watch; spread so that many watchers do not all return at once."""
_GRACE: Final = 15
_GONE: Final = 410


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _Versioned(msgspec.Struct, frozen=True):
    """All that is read of a bookmark: the rest of it is an object's fields without values, null among them."""

    metadata: _Version = _Version()


_event_decoder: Final = msgspec.json.Decoder(WatchEvent)
_version_decoder: Final = msgspec.json.Decoder(_Versioned)
_status_decoder: Final = msgspec.json.Decoder(Status)


class ChangeKind(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


class Change(msgspec.Struct, Generic[T], frozen=True):
    """One object was added, modified or deleted (then `item` is its last state)."""

    kind: ChangeKind
    item: T


class Reset(msgspec.Struct, Generic[T], frozen=True):
    """The whole collection as it is now. What was known before and is not among `items` is gone."""

    items: list[T]


async def watch(
    kube: Kube,
    path: str,
    kind: type[T],
    params: Params | None = None,
    resource_version: str | None = None,
    *,
    metadata_only: bool = False,
) -> AsyncGenerator[Reset[T] | Change[T], None]:
    """Changes of the collection `path` from `resource_version` on, without end.

    Without a version it begins with a Reset. It resumes where it was when a connection ends or breaks, and begins
    again with a Reset when the server no longer has the changes in between (410). Trouble that may pass is waited
    out until the deadline of `kube`; all else raises KubeError. With `metadata_only` the server sends no more than
    that, and `kind` is Metadata. Close it with contextlib.aclosing.
    """
    version, failures = resource_version, 0
    last: KubeError | None = None
    decoder = msgspec.json.Decoder(kind)
    while True:
        try:
            if version is None:
                accept = {"accept": METADATA_LIST} if metadata_only else {}
                items, version = await kube.list(path, kind, params, **accept)
                yield Reset(items)
            heard = False
            async with aclosing(_stream(kube, path, params or {}, version, last, metadata_only)) as events:
                async for event in events:
                    heard, failures, last = True, 0, None
                    version = _version_decoder.decode(event.object).metadata.resource_version or version
                    if event.type != "BOOKMARK":
                        yield Change(ChangeKind(event.type), decoder.decode(event.object))
            # An answer that ends at once without a word must not make us ask in a loop without rest.
            failures += 0 if heard else 1
        except KubeError as error:
            last = error
            if error.status == _GONE:
                version = None
            elif not error.transient:
                raise
            failures += 1
            await _rest(kube, path, failures, error)
        except (msgspec.DecodeError, ValueError) as error:
            raise unexpected_reply(_call(path, {}), kube.server, "something that is no watch event") from error
        else:
            if failures:
                await _rest(kube, path, failures, None)


async def _rest(kube: Kube, path: str, failures: int, error: KubeError | None) -> None:
    async with kube.within_deadline(_call(path, {}), error):
        await asyncio.sleep(kube.pause(failures, error))


def _call(path: str, params: Params) -> Call:
    return Call("GET", path, {**params, "watch": "true"})


async def _stream(
    kube: Kube, path: str, params: Params, version: str, last: KubeError | None, metadata_only: bool
) -> AsyncGenerator[WatchEvent, None]:
    """One connection's events. Raises KubeError for an event that reports one."""
    seconds = random.randint(*_SERVER_SECONDS)  # noqa: S311 - no secret
    settings: dict[str, Any] = {"resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": seconds}
    call = _call(path, {**params, **settings})
    accept = METADATA if metadata_only else ANY
    async with aclosing(kube.lines(call, silence=seconds + _GRACE, last=last, accept=accept)) as lines:
        async for line in lines:
            event = _event_decoder.decode(line)
            if event.type == "ERROR":
                status = _status_decoder.decode(event.object)
                raise from_reply(call, kube.server, status.code or 500, bytes(event.object))
            yield event
