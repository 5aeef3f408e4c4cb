"""Who an agent is: the node named in its ServiceAccount token, never what the agent itself says.

Tokens are the projected, node-bound ones of Kubernetes, for our audience only. They are verified here against the
cluster's public keys, so that ten thousand agents coming back at once cost the API server nothing; a token whose
claims do not name a node (clusters before 1.30) goes to a reviewer instead. A local fleet signs its own.

A token does not say whether it was copied. What a copy could do is bounded by the hub: one link per node, and no
token older than the one last seen of that node (aggregator/hub.py).
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import jwt

from aggregator.allowance import Allowance
from common.wire import AUDIENCE, is_node_name

_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
_LEEWAY: Final = 30.0
"""Seconds by which clocks may differ."""
_MOST_TOKEN: Final = 16_384
_REFRESH: Final = 10.0
"""Seconds at least between two fetches of the public keys: unknown key ids must not make us hammer the API server."""
_MOST_UNKNOWN: Final = 64
_UNKNOWN_A_SECOND: Final = 8.0
"""Reviews of tokens whose key is none of the published ones: anybody can make up tokens, but keys are rarely new."""
_KEPT: Final = 300.0
"""Seconds after which keys are fetched anew although the one asked for is known: it may have been withdrawn."""


class TokenRefusedError(Exception):
    """The token opens nothing. The message says why, without quoting the token."""

    def __init__(self, message: str, expired: bool = False, early: bool = False) -> None:
        super().__init__(message)
        self.expired = expired
        self.early = early
        """By our clock it is not valid yet."""


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """What a token proves."""

    node: str
    pod: str
    """UID of the agent's pod."""
    issued_at: float
    expires_at: float
    """POSIX seconds, of the signer's clock."""


class KeySource(Protocol):
    """Where the public keys of token signers come from."""

    async def fetch(self) -> Mapping[str, Any]:
        """The JSON Web Key Set as it is now. Raises OSError when it cannot be had."""


class Reviewer(Protocol):
    """Asks the cluster whether a token is good and whose it is (TokenReview)."""

    async def review(self, token: str) -> AgentIdentity:
        """Raises TokenRefusedError; OSError when the cluster cannot be asked."""


