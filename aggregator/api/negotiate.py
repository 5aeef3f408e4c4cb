"""Which format an answer is in, and rendering it."""

import asyncio
from typing import Final

import msgspec
from aiohttp import web

from common.fleet_api import NDJSON
from common.formats import Format, dump_plain

_TYPES: Final = {
    "application/json": Format.JSON,
    "application/yaml": Format.YAML,
    "application/x-yaml": Format.YAML,
    "text/yaml": Format.YAML,
}
_CONTENT_TYPE: Final = {Format.JSON: "application/json", Format.YAML: "application/yaml"}
_LARGE: Final = 1 << 16
RENDERING: Final = web.AppKey("rendering", dict[int, asyncio.Task[bytes]])
"""What is being rendered, by its identity: the fifty callers of one run, who all want it at once, share one text."""


def wanted_format(request: web.Request) -> Format:
    """The best format the Accept header allows; JSON when it does not care. Raises HTTPNotAcceptable."""
    accept = request.headers.get("Accept", "*/*")
    best: tuple[float, Format] | None = None
    for part in accept.split(",")[:32]:
        media, _, parameters = part.partition(";")
        quality = _quality(parameters)
        offered = _TYPES.get(media.strip().lower())
        if offered is None and media.strip() in ("*/*", "application/*", NDJSON):
            offered = Format.JSON
        if offered is not None and quality > 0 and (best is None or quality > best[0]):
            best = quality, offered
    if best is None:
        raise web.HTTPNotAcceptable(text="answers are application/json or application/yaml")
    return best[1]


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
