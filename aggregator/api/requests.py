"""What requests say: bodies and query strings, as types."""

import asyncio
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from common.errors import Code, InputError, UsageError
from common.fleet_api import MOST_ITEMS

T = TypeVar("T")

DEFAULT_ITEMS: Final = 500
MOST_NAME: Final = 253
"""Characters of a node's name (RFC 1123)."""


async def body(request: web.Request, kind: type[T], within: float) -> T:
    """The body as JSON; nothing at all is an empty object. Raises InputError, and web.HTTPRequestTimeout."""
    try:
        async with asyncio.timeout(within):
            text = await request.read()
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text="the request's body did not come in time") from error
    try:
        return msgspec.json.decode(text if text.strip() else b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(Code.INPUT_MALFORMED, f"the body is not what is expected here: {error}") from error


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
