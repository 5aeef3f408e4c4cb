"""What is presented to an API server, and how it is renewed. The only module that imports kubernetes_asyncio.

Fixed credentials and token files need nothing but the file, and exec plugins nothing but their program. A
kubeconfig's auth providers are kubernetes_asyncio's business, whose import costs 0.3 s and 37 MB and so happens only
for them.

Secrets are kept out of `repr`, logs and errors.
"""

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from common.errors import ClusterError, Code

_TOKEN_FILE_AGE: Final = 60.0
"""Seconds a token file's content is used. The kubelet renews such tokens long before they expire."""
_PLUGIN_AGE: Final = 240.0
"""Seconds a plugin's credential is used when it does not say when it expires."""
_EARLY: Final = 10.0
"""Seconds before its end that a plugin's credential is renewed."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What one request presents; empty means nothing of that kind."""

    authorization: str = field(default="", repr=False)
    certificate: tuple[str, str] | None = field(default=None, repr=False)
    """Certificate and private key as PEM text."""
    impersonate: tuple[tuple[str, str], ...] = ()
    """`Impersonate-*` headers (kubeconfig `as`)."""


class Credentials(Protocol):
    """Where credentials come from. Safe to share between event loops when first used by one at a time."""

    async def current(self) -> Credential:
        """The credential to use now; renewed when it is known to be old. Raises ClusterError."""

    def reject(self) -> bool:
        """The server did not take the last one. Whether asking `current` again may give another."""


class FixedCredentials:
    """What a kubeconfig holds as it is: token, password, client certificate, or nothing."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    async def current(self) -> Credential:
        return self._credential

    def reject(self) -> bool:
        return False


class TokenFile:
    """A file whose content is a bearer token and changes, such as a pod's service account token."""

    def __init__(
        self, path: str, rest: Credential | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._rest = rest or Credential()
        self._clock = clock
        self._token = ""
        self._read_at = 0.0

    async def current(self) -> Credential:
        if not self._token or self._clock() - self._read_at > _TOKEN_FILE_AGE:
            self._read()
        return Credential(bearer(self._token), self._rest.certificate, self._rest.impersonate)

    def reject(self) -> bool:
        """Another token only if the file has changed since."""
        before = self._token
        self._read()
        return self._token != before

    def _read(self) -> None:
        try:
            with open(self._path, encoding="utf-8") as file:
                token = file.read(1 << 20).strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ClusterError(
                Code.CLUSTER_UNAUTHORIZED, f"the token file {self._path} cannot be read: {why}"
            ) from error
        if not token:
            raise ClusterError(Code.CLUSTER_UNAUTHORIZED, f"the token file {self._path} is empty")
        self._token, self._read_at = token, self._clock()


class PluginCredentials:
    """A user of a kubeconfig whose credential comes from an exec plugin or an auth provider.

    `document` is a kubeconfig with that user, its cluster and one context alone; `user` names the user in messages.
    """

    def __init__(
        self,
        document: Mapping[str, Any],
        context: str,
        user: str,
        rest: Credential | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._document = document
        self._exec: Mapping[str, Any] | None = document["users"][0]["user"].get("exec")
        self._context = context
        self._user = user
        self._rest = rest or Credential()
        self._clock = clock
        self._credential: Credential | None = None
        self._ends_at = 0.0

    async def current(self) -> Credential:
        if self._credential is None or self._clock() >= self._ends_at:
            self._credential, self._ends_at = await self._fetch()
        return self._credential

    def reject(self) -> bool:
        self._credential = None
        return True

    async def _fetch(self) -> tuple[Credential, float]:
        try:
            if self._exec is not None:
                return await self._from_program(self._exec)
            return await self._from_provider()
        except FileNotFoundError as error:
            raise self._failed(f"the program {error.filename} is not there") from None
        except OSError as error:
            raise self._failed(f"it cannot be started: {error.strerror or type(error).__name__}") from None
        except ValueError as error:
            raise self._failed(_first_line(str(error)) or "it gives no usable credential") from None

    async def _from_program(self, entry: Mapping[str, Any]) -> tuple[Credential, float]:
        from common.kube import exec_plugin

        status = await exec_plugin.run(entry)
        ends = datetime.fromisoformat(status.expiration_timestamp) if status.expiration_timestamp else None
        pair = (status.client_certificate_data, status.client_key_data)
        return self._credential_of(bearer(status.token) if status.token else "", pair if all(pair) else None, ends)

    async def _from_provider(self) -> tuple[Credential, float]:
        import logging

        try:
            from kubernetes_asyncio.client import Configuration
            from kubernetes_asyncio.config import ConfigException, load_kube_config_from_dict
        except ImportError:  # as in our image
            raise ValueError("the package kubernetes_asyncio, which knows such plugins, is not installed") from None

        # The loader logs what it also raises, and we say it ourselves.
        logging.getLogger("kubernetes_asyncio.config.kube_config").setLevel(logging.CRITICAL)
        configuration = Configuration()
        try:
            await load_kube_config_from_dict(
                dict(self._document), context=self._context, client_configuration=configuration
            )
        # The loader raises these for a provider that fails and for one whose answer has not the shape expected.
        except (ConfigException, KeyError, TypeError, AssertionError, RuntimeError) as error:
            raise ValueError(str(error)) from None
        authorization = " ".join(configuration.api_key.get("BearerToken", "").split())
        return self._credential_of(authorization, None, None)

    def _credential_of(
        self, authorization: str, certificate: tuple[str, str] | None, ends: datetime | None
    ) -> tuple[Credential, float]:
        if not authorization and not certificate:
            raise ValueError("it gives neither a token nor a certificate")
        credential = Credential(authorization, certificate or self._rest.certificate, self._rest.impersonate)
        return credential, self._end(ends)

    def _end(self, expiry: datetime | None) -> float:
        if expiry is None:
            return self._clock() + _PLUGIN_AGE
        return (expiry if expiry.tzinfo else expiry.replace(tzinfo=UTC)).timestamp() - _EARLY

    def _failed(self, why: str) -> ClusterError:
        return ClusterError(
            Code.CLUSTER_UNAUTHORIZED,
            f"the credential plugin of user {self._user} in the kubeconfig failed: {why}",
            "Run it by hand to see more, or log in again.",
        )


def bearer(token: str) -> str:
    """The Authorization header for a token; a stray line break in a kubeconfig must not break the header."""
    return f"Bearer {''.join(token.split())}"


def basic(username: str, password: str) -> str:
    """The Authorization header for a name and password (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _first_line(text: str, longest: int = 300) -> str:
    """A plugin's complaint, short; the rest may be a help page or a traceback."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return "".join(c for c in line if c.isprintable())[:longest]
