"""Who asks over HTTP, and whether they may: what every way of knowing users has in common.

A local fleet has one token (TokenUser); in a cluster the API server knows its users (aggregator/cluster/users.py).
"""

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from common.fleet import FLEET_API_VERSION, FLEET_GROUP
from common.fleet_api import API_PATH

if TYPE_CHECKING:
    from aiohttp import web
    from multidict import MultiMapping

GROUP_PATH: Final = f"/apis/{FLEET_API_VERSION}"
YES: Final = frozenset(("1", "t", "T", "true", "TRUE", "True"))
"""What Go takes for true in a query."""
_VERBS: Final = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request presents of its sender."""

    headers: "MultiMapping[str]"
    certificate: bytes = field(default=b"", repr=False)
    """The client's certificate, DER, verified by TLS as one of the authorities asked for; empty without one."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody known."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """What the cluster says of them besides, by key."""
    fronted: bool = False
    """Whether kube-apiserver passed the request on for them, having applied its rules to it."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a request does, in the terms of a cluster's rules: a resource of our group, or a path that is none."""

    verb: str
    resource: str = ""
    subresource: str = ""
    name: str = ""
    path: str = ""

    def __str__(self) -> str:
        """`get fleets/api.fleet.eidos.nvidia.com eidos`, `get /metrics`."""
        if self.path:
            return f"{self.verb} {self.path}"
        resource = "/".join(filter(None, (self.resource, self.subresource)))
        return f"{self.verb} {resource}.{FLEET_GROUP}{' ' if self.name else ''}{self.name}"


class UserAuthenticator(Protocol):
    """Decides who may use the HTTP API."""

    async def authenticate(self, credentials: Credentials) -> User | None:
        """Who it is, or None when nothing presented proves anyone. OSError when nobody can tell."""

    async def refusal(self, user: User, access: Access) -> str:
        """Why the user may not do it; empty when they may. OSError when nobody can tell."""


class TokenUser:
    """One user with one token, who may do everything: a local fleet's owner. Compared in constant time."""

    def __init__(self, token: str, name: str = "owner") -> None:
        """Raises ValueError for an empty token: whoever presents none would have it."""
        if not token.strip():
            raise ValueError("a user's token is empty")
        self._token = token.encode()
        self._user = User(name)

    async def authenticate(self, credentials: Credentials) -> User | None:
        """See UserAuthenticator."""
        given = bearer_token(credentials).encode("utf-8", "surrogateescape")
        return self._user if hmac.compare_digest(given, self._token) else None

    async def refusal(self, user: User, access: Access) -> str:
        """See UserAuthenticator."""
        return ""


def bearer_token(credentials: Credentials) -> str:
    """The token in the Authorization header; empty without one."""
    scheme, _, token = credentials.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def credentials_of(request: "web.BaseRequest") -> Credentials:
    """What a request presents."""
    transport = request.transport
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    return Credentials(request.headers, (tls.getpeercert(True) if tls is not None else None) or b"")


def access_of(request: "web.Request") -> Access:
    """What a request does. From the route that will serve it, not from its path: there are many ways to write one."""
    route = request.match_info.route.resource
    pattern = route.canonical if route is not None else ""
    verb = _VERBS.get(request.method, request.method.lower())
    if pattern.startswith(("/v1/", f"{API_PATH}/")):
        # A query only reads, also one that is too long for an address.
        return Access("get" if pattern.endswith("/v1/query") else verb, "fleets", "api", "eidos")
    if not pattern.startswith(f"{GROUP_PATH}/"):
        return Access(request.method.lower(), path=request.path)
    name = request.match_info.get("name", "")
    if verb == "get" and not name:
        verb = "watch" if request.query.get("watch", "") in YES else "list"
    return Access(verb, pattern.removeprefix(f"{GROUP_PATH}/").partition("/")[0], name=name)
