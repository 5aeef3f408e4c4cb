"""A fleet without a cluster: its own keys and tokens in a directory, its nodes from a list.

    DIRECTORY/ca.crt                  what agents and users trust
    DIRECTORY/user-token              what opens the HTTP API
    DIRECTORY/tokens/NODE             the token of the agent on NODE, renewed in place while the aggregator runs
    DIRECTORY/published/eidos-fleet/  the last fleet snapshot, as in ConfigMap eidos-fleet
    DIRECTORY/private/                keys; nobody else's business

The same directory can be served again: keys and tokens stay.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from aggregator.auth import Authenticator
from aggregator.fleet import Fleet
from aggregator.ledger import Expected
from aggregator.local_files import DirectoryLock, kept, kept_token, write_whole
from aggregator.publish import DirectoryPublisher
from aggregator.renewal import Renewal
from aggregator.server import Server
from aggregator.settings import Settings
from aggregator.signer import LOCAL_ISSUER, LOCAL_SERVICE_ACCOUNT, LocalSigner
from aggregator.tls import BUNDLE, Authority, OwnCertificates
from aggregator.users import TokenUser
from common.errors import Code, InputError

TOKEN_SECONDS: Final = 3600.0
_RENEWED_EVERY: Final = TOKEN_SECONDS / 3
_LOOKED_EVERY: Final = 5.0

_log: Final = logging.getLogger(__name__)


class LocalFleet:
    """Aggregator, keys and tokens of a local fleet."""

    def __init__(
        self, settings: Settings, nodes: Sequence[str], labels: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        """`nodes` are the expected ones; `labels` may give some of them labels.

        Raises InputError for what is in the directory and is damaged, UsageError when another serves it, OSError.
        """
        self.directory = settings.directory
        self.nodes = tuple(nodes)
        private = self.directory / "private"
        for directory in (private, self.directory / "tokens", self.directory / "published"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = DirectoryLock(self.directory)
        self.signer = _kept_signer(private / "signer.pem")
        write_whole(private / "signer.pem", self.signer.key_pem)
        self.user_token = kept_token(self.directory / "user-token")
        write_whole(self.directory / "user-token", self.user_token.encode())
        expected = [Expected(node, labels=(labels or {}).get(node, {})) for node in self.nodes]
        self.fleet = Fleet(
            replace(settings, directory=private),
            lambda: expected,
            DirectoryPublisher(self.directory / "published"),
        )
        self._certificates = OwnCertificates(_kept_authority(private), settings.names)
        self._certificates.authority.rotate()
        self._keep()
        self._served = True
        self.server = Server(
            self.fleet,
            Authenticator(self.signer, LOCAL_ISSUER, LOCAL_SERVICE_ACCOUNT),
            TokenUser(self.user_token),
            self._certificates.issue(),
        )
        self._renewing: asyncio.Task[None] | None = None

    def _keep(self) -> None:
        files = dict(self._certificates.authority.files)
        write_whole(self.directory / BUNDLE, files.pop(BUNDLE), mode=0o644)
        for name, content in files.items():
            write_whole(self.directory / "private" / name, content)
        for old in set((self.directory / "private").glob("authority-*.pem")):
            if old.name not in files:
                old.unlink()
        self._stored = True

    def token_file(self, node: str) -> Path:
        """Where a node's agent finds its token."""
        return self.directory / "tokens" / node

    def write_tokens(self) -> None:
        """A fresh token for every node. Raises OSError."""
        for node in self.nodes:
            token = self.signer.token(node, seconds=TOKEN_SECONDS)
            write_whole(self.token_file(node), token.encode(), lasting=False)  # every start writes them anew

    async def start(self) -> None:
        """Serve. Raises OSError when an address is taken."""
        self.write_tokens()
        await self.server.start()
        self._renewing = asyncio.get_running_loop().create_task(self._renew(), name="renew")

    async def stop(self) -> None:
        """Serve no more. Keys and tokens stay in the directory."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        await self.server.stop()
        self._lock.release()

    async def _renew(self) -> None:
        renewal = Renewal(_RENEWED_EVERY)
        while True:
            await asyncio.sleep(_LOOKED_EVERY)
            if renewal.is_due() and self.renew():
                renewal.done()

    def renew(self) -> bool:
        """Fresh tokens, and the certificates that are due. False when it has to be tried again, as the log says."""
        try:
            self.write_tokens()
            self._stored = not self._certificates.authority.rotate() and self._stored
            if not self._stored:
                self._keep()
            self._served = not self._certificates.is_due() and self._served
            if not self._served:
                self.server.use_certificate(self._certificates.issue())
                self._served = True
        except OSError as error:  # a full disk, most of the time
            _log.error("not renewed yet, tried again soon", extra={"detail": str(error)})
            return False
        return True


def _kept_signer(path: Path) -> LocalSigner:
    try:
        return LocalSigner(kept(path))
    except ValueError as error:
        raise InputError(
            Code.INPUT_MALFORMED,
            f"{path} cannot be used: {error}",
            "Put it back from a copy, or delete it: a new one is made, and agents' tokens with it.",
        ) from error


def _kept_authority(private: Path) -> Authority:
    try:
        return Authority.from_files({path.name: path.read_bytes() for path in private.glob("authority-*.pem")})
    except ValueError as error:
        raise InputError(
            Code.INPUT_MALFORMED,
            f"{private}/{error}",
            f"Put it back from a copy, or delete it: a new one is made, and agents and users need the new {BUNDLE}.",
        ) from error
