"""Errors on the paths of a cluster's API, as kubectl reads them: meta.k8s.io/v1 Status."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web

from common.fleet import FLEET_GROUP
from common.fleet_api import API_PATH, Problem

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_PATHS: Final = ("/apis", "/openapi")
_REASONS: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    408: "Timeout",
    409: "AlreadyExists",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Cause(msgspec.Struct, frozen=True, rename="camel"):
    """One field that is wrong, and why. Of an invalid object kubectl prints these, and not the message."""

    reason: str
    message: str
    field: str


class Details(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What an error is about."""

    name: str = ""
    group: str = ""
    kind: str = ""
    causes: tuple[Cause, ...] = ()
    retry_after_seconds: int = 0


class Status(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """An error, or that there is none."""

    kind: str
    api_version: str
    metadata: dict[str, str]
    status: str
    message: str
    reason: str
    code: int
    details: Details | None = None


class StatusError(Exception):
    """Ends a request with a Status."""

    def __init__(self, code: int, message: str, name: str = "", resource: str = "") -> None:
        super().__init__(message)
        self.status = status_of(code, message, name, resource)


def status_of(code: int, message: str, name: str = "", resource: str = "", retry_after: int = 0) -> Status:
    """A failure."""
    details = None
    if name or resource or retry_after:
        details = Details(name, FLEET_GROUP, resource, retry_after_seconds=retry_after)
    reason = _REASONS.get(code, "Unknown")
    return Status("Status", "v1", {}, "Failure", message, reason, code, details)


def not_found(resource: str, name: str) -> StatusError:
    """As kube-apiserver words it."""
    return StatusError(404, f'{resource}.{FLEET_GROUP} "{name[:253]}" not found', name[:253], resource)


def invalid(kind: str, name: str, field: str, why: str) -> StatusError:
    """An object that cannot be made as it is, in kube-apiserver's words."""
    shown = name[:253]
    error = StatusError(422, f'{kind}.{FLEET_GROUP} "{shown}" is invalid: {field}: {why}', shown, kind)
    causes = (Cause("FieldValueInvalid", why, field),)
    error.status = msgspec.structs.replace(error.status, details=Details(shown, FLEET_GROUP, kind, causes))
    return error


def answer(status: Status) -> web.Response:
    """A Status as an answer."""
    response = web.Response(status=status.code, body=msgspec.json.encode(status), content_type="application/json")
    if status.details is not None and status.details.retry_after_seconds:
        response.headers["Retry-After"] = str(status.details.retry_after_seconds)
    if status.code == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


@web.middleware
async def errors_as_statuses(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """On the cluster's paths every error is a Status; the HTTP API behind one of them keeps its problems."""
    if not request.path.startswith(_PATHS) or request.path.startswith(f"{API_PATH}/"):
        return await handler(request)
    try:
        response = await handler(request)
    except StatusError as error:
        return answer(error.status)
    if isinstance(response, web.Response) and response.content_type == "application/problem+json":
        told = msgspec.json.decode(response.text or "", type=Problem)
        message = ". ".join(filter(None, (told.detail or told.title, told.hint)))
        retry_after = int(response.headers.get("Retry-After", "0"))
        return answer(status_of(told.status, message, retry_after=retry_after))
    return response
