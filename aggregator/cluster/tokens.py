"""Whose an agent's token is: by the cluster's public keys, and by TokenReview where those do not say.

The keys are those of /openid/v1/jwks and the issuer that of /.well-known/openid-configuration, both served by the API
server itself. A token that names no node (clusters before 1.30), or whose key is not published, is reviewed.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
import msgspec

from aggregator.auth import AgentIdentity, TokenRefusedError
from common.errors import ClusterError
from common.kube.call import path_of
from common.kube.client import Kube, KubeError
from common.wire import AUDIENCE, is_node_name

_log: Final = logging.getLogger(__name__)

KEYS: Final = "/openid/v1/jwks"
CONFIGURATION: Final = "/.well-known/openid-configuration"
_REVIEWS: Final = path_of("authentication.k8s.io/v1", "tokenreviews")
_AT_ONCE: Final = 8
"""Reviews under way; thousands of agents coming back wait for each other rather than flood the API server."""
_MOST_WAITING: Final = 1000
"""Reviews wanted at the same time, those under way included; an agent beyond is told to come back."""
_ANSWERED_WITHIN: Final = 8.0
"""Seconds for one: what hangs must not hold up all others, and an agent waits no longer."""
_NODE: Final = "authentication.kubernetes.io/node-name"
_POD: Final = "authentication.kubernetes.io/pod-uid"


_NONE: Final[Mapping[str, Any]] = {"keys": []}
"""Where the cluster publishes no keys: every token is reviewed."""


class _Configuration(msgspec.Struct, frozen=True):
    issuer: str


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    extra: dict[str, list[str]] = {}


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()
    audiences: list[str] = []


class _Review(msgspec.Struct, frozen=True):
    status: _Status = _Status()


class ClusterKeys:
    """The `KeySource` of a cluster."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._issuer = ""

    async def load(self) -> str:
        """Who signs the cluster's ServiceAccount tokens; empty where the cluster does not tell. Raises KubeError."""
        try:
            self._issuer = (await self._kube.get(CONFIGURATION, _Configuration)).issuer
        except KubeError as error:
            if error.status not in (403, 404):
                raise
            _log.warning("tokens are reviewed one by one", extra={"detail": error.message})
        return self._issuer

    async def fetch(self) -> Mapping[str, Any]:
        """See KeySource."""
        if not self._issuer:
            return _NONE
        try:
            return await self._kube.get(KEYS, dict[str, Any], accept="application/jwk-set+json, application/json")
        except KubeError as error:
            if error.status in (403, 404):
                return _NONE
            raise OSError(f"the cluster's keys cannot be had: {error.message}") from error


class TokenReviewer:
    """The `Reviewer` of a cluster, for the tokens of one service account."""

    def __init__(self, kube: Kube, service_account: str, node_of: Callable[[str], str | None]) -> None:
        """`service_account` is `namespace:name`; `node_of` gives the node of an agent's pod by the pod's UID."""
        self._kube = kube
        self._username = f"system:serviceaccount:{service_account}"
        self._node_of = node_of
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._wanted = 0

    async def review(self, token: str) -> AgentIdentity:
        """See Reviewer."""
        if self._wanted >= _MOST_WAITING:
            raise OSError("too many tokens wait for review")
        self._wanted += 1
        try:
            status = await self._reviewed(token)
        finally:
            self._wanted -= 1
        if not status.authenticated or AUDIENCE not in status.audiences:
            raise TokenRefusedError("the cluster does not accept the token")
        if status.user.username != self._username:
            raise TokenRefusedError("the token is of another service account")
        return self._identity(status.user.extra, token)

    async def _reviewed(self, token: str) -> _Status:
        spec = {"token": token, "audiences": [AUDIENCE]}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        try:
            async with self._room, asyncio.timeout(_ANSWERED_WITHIN):
                return (await self._kube.create(_REVIEWS, body, _Review)).status
        except ClusterError as error:
            raise OSError(f"the API server cannot review tokens: {error.message}") from error
        except TimeoutError as error:
            raise OSError("the API server cannot review tokens: it does not answer") from error

    def _identity(self, extra: Mapping[str, list[str]], token: str) -> AgentIdentity:
        pod = next(iter(extra.get(_POD, ())), "")
        node = next(iter(extra.get(_NODE, ())), "") or self._node_of(pod)
        if not pod or not node or not is_node_name(node):
            raise TokenRefusedError("the token is bound to no pod on a node")
        # The cluster has found it good, so its times are what they say.
        claims = jwt.decode(token, options={"verify_signature": False})
        issued, expires = claims.get("iat"), claims.get("exp")
        if not isinstance(issued, int | float) or not isinstance(expires, int | float):
            raise TokenRefusedError("the token's times are not numbers")
        return AgentIdentity(node, pod, float(issued), float(expires))
