"""HTTP to one API server: connection, TLS, proxy and size limits. No retries and no meaning; see client.py."""

import asyncio
import io
import os
import ssl
import tempfile
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from common.errors import ClusterError, Code, InputError
from common.http_content import read_whole
from common.kube.call import Call
from common.kube.errors import from_exception, too_large
from common.sockets import Sockets
from common.version import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from common.kube.credentials import Credential
    from common.kube.target import Target

CONNECT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 30.0
"""Longest silence within an answer, streams excepted."""
_CONNECTIONS: Final = 16
_LARGE_BODY: Final = 1 << 18


class Transport:
    """Connections to one API server, made when the first request needs one. Close it in the loop that used it."""

    def __init__(self, target: "Target") -> None:
        self._target = target
        self._session: aiohttp.ClientSession | None = None
        self._sockets = Sockets()
        self._certificate: tuple[str, str] | None = None
        self._credential_lock = asyncio.Lock()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            await self._sockets.close()
            self._session = None

    def reject_credential(self) -> bool:
        """The server did not take the credential. Whether another may be had."""
        return self._target.credentials.reject()

    @asynccontextmanager
    async def send(
        self, call: Call, body: bytes | None, headers: dict[str, str], silence: float | None
    ) -> "AsyncIterator[aiohttp.ClientResponse]":
        """Send one request; the answer's head is there, its content is read by the caller.

        `silence` is how long the server may say nothing, None for a stream. Raises ClusterError, also for what goes
        wrong while the caller reads.
        """
        import aiohttp
        from multidict import CIMultiDict
        from yarl import URL

        try:
            # One plugin run serves all requests that wait for it.
            async with self._credential_lock:
                credential = await self._target.credentials.current()
            session = await self._open(credential)
            fields = CIMultiDict(headers)
            if credential.authorization:
                fields["Authorization"] = credential.authorization
            fields.extend(credential.impersonate)
            async with session.request(
                call.method,
                URL(self._target.server + call.url, encoded=True),
                data=_payload(body),
                headers=fields,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence),
                allow_redirects=False,  # a redirect would carry the token elsewhere
                proxy=self._target.proxy or None,
                server_hostname=self._target.tls_server_name or None,
            ) as response:
                yield response
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            # Without its cause: aiohttp's exceptions carry the request's headers.
            raise from_exception(call, self._target.server, error) from None

    async def _open(self, credential: "Credential") -> "aiohttp.ClientSession":
        """The session; a new one when a plugin has given another client certificate."""
        import aiohttp

        if self._session is not None and credential.certificate == self._certificate:
            return self._session
        await self.close()
        self._certificate = credential.certificate
        secure = self._target.server.startswith("https:") or self._target.proxy.startswith("https:")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_CONNECTIONS,
                ssl=_tls(self._target, credential.certificate) if secure else True,
                socket_factory=self._sockets,
            ),
            headers={"User-Agent": f"eidos/{VERSION}", "Accept-Encoding": "gzip"},
            cookie_jar=aiohttp.DummyCookieJar(),
            # Proxies and credentials are decided in target.py, by Go's rules; .netrc has no say.
            trust_env=False,
            read_bufsize=1 << 18,
        )
        return self._session


def _payload(body: bytes | None) -> "bytes | io.BytesIO | None":
    """A large body as a file: aiohttp sends it in pieces and does not hold up the loop."""
    return io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY else body


async def read_all(response: "aiohttp.ClientResponse", call: Call, limit: int) -> bytes:
    """The whole content, unpacked. Raises ClusterError past the limit."""
    content = await read_whole(response.content, limit)
    if len(content) > limit:
        raise too_large(call, limit)
    return content


def _tls(target: "Target", certificate: tuple[str, str] | None) -> ssl.SSLContext:
    """How the server is verified, as client-go does it: without a CA of its own, the system's count."""
    try:
        context = ssl.create_default_context(cadata=target.ca or None)
    except ssl.SSLError as error:
        raise InputError(
            Code.INPUT_MALFORMED, "the certificate authority given for the cluster is no PEM certificate"
        ) from error
    # Python 3.13 asks for extensions that cluster CAs made by common tools lack; Go and kubectl do not.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not target.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        _load_certificate(context, certificate)
    return context


def _load_certificate(context: ssl.SSLContext, certificate: tuple[str, str]) -> None:
    """OpenSSL reads a certificate of ours from a file only; the file is private and gone at once."""
    descriptor, path = tempfile.mkstemp(prefix="eidos-", suffix=".pem")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write("\n".join(certificate))
        # A password is never asked for: nobody may be there to type it.
        context.load_cert_chain(path, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        raise ClusterError(
            Code.CLUSTER_UNAUTHORIZED,
            "the client certificate and key of the kubeconfig cannot be used: no PEM pair, or the key has a password",
        ) from error
    finally:
        os.unlink(path)
