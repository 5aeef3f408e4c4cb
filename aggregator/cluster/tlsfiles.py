"""A certificate that somebody else makes and renews, such as cert-manager: `--tls-directory`.

The files are those of a Secret of type kubernetes.io/tls as kubelet mounts it: tls.crt, tls.key and ca.crt. They are
looked at every few seconds: kubelet replaces all of them at once by renaming a symbolic link, so what is read in one
go belongs together, and a pair that does not fit is read again later.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

from cryptography import x509

from aggregator.cluster.certificates import Pair, Renewed
from common.errors import Code, InputError

_log: Final = logging.getLogger(__name__)
_LOOK_EVERY: Final = 10.0


class TlsFiles:
    """`Certificates` in a directory."""

    def __init__(self, directory: Path, every: float = _LOOK_EVERY) -> None:
        """Looks for changes `every` so many seconds."""
        self._directory = directory
        self._every = every
        self._bundle = b""
        self._pair: Pair = (b"", b"")

    @property
    def bundle(self) -> bytes:
        """See Certificates."""
        return self._bundle

    async def load(self) -> Pair:
        """See Certificates."""
        self._pair, self._bundle = self._read()
        return self._pair

    async def borrow(self) -> Pair | None:
        """See Certificates."""
        before = self._pair
        self._pair, _ = self._read()
        return self._pair if self._pair != before else None

    async def follow(self, renewed: Renewed) -> None:
        """See Certificates."""
        while True:
            await asyncio.sleep(self._every)
            try:
                pair, bundle = self._read()
                if (pair, bundle) == (self._pair, self._bundle):
                    continue
                before, self._bundle = self._bundle, bundle
                try:
                    await renewed(pair)
                except OSError:  # ssl.SSLError is one
                    self._bundle = before
                    raise
                self._pair = pair
            except (InputError, OSError) as error:
                _log.error("certificate not taken", extra={"directory": str(self._directory), "detail": str(error)})

    def _read(self) -> tuple[Pair, bytes]:
        certificate, key, bundle = (self._content(name) for name in ("tls.crt", "tls.key", "ca.crt"))
        for name, content in (("tls.crt", certificate), ("ca.crt", bundle)):
            try:
                x509.load_pem_x509_certificates(content)
            except ValueError as error:
                raise InputError(Code.INPUT_MALFORMED, f"{self._directory / name} is no PEM certificate") from error
        return (certificate, key), bundle

    def _content(self, name: str) -> bytes:
        try:
            return (self._directory / name).read_bytes()
        except OSError as error:
            raise InputError(
                Code.INPUT_UNREADABLE,
                f"{self._directory / name} cannot be read: {(error.strerror or '').lower()}",
                "Agents are given ca.crt to know the aggregator by; the issuer must put it there.",
            ) from error
