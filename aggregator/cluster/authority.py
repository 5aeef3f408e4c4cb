"""The aggregator's own certificate authority, kept in Secret `eidos-authority`.

The Secret is read when this replica first leads, and made when there is none that can be used; of two that make it at
the same time, one finds that it is there and takes that. From then on what is in memory counts, until this process
ends (which it does when another leads): whoever deletes or edits the Secret finds it put back, also after a while in
which the API server was away. To have a new authority on purpose, see docs/operate.md.
"""

import asyncio
import base64
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from aggregator.cluster.certificates import Pair, Renewed
from aggregator.cluster.guard import guard, named
from aggregator.cluster.labels import LABELS
from aggregator.tls import Authority, OwnCertificates
from common.errors import Code
from common.kube.call import path_of
from common.kube.client import Kube, KubeError
from common.kube.types import Metadata, ObjectMeta

_log: Final = logging.getLogger(__name__)

SECRET: Final = "eidos-authority"  # noqa: S105  # its name
_ATTEMPTS: Final = 10
_RENEWAL_EVERY: Final = 1800.0
_AGAIN_AFTER: Final = 30.0


class SecretObject(msgspec.Struct, frozen=True):
    """core/v1 Secret."""

    metadata: ObjectMeta = ObjectMeta()
    data: dict[str, bytes] = {}
    type: str = ""


class SecretAuthority:
    """`Certificates` of an authority of ours."""

    def __init__(self, kube: Kube, namespace: str, names: Iterable[str]) -> None:
        """`names` are what the server is called: DNS names and addresses."""
        self._kube = kube
        self._collection = path_of("v1", "secrets", namespace)
        self._path = path_of("v1", "secrets", namespace, SECRET)
        self._metadata = {"name": SECRET, "namespace": namespace, "labels": LABELS}
        self._own = OwnCertificates(Authority(), names)
        self._is_loaded = False
        self._is_owed = False

    @property
    def bundle(self) -> bytes:
        """See Certificates."""
        return self._own.authority.bundle

    async def load(self) -> Pair:
        """See Certificates."""
        if self._is_loaded:
            await self.mend()
            return self._own.issue()
        for attempt in range(_ATTEMPTS):
            found = await self._read()
            authority = _usable(found) or Authority()
            authority.rotate()
            if found is None or found.data != authority.files:
                try:
                    await self._store(authority, found)
                except KubeError as error:
                    if error.code is not Code.CLUSTER_CONFLICT or attempt == _ATTEMPTS - 1:
                        raise
                    await asyncio.sleep(self._kube.pause(attempt + 1, error))
                    continue  # another was quicker: take theirs
            self._own.authority = authority
            self._is_loaded = True
            return self._own.issue()
        raise AssertionError("the last attempt returns or raises")

    async def borrow(self) -> Pair | None:
        """See Certificates. The Secret is the leader's: it is only read."""
        authority = _usable(await self._read())
        if authority is None or (authority.files == self._own.authority.files and not self._own.is_due()):
            return None
        self._own.authority = authority
        return self._own.issue()

    async def follow(self, renewed: Renewed) -> None:
        """See Certificates."""
        async with asyncio.TaskGroup() as both:
            both.create_task(guard(self._kube, self._collection, named(SECRET), self.mend))
            both.create_task(self._renew(renewed))

    async def mend(self) -> None:
        """Put the Secret back as it should be. Raises KubeError."""
        found = await self._read()
        if found is None or found.data != self._own.authority.files:
            await self._store(self._own.authority, found)
            _log.warning("put back", extra={"secret": SECRET, "deleted": found is None})

    async def _renew(self, renewed: Renewed) -> None:
        while True:
            await asyncio.sleep(_AGAIN_AFTER if self._is_owed else _RENEWAL_EVERY)
            await self.renew(renewed)

    async def renew(self, renewed: Renewed) -> None:
        """Renew what is due. What cannot be used yet, as the log says, is due until it can."""
        rotated = self._own.authority.rotate()
        if rotated:
            try:
                await self.mend()
            except KubeError as error:  # its guard tries again
                _log.error("new authority not stored yet", extra={"detail": error.message})
        if rotated or self._is_owed or self._own.is_due():
            self._is_owed = True
            try:
                await renewed(self._own.issue())
            except OSError as error:  # OpenSSL takes files only, and there may be no room for one
                _log.error("server certificate not renewed, tried again soon", extra={"detail": str(error)})
                return
            self._is_owed = False

    async def _read(self) -> SecretObject | None:
        try:
            return await self._kube.get(self._path, SecretObject)
        except KubeError as error:
            if error.code is not Code.CLUSTER_NOT_FOUND:
                raise
            return None

    async def _store(self, authority: Authority, found: SecretObject | None) -> None:
        """Write at exactly the version that was read."""
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": self._metadata, "data": _encoded(authority.files)}
        if found is None:
            await self._kube.create(self._collection, body, Metadata)
            return
        version = {"resourceVersion": found.metadata.resource_version}
        labels = {"labels": {**found.metadata.labels, **LABELS}, "annotations": found.metadata.annotations}
        metadata: dict[str, Any] = {**self._metadata, **labels, **version}
        await self._kube.replace(self._path, {**body, "metadata": metadata, "type": found.type}, Metadata)


def _usable(found: SecretObject | None) -> Authority | None:
    """The authority in a Secret; None where there is none, or nothing that can be read as one."""
    if found is None:
        return None
    try:
        authority = Authority.from_files(found.data)
    except ValueError as error:
        _log.error("the stored authority cannot be used", extra={"detail": str(error)})
        return None
    return authority if authority.bundle else None


def _encoded(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(content).decode() for name, content in files.items()}
