"""The two ways to an aggregator's HTTP API: directly, or through a cluster's own API with the user's kubeconfig.

Through a cluster there is no port to forward and nothing more to log in to: kube-apiserver knows the user, applies
its rules (`get` and `create` of `fleets/api`), and passes requests on. What it says of its own accord is told apart
from what the aggregator says, by the aggregator's media type for problems.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from cli.fleet_errors import refusal, translated
from common.errors import Code, EidosError, FleetError, UsageError
from common.fleet import FLEET_API_VERSION
from common.fleet_api import API_PATH, MOST_LINE, Problem
from common.http_content import read_whole
from common.sockets import Sockets

if TYPE_CHECKING:
    import aiohttp

    from common.kube.call import Call
    from common.kube.target import Target
    from common.kube.transport import Transport as KubeTransport

LONGEST_LINE: Final = 1 << 20
_CONNECT: Final = 10.0
_MOST_REFUSAL: Final = 1 << 18
_PROBLEM: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Connection:
    """Which aggregator, and how to prove who we are."""

    url: str
    """`https://host:port`, without a slash at the end."""
    ca: str = ""
    """Certificates it is trusted by, in PEM; empty for those the system trusts."""
    token: str = field(default="", repr=False)

    def tls(self) -> ssl.SSLContext:
        """Raises UsageError when the CA is no certificate."""
        try:
            context = ssl.create_default_context(cadata=self.ca or None)
        except ssl.SSLError as error:
            raise UsageError("what --ca names holds no certificate in PEM") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


@dataclass(frozen=True, slots=True)
class ClusterConnection:
    """The aggregator of a cluster. None means what kubectl would take."""

    kubeconfig: str | None = None
    context: str | None = None


class Transport(Protocol):
    """Sends one request."""

    name: str
    """Where to, for messages."""
    cuts: bool
    """Whether somebody on the way ends long answers by his own clock."""
    longest: int
    """Characters of an expression that an address can carry; longer ones travel in a body."""

    def send(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None, accept: str, silent: float
    ) -> "AbstractAsyncContextManager[aiohttp.ClientResponse]":
        """The answer's head is there, its content is read by the caller. Raises EidosError.

        `silent` is how many seconds may pass without a byte.
        """

    async def refusal(self, response: "aiohttp.ClientResponse") -> EidosError:
        """What an answer that is not the one asked for means."""


@asynccontextmanager
async def opened(connection: Connection | ClusterConnection) -> AsyncIterator[Transport]:
    """The way there, for as long as the block lasts. Raises EidosError."""
    try:
        import aiohttp
    except ImportError as error:
        raise UsageError("what speaks to an aggregator is not installed", "pip install 'eidos[node]'.") from error
    if isinstance(connection, ClusterConnection):
        from common.kube.target import load_target
        from common.kube.transport import Transport as KubeTransport

        target = load_target(connection.kubeconfig, connection.context)
        transport = KubeTransport(target)
        try:
            yield ThroughCluster(target, transport)
        finally:
            await transport.close()
        return
    sockets = Sockets()
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=connection.tls(), limit=4, socket_factory=sockets),
            headers={"Authorization": f"Bearer {connection.token}"} if connection.token else {},
            read_bufsize=LONGEST_LINE,
            trust_env=False,
        ) as session:
            yield Direct(connection, session)
    finally:
        await sockets.close()


class Direct:
    """To the aggregator itself."""

    cuts = False
    longest = 4000  # proxies in between may refuse more than 8 KiB; a body takes no other right here

    def __init__(self, connection: Connection, session: "aiohttp.ClientSession") -> None:
        self.name = connection.url
        self._has_token = bool(connection.token)
        self._session = session

    @asynccontextmanager
    async def send(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None, accept: str, silent: float
    ) -> "AsyncIterator[aiohttp.ClientResponse]":
        """See Transport."""
        from aiohttp import ClientTimeout
        from yarl import URL

        with translated(self.name):
            async with self._session.request(
                method,
                URL(self.name + path, encoded=True).with_query(dict(query)),
                data=body,
                headers=_headers(accept, body),
                timeout=ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=silent),
                allow_redirects=False,
            ) as response:
                yield response

    async def refusal(self, response: "aiohttp.ClientResponse") -> EidosError:
        """See Transport."""
        who = f"the aggregator at {self.name}"
        return _refused(who, self.name, self._has_token, response, await _problem(response))


class _Condition(msgspec.Struct, frozen=True):
    type: str = ""
    reason: str = ""
    message: str = ""


class _Conditions(msgspec.Struct, frozen=True):
    conditions: list[_Condition] = []


class _ApiService(msgspec.Struct, frozen=True):
    status: _Conditions = _Conditions()


class ThroughCluster:
    """Through kube-apiserver."""

    cuts = True  # requests have 60 seconds there (--request-timeout), those that are still answered included
    # To kube-apiserver a POST is always `create`, and whoever may only view has just `get`. The rest of the line is
    # the path, a node's name and a number.
    longest = MOST_LINE - 1024

    def __init__(self, target: "Target", transport: "KubeTransport") -> None:
        self.name = target.server
        self._where = f"the cluster of context {target.context}" if target.context else "this cluster"
        self._transport = transport

    @asynccontextmanager
    async def send(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None, accept: str, silent: float
    ) -> "AsyncIterator[aiohttp.ClientResponse]":
        """See Transport. A credential that is refused is renewed once."""
        from common.kube.call import Call

        call = Call(method, API_PATH + path, dict(query))
        with translated(self.name):
            async with self._sent(call, body, _headers(accept, body), silent) as response:
                yield response

    @asynccontextmanager
    async def _sent(
        self, call: "Call", body: bytes | None, headers: dict[str, str], silent: float
    ) -> "AsyncIterator[aiohttp.ClientResponse]":
        for last_try in (False, True):
            async with self._transport.send(call, body, headers, silent) as response:
                if response.status != 401 or last_try or not self._transport.reject_credential():
                    yield response
                    return

    async def refusal(self, response: "aiohttp.ClientResponse") -> EidosError:
        """See Transport."""
        from common.kube.call import Call
        from common.kube.errors import from_reply

        if response.content_type == _PROBLEM:
            if response.status == 401:
                return FleetError(
                    Code.FLEET_UNAUTHORIZED,
                    f"the aggregator in {self._where} does not believe its API server who asks",
                    "Its log says why; see ConfigMap kube-system/extension-apiserver-authentication.",
                )
            return _refused(f"the aggregator in {self._where}", "", True, response, await _problem(response))
        status, retry_after = response.status, response.headers.get("Retry-After", "")
        content = await read_whole(response.content, _MOST_REFUSAL)
        if status == 404:
            return FleetError(
                Code.FLEET_NOT_FOUND,
                f"there is no fleet in {self._where}: its API has no {FLEET_API_VERSION}",
                "Install one with eidos fleet install, choose another --context, or give --server.",
            )
        if status == 503:
            why = await self._unavailable()
            return FleetError(
                Code.FLEET_UNREACHABLE,
                f"the aggregator in {self._where} cannot be reached by the API server{why}",
                "See its pods: kubectl get pods -A -l app.kubernetes.io/component=aggregator.",
            )
        return from_reply(Call(response.method, API_PATH), self.name, status, content, retry_after)

    async def _unavailable(self) -> str:
        """The reason in the APIService, for those who may read it."""
        from common.kube.call import Call, path_of

        name = ".".join(reversed(FLEET_API_VERSION.split("/")))
        call = Call("GET", path_of("apiregistration.k8s.io/v1", "apiservices", name=name))
        with suppress(EidosError, msgspec.MsgspecError):
            async with self._sent(call, None, {"Accept": "application/json"}, _CONNECT) as response:
                content = await read_whole(response.content, _MOST_REFUSAL)
                for condition in msgspec.json.decode(content, type=_ApiService).status.conditions:
                    if condition.type == "Available" and condition.reason != "Passed":
                        return f": {condition.reason}: {' '.join(condition.message.split())[:300]}"
        return ""


def _headers(accept: str, body: bytes | None) -> dict[str, str]:
    return {"Accept": accept} | ({} if body is None else {"Content-Type": "application/json"})


async def _problem(response: "aiohttp.ClientResponse") -> Problem | None:
    """What the aggregator says; None when it is nothing of its own."""
    if response.content_type != _PROBLEM:
        return None
    content = await read_whole(response.content, _MOST_REFUSAL)
    with suppress(msgspec.MsgspecError):  # then the status alone has to do
        return msgspec.json.decode(content, type=Problem)
    return None


def _refused(
    who: str, address: str, has_token: bool, response: "aiohttp.ClientResponse", problem: Problem | None
) -> EidosError:
    retry_after = response.headers.get("Retry-After", "")
    return refusal(who, address, has_token, response.status, response.content_type, problem, retry_after)
