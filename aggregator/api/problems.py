"""Errors as RFC 9457 problem documents, and who may ask: the middlewares of the API."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from aggregator.duty import Duty
from aggregator.users import UserAuthenticator, access_of, credentials_of
from common.errors import Code, EidosError, FleetError
from common.fleet_api import PROBLEM_TYPE, Problem

_log: Final = logging.getLogger(__name__)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OPEN: Final = frozenset(("/livez", "/readyz"))
"""What anyone may ask: it says nothing about the fleet."""
ALWAYS: Final = OPEN | {"/metrics"}
"""What a standby answers too."""
_RETRY_AFTER: Final = "5"


def problem(status: int, code: str, title: str, detail: str = "", hint: str = "") -> web.Response:
    """A problem as an answer."""
    body = msgspec.json.encode(Problem(f"{PROBLEM_TYPE}{code}", title, status, detail, hint))
    response = web.Response(status=status, body=body, content_type="application/problem+json")
    if status in (429, 503):
        response.headers["Retry-After"] = _RETRY_AFTER
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


@web.middleware
async def errors_as_problems(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Whatever goes wrong below leaves as a problem."""
    try:
        return await handler(request)
    except EidosError as error:
        return problem(
            error.http_status, error.code.value, error.code.value.replace("_", " "), error.message, error.hint
        )
    except web.HTTPException as error:
        if error.status < 400:
            raise
        title = error.reason.lower()
        text = error.text or ""
        answer = problem(
            error.status, title.replace(" ", "_"), title, "" if text.startswith(f"{error.status}:") else text
        )
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except ConnectionError:  # the caller has gone in the middle of an answer: nobody is left to tell
        raise
    except Exception:  # a defect in one handler must not show its inside to the caller
        _log.exception("request failed", extra={"path": request.path})
        return problem(500, "internal", "internal error", hint="The aggregator's log has the details.")


def on_duty(duty: Callable[[], Duty]) -> Middleware:
    """Who does not lead shows nothing of a fleet it does not know, and starts no runs."""

    @web.middleware
    async def check(request: web.Request, handler: _Handler) -> web.StreamResponse:
        now = duty()
        if now is Duty.STANDBY and request.path not in ALWAYS:
            raise web.HTTPServiceUnavailable(text="this aggregator is a standby: another one leads")
        if now is Duty.SUSPENDED and request.method != "GET":
            raise web.HTTPServiceUnavailable(text="the aggregator cannot tell at the moment whether it leads")
        return await handler(request)

    return check


def users_only(users: UserAuthenticator) -> Middleware:
    """Nobody unknown, and nobody who may not, gets further, but for OPEN."""

    @web.middleware
    async def check(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.path not in OPEN:
            try:
                user = await users.authenticate(credentials_of(request))
                if user is None:
                    raise FleetError(Code.FLEET_UNAUTHORIZED, "no valid credential was given", "Send a bearer token.")
                access = access_of(request)
                why = await users.refusal(user, access)
            except OSError as error:
                raise web.HTTPServiceUnavailable(text="users cannot be authenticated at the moment") from error
            if why:
                raise FleetError(Code.FLEET_FORBIDDEN, f"user {user.name!r} may not {access}", why)
        return await handler(request)

    return check