class Authenticator:
    """Verifies agents' tokens. `service_account` is `namespace:name`; None accepts any of the issuer's."""

    def __init__(
        self,
        keys: KeySource,
        issuer: str,
        service_account: str | None,
        reviewer: Reviewer | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = _Keys(keys, monotonic)
        self.issuer = issuer
        """Whose tokens are good; in a cluster known only once it has been asked."""
        self._subject = f"system:serviceaccount:{service_account}" if service_account else None
        self._reviewer = reviewer
        self._unknown = Allowance(_MOST_UNKNOWN, _UNKNOWN_A_SECOND, monotonic)
        self._clock = clock

    async def identify(self, token: str) -> AgentIdentity:
        """Whose token it is. Raises TokenRefusedError; OSError when keys or reviewer cannot be asked."""
        if not token or len(token) > _MOST_TOKEN:
            raise TokenRefusedError("no token, or one that is too long")
        key = await self._key(token)
        if key is None:
            if self._reviewer is None:
                raise TokenRefusedError("the token is signed by an unknown key")
            if self._keys.are_published and not self._unknown.take():
                raise OSError("too many tokens are signed by unknown keys")
            return await self._reviewer.review(token)
        claims = self._verified(token, key)
        identity = _identity(claims)
        if identity is None:
            if self._reviewer is None:
                raise TokenRefusedError("the token is bound to no node")
            return await self._reviewer.review(token)
        return identity

    async def _key(self, token: str) -> jwt.PyJWK | None:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise TokenRefusedError("the token is no JSON Web Token") from error
        name, algorithm = header.get("kid"), header.get("alg")
        if algorithm not in _ALGORITHMS:
            raise TokenRefusedError("the token is signed in a way that is not accepted")
        if not isinstance(name, str):
            return None
        return await self._keys.get(name)

    def _verified(self, token: str, key: jwt.PyJWK) -> Mapping[str, Any]:
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=AUDIENCE,
                issuer=self.issuer,
                # The times are checked below, against a clock that tests can move.
                options={
                    "require": ["exp", "iat", "aud", "iss", "sub"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidAudienceError as error:
            raise TokenRefusedError("the token is for another audience") from error
        except jwt.InvalidIssuerError as error:
            raise TokenRefusedError("the token is from another issuer") from error
        except jwt.InvalidSignatureError as error:
            raise TokenRefusedError("the token's signature is wrong") from error
        except jwt.InvalidTokenError as error:
            raise TokenRefusedError("the token lacks what is required or is malformed") from error
        self._check_times(claims)
        if self._subject is not None and claims["sub"] != self._subject:
            raise TokenRefusedError("the token is of another service account")
        return claims

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._clock()
        expires, issued, not_before = claims["exp"], claims["iat"], claims.get("nbf", claims["iat"])
        if not all(isinstance(moment, int | float) for moment in (expires, issued, not_before)):
            raise TokenRefusedError("the token's times are not numbers")
        if now > expires + _LEEWAY:
            raise TokenRefusedError("the token has expired", expired=True)
        if now < max(issued, not_before) - _LEEWAY:
            raise TokenRefusedError("the token is not valid yet", early=True)


class _Keys:
    """The public keys, by id, fetched by one for all who wait."""

    def __init__(self, source: KeySource, monotonic: Callable[[], float]) -> None:
        self._source = source
        self._monotonic = monotonic
        self._known: dict[str, jwt.PyJWK] = {}
        self._asked_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._failure: OSError | None = None

    @property
    def are_published(self) -> bool:
        """Whether there are any."""
        return bool(self._known)

    async def get(self, name: str) -> jwt.PyJWK | None:
        """The key, or None when there is none. Raises OSError when it is not known and the keys cannot be had."""
        age = self._monotonic() - self._asked_at
        if self._fetching is None and age >= (_KEPT if name in self._known else _REFRESH):
            self._asked_at = self._monotonic()
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        if self._fetching is not None:
            await asyncio.shield(self._fetching)  # others wait for it too
        key = self._known.get(name)
        if key is None and self._failure is not None:
            raise OSError(str(self._failure)) from self._failure
        return key

    async def _fetch(self) -> None:
        try:
            self._known, self._failure = _key_set(await self._source.fetch()), None
        except OSError as error:
            self._failure = error
        finally:
            self._fetching = None


def _key_set(document: Mapping[str, Any]) -> dict[str, jwt.PyJWK]:
    if document.get("keys") == []:
        return {}
    try:
        keys = jwt.PyJWKSet.from_dict(dict(document)).keys
    except jwt.PyJWTError as error:
        raise OSError(f"the key set is not usable: {error}") from error
    # A symmetric key in a public key set would let anyone who reads it sign.
    return {key.key_id: key for key in keys if key.key_id and key.algorithm_name in _ALGORITHMS}


def _identity(claims: Mapping[str, Any]) -> AgentIdentity | None:
    """Node and pod from the claims Kubernetes binds a token by, or None when it is bound to no node."""
    bound = claims.get("kubernetes.io")
    node = _field(bound, "node", "name")
    pod = _field(bound, "pod", "uid")
    if node is None or pod is None:
        return None
    if not is_node_name(node):
        raise TokenRefusedError("the token names a node that cannot be one")
    return AgentIdentity(node, pod, float(claims["iat"]), float(claims["exp"]))


def _field(bound: Any, thing: str, field: str) -> str | None:
    value = bound.get(thing) if isinstance(bound, Mapping) else None
    text = value.get(field) if isinstance(value, Mapping) else None
    return text if isinstance(text, str) and text else None
