"""What requests say: bodies and query strings, as types."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from common.errors import Code, InputError, UsageError
from common.fleet_api import MOST_ITEMS

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

DEFAULT_ITEMS: Final = 500
MOST_NAME: Final = 253
"""Characters of a node's name (RFC 1123)."""
# What aiohttp says of a body of no said type, as RFC 9110 (8.3) allows, and many clients do when they are not told.
_BODY_TYPES: Final = ("application/json", "application/octet-stream")


def taking(names: Collection[str], handler: Handler) -> Handler:
    """The handler for requests whose query has these parameters at most, each once. It raises UsageError for others.

    What is misspelt must not look as if it had been heeded.
    """

    @functools.wraps(handler)
    async def checked(request: web.Request) -> web.StreamResponse:
        for name in request.query:
            if name not in names:
                known = f"Choose from {', '.join(sorted(names))}." if names else "None is taken here."
                raise UsageError(f"there is no parameter {name[:40]!r} here", known)
            if len(request.query.getall(name)) > 1:
                raise UsageError(f"parameter {name!r} is given more than once", "Separate several states by commas.")
        return await handler(request)

    return checked


async def body(request: web.Request, kind: type[T], within: float) -> T:
    """The body as JSON; nothing at all is an empty object.

    Raises InputError, web.HTTPRequestTimeout and web.HTTPUnsupportedMediaType.
    """
    if request.body_exists:
        _check_kind(request)
    try:
        async with asyncio.timeout(within):
            text = await request.read()
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text="the request's body did not come in time") from error
    try:
        return msgspec.json.decode(text if text.strip() else b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(Code.INPUT_MALFORMED, f"the body is not what is expected here: {error}") from error


def _check_kind(request: web.Request) -> None:
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity":
        raise web.HTTPUnsupportedMediaType(text=f"a body in encoding {encoding[:40]!r} is not read: send it as it is")
    if request.content_type not in _BODY_TYPES:
        raise web.HTTPUnsupportedMediaType(
            text=f"a body of type {request.content_type[:80]!r} is not read: send application/json"
        )


def limit(query: Mapping[str, str]) -> int:
    """How many items a page has. Raises UsageError."""
    return whole_number(query, "limit", DEFAULT_ITEMS, MOST_ITEMS)


def whole_number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A number from 1 to `most`, which has nine digits at most. Raises UsageError."""
    text = query.get(name, str(default))
    # The length first: int() takes long for many digits, and refuses thousands of them with an error of its own.
    if not (len(text) <= 9 and text.isascii() and text.isdigit() and 0 < int(text) <= most):
        raise UsageError(f"{name} must be a number from 1 to {most}")
    return int(text)


def after(query: Mapping[str, str]) -> str:
    """The name that a page begins after. Raises UsageError."""
    text = query.get("after", "")
    if len(text) > MOST_NAME:
        raise UsageError("after is longer than the name of any node")
    return text
