"""Users of a cluster: whose a token is (TokenReview), and what its owner may do (SubjectAccessReview).

Answers are kept for seconds, refusals for less, so that a client that asks often costs the API server little and a
right that was taken away is gone soon. While the API server cannot be asked, or strangers ask too much of it, who was
let in lately still is: what is known of the fleet matters most just then. Behind kube-apiserver's own client
certificate users are who it says, and its rules have been applied already (aggregator/apiservice/front_proxy.py).

An agent's token opens nothing here: it is for another audience, which the API server would refuse, and is not even
shown to it.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

import jwt
import msgspec

from aggregator.allowance import Allowance
from aggregator.users import Access, Credentials, User, bearer_token
from common.errors import ClusterError
from common.fleet import FLEET_GROUP, FLEET_VERSION
from common.kube.call import path_of
from common.wire import AUDIENCE

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

KEPT: Final = 10.0
"""Seconds that a user, or a right, is remembered."""
REFUSED: Final = 3.0
"""Seconds that a refusal is."""
STALE: Final = 300.0
"""Seconds beyond that for which a user or a right still counts while the API server cannot be asked."""
_MOST: Final = 4096
_MOST_ASKED: Final = 64
"""Questions to the API server at the same time; strangers with made-up tokens get 503 beyond."""
_MOST_NEW: Final = 256
_NEW_A_SECOND: Final = 32.0
"""Questions about what is not known to be good: so many at once, and so many a second after that."""
_ANSWERED_WITHIN: Final = 8.0
"""Seconds; a client waits no longer, and an API server whose reviews hang counts as one that cannot be asked."""
_MOST_TOKEN: Final = 16_384

_TOKENS: Final = path_of("authentication.k8s.io/v1", "tokenreviews")
_ACCESS: Final = path_of("authorization.k8s.io/v1", "subjectaccessreviews")


class _UserInfo(msgspec.Struct, frozen=True):
    username: str = ""
    uid: str = ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}


class _TokenStatus(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _UserInfo = _UserInfo()
    error: str = ""


class _TokenReview(msgspec.Struct, frozen=True):
    status: _TokenStatus = _TokenStatus()


class _AccessStatus(msgspec.Struct, frozen=True):
    allowed: bool = False
    reason: str = ""


class _AccessReview(msgspec.Struct, frozen=True):
    status: _AccessStatus = _AccessStatus()


class Fronting(Protocol):
    """Knows for whom a trusted proxy speaks."""

    def user(self, credentials: Credentials) -> User | None:
        """The user spoken for, if any."""


class Reviews(Protocol):
    """Where reviews are asked for: a common.kube.client.Kube."""

    async def create(self, path: str, body: object, kind: type[V]) -> V:
        """Raises ClusterError."""


class ClusterUsers:
    """A `UserAuthenticator` that asks a cluster."""

    def __init__(self, kube: Reviews, fronting: Fronting, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._fronting = fronting
        self._users: _Remembered[bytes, User | None] = _Remembered(clock, lambda user: user is not None)
        self._refusals: _Remembered[tuple[User, Access], str] = _Remembered(clock, lambda why: not why)

    async def authenticate(self, credentials: Credentials) -> User | None:
        """See UserAuthenticator."""
        user = self._fronting.user(credentials)
        if user is not None:
            return user
        token = bearer_token(credentials)
        if not token or len(token) > _MOST_TOKEN or not token.isascii() or _is_agents(token):
            return None
        return await self._users.get(hashlib.sha256(token.encode()).digest(), lambda: self._owner(token))

    async def refusal(self, user: User, access: Access) -> str:
        """See UserAuthenticator."""
        if user.fronted and (not access.path or access.path.startswith(("/apis", "/openapi/"))):
            return ""  # what kube-apiserver passes on, it has judged
        return await self._refusals.get((user, access), lambda: self._judgement(user, access))

    async def _owner(self, token: str) -> tuple[User | None, float]:
        # Without audiences in the question, only tokens for the API server itself are good.
        review = await self._ask(_TOKENS, "authentication.k8s.io/v1", "TokenReview", {"token": token}, _TokenReview)
        status = review.status
        if not status.authenticated or status.error or not status.user.username:
            return None, REFUSED
        extra = tuple((key, tuple(values)) for key, values in sorted(status.user.extra.items()))
        return User(status.user.username, status.user.uid, tuple(status.user.groups), extra), KEPT

    async def _judgement(self, user: User, access: Access) -> tuple[str, float]:
        spec: dict[str, Any] = {
            "user": user.name,
            "uid": user.uid,
            "groups": user.groups,
            "extra": dict(user.extra),
            **_attributes(access),
        }
        review = await self._ask(_ACCESS, "authorization.k8s.io/v1", "SubjectAccessReview", spec, _AccessReview)
        if review.status.allowed:
            return "", KEPT
        return review.status.reason or "No rule of the cluster allows it.", REFUSED

    async def _ask(self, path: str, version: str, kind: str, spec: Mapping[str, Any], answer: type[V]) -> V:
        try:
            async with asyncio.timeout(_ANSWERED_WITHIN):
                return await self._kube.create(path, {"apiVersion": version, "kind": kind, "spec": spec}, answer)
        except (ClusterError, TimeoutError) as error:
            raise OSError(f"the API server cannot be asked: {error}") from error


class _Remembered(Generic[K, V]):
    """Answers by question, each for its own time; equal questions at the same time are asked once.

    Good answers are kept apart, and asked for anew whatever strangers do: those can neither push them out nor use up
    what may be asked.
    """

    def __init__(self, clock: Callable[[], float], is_good: Callable[[V], bool]) -> None:
        """`is_good` tells the answers that count for longer while nobody can be asked; None is none of them."""
        self._clock = clock
        self._is_good = is_good
        self._good: OrderedDict[K, tuple[V, float]] = OrderedDict()
        self._others: OrderedDict[K, tuple[V, float]] = OrderedDict()
        self._asked: dict[K, asyncio.Task[V]] = {}
        self._new = Allowance(_MOST_NEW, _NEW_A_SECOND, clock)

    async def get(self, key: K, find: Callable[[], Awaitable[tuple[V, float]]]) -> V:
        """The answer. Raises what `find` raises, which is not remembered, and OSError when too much is asked."""
        known = self._good.get(key) or self._others.get(key)
        if known is not None and self._clock() < known[1]:
            return known[0]
        task = self._asked.get(key)
        if task is None:
            lately = self._lately(key)
            if len(self._asked) >= _MOST_ASKED or (lately is None and not self._new.take()):
                if lately is not None:
                    return lately
                raise OSError("too many users are unknown at the same time")
            task = self._asked[key] = asyncio.get_running_loop().create_task(self._find(key, find))
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)  # others may wait for it too

    async def _find(self, key: K, find: Callable[[], Awaitable[tuple[V, float]]]) -> V:
        try:
            value, seconds = await find()
        except OSError:
            lately = self._lately(key)
            if lately is not None:
                return lately
            raise
        self._good.pop(key, None)
        self._others.pop(key, None)
        kept = self._good if self._is_good(value) else self._others
        kept[key] = value, self._clock() + seconds
        if len(kept) > _MOST:
            kept.popitem(last=False)
        return value

    def _lately(self, key: K) -> V | None:
        """What was good, and still is while nobody can be asked."""
        known = self._good.get(key)
        return known[0] if known is not None and self._clock() < known[1] + STALE else None

    def _done(self, key: K, task: "asyncio.Task[V]") -> None:
        del self._asked[key]
        if not task.cancelled():
            task.exception()  # whoever asked may have gone


def _is_agents(token: str) -> bool:
    """Whether a token says that it is for the link. Nobody has verified it; no user's says so."""
    try:
        audience = jwt.decode(token, options={"verify_signature": False}).get("aud")
    except jwt.InvalidTokenError:
        return False  # tokens need not be JWTs
    return AUDIENCE in audience if isinstance(audience, list) else audience == AUDIENCE


def _attributes(access: Access) -> dict[str, Any]:
    if access.path:
        return {"nonResourceAttributes": {"path": access.path, "verb": access.verb}}
    return {
        "resourceAttributes": {
            "group": FLEET_GROUP,
            "version": FLEET_VERSION,
            "resource": access.resource,
            "subresource": access.subresource,
            "name": access.name,
            "verb": access.verb,
        }
    }
