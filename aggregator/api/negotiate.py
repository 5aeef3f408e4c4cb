"""Which format an answer is in, and rendering it."""

import asyncio
from typing import Final

import msgspec
from aiohttp import web

from common.fleet_api import NDJSON
from common.formats import Format, dump_plain

_NAMES: Final = {
    Format.JSON: ("application/json", NDJSON),
    Format.YAML: ("application/yaml", "application/x-yaml", "text/yaml"),
}
"""What each format may be asked for by; whoever wants lines takes the JSON of what is not streamed."""
_WILD: Final = ("application/*", "*/*")
_CONTENT_TYPE: Final = {Format.JSON: "application/json", Format.YAML: "application/yaml"}
_LARGE: Final = 1 << 16
RENDERING: Final = web.AppKey("rendering", dict[int, asyncio.Task[bytes]])
"""What is being rendered, by its identity: the fifty callers of one run, who all want it at once, share one text."""


def wanted_format(request: web.Request) -> Format:
    """The best format the Accept header allows; JSON when it does not care. Raises HTTPNotAcceptable.

    What names a format goes before what it is only a part of (RFC 9110, 12.5.1); of equals the first is taken.
    """
    accepted = _accepted(request)
    best: tuple[float, int] | None = None
    chosen = Format.JSON
    for form, names in _NAMES.items():
        given = [accepted[name] for name in names if name in accepted]
        given = given or [accepted[name] for name in _WILD if name in accepted][:1]
        for quality, place in given:
            if quality > 0 and (best is None or (-quality, place) < best):
                best, chosen = (-quality, place), form
    if best is None:
        raise web.HTTPNotAcceptable(text="answers are application/json or application/yaml")
    return chosen


def wants_lines(request: web.Request) -> bool:
    """Whether progress is to be streamed."""
    return _accepted(request).get(NDJSON, (0.0, 0))[0] > 0


def _accepted(request: web.Request) -> dict[str, tuple[float, int]]:
    """What the caller takes: quality and place by media range."""
    accepted: dict[str, tuple[float, int]] = {}
    header = ",".join(request.headers.getall("Accept", ["*/*"]))
    for place, part in enumerate(header.split(",")[:32]):
        media, _, parameters = part.partition(";")
        accepted.setdefault(media.strip().lower(), (_quality(parameters), place))
    return accepted


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


async def render(
    request: web.Request, value: object, etag: str = "", status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """The value in the format asked for. With an ETag, 304 when the caller has it already."""
    form = wanted_format(request)
    headers = {"Vary": "Accept", "Cache-Control": "no-cache", **(headers or {})}
    if etag:
        headers["ETag"] = tag = f'"{etag}-{form}"'
        known = [text.strip().removeprefix("W/") for text in request.headers.get("If-None-Match", "").split(",")]
        if tag in known or "*" in known:
            return web.Response(status=304, headers=headers)
    body = await _as_yaml(request, value) if form is Format.YAML else msgspec.json.encode(value)
    response = web.Response(status=status, body=body, content_type=_CONTENT_TYPE[form], headers=headers)
    if len(body) > _LARGE:
        response.enable_compression()
    return response


async def _as_yaml(request: web.Request, value: object) -> bytes:
    under_way = request.app[RENDERING]
    rendering = under_way.get(id(value))
    if rendering is None:
        rendering = under_way[id(value)] = asyncio.create_task(asyncio.to_thread(dump_plain, value, Format.YAML))
        rendering.add_done_callback(lambda done: under_way.pop(id(value), None))
    return await asyncio.shield(rendering)  # whoever leaves takes nothing from the others
