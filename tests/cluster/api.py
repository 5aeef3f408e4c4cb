"""A few plain requests to the API server, for waiting and for making objects by the thousand."""

import json
import ssl
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPSConnection
from typing import Any

from tests.cluster.pki import Pair

Document = dict[str, Any]

_IDLE = 20.0
"""Seconds after which a kept connection is not used again: the server closes idle ones when it likes."""


class ApiError(RuntimeError):
    """The API server answered with an error status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text[:500]}")
        self.status = status


class Api:
    """Requests as one user, over one kept connection per thread."""

    def __init__(self, port: int, authority: Pair, user: Pair) -> None:
        self.port = port
        self._tls = ssl.create_default_context(cafile=str(authority.certificate))
        self._tls.load_cert_chain(user.certificate, user.key)
        self._local = threading.local()

    def _connection(self) -> HTTPSConnection:
        if time.monotonic() - getattr(self._local, "used", 0.0) > _IDLE:
            self.close()
        kept: HTTPSConnection | None = getattr(self._local, "connection", None)
        if kept is None:
            kept = HTTPSConnection("127.0.0.1", self.port, context=self._tls, timeout=30)
            self._local.connection = kept
        return kept

    def close(self) -> None:
        """Closes this thread's connection."""
        kept: HTTPSConnection | None = getattr(self._local, "connection", None)
        if kept is not None:
            kept.close()
            self._local.connection = None

    def text(
        self,
        method: str,
        path: str,
        body: Document | None = None,
        kind: str = "application/json",
        timeout: float = 30,
    ) -> str:
        """Raises ApiError for an error status, OSError or HTTPException when there is no answer."""
        connection = self._connection()
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        try:
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {"Content-Type": kind, "Accept": "application/json"},
            )
            response = connection.getresponse()
            answer = response.read().decode()
        except (OSError, HTTPException):
            self.close()
            raise
        self._local.used = time.monotonic()
        if response.status >= 400:
            raise ApiError(response.status, answer)
        return answer

    def get(self, path: str) -> Document:
        document: Document = json.loads(self.text("GET", path))
        return document

    def create_all(self, path: str, bodies: Sequence[Document]) -> None:
        """Creates every object below `path`, over several connections."""
        self._all([("POST", path, body) for body in bodies])

    def delete_all(self, paths: Sequence[str]) -> None:
        """Deletes every one of these objects, over several connections; some may be gone already."""
        self._all([("DELETE", path, None) for path in paths], passing=frozenset({404}))

    def _all(
        self,
        requests: Sequence[tuple[str, str, Document | None]],
        connections: int = 8,
        passing: frozenset[int] = frozenset(),
    ) -> None:
        def ask(part: Sequence[tuple[str, str, Document | None]]) -> None:
            try:
                for method, path, body in part:
                    try:
                        self.text(method, path, body)
                    except ApiError as error:
                        if error.status not in passing:
                            raise
            finally:
                self.close()

        with ThreadPoolExecutor(connections) as pool:
            list(pool.map(ask, (requests[start::connections] for start in range(connections))))

    def wait_ready(self, timeout: float) -> None:
        """Waits until `/readyz` says ok; raises TimeoutError with what it said last."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.text("GET", "/readyz")
            except (OSError, HTTPException, ApiError) as trouble:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"kube-apiserver is not ready after {timeout:.0f} s: {trouble}") from trouble
                time.sleep(0.05)
            else:
                return
