"""ConfigMap `eidos-fleet`, written by the leader only, and put back when somebody else changes it.

A leader that was deposed without knowing (frozen, cut off) must not overwrite what its successor wrote. Before each
write of the index, after its version has been read, the API server is asked who leads; and a new leader touches
the index before anything else, so that a write that was decided before it led fails by its version. Where there is no
index there is nothing to touch: such a write then makes one, which stands until the new leader's first document.

What earlier leaders have published is read after that, when nobody else can write any more, and is kept up like a
document of our own until there is one. It is believed only when it is as it was written.
"""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final

from aggregator.cluster.guard import guard, named
from aggregator.cluster.lease import Elector
from aggregator.publish import FLEET, ConfigMapPublisher
from aggregator.published import read_published
from common.errors import Code, InputError
from common.fleet import FleetSnapshot
from common.kube.client import METADATA_LIST, Kube, KubeError
from common.kube.configmap_writer import INDEX_LABEL
from common.kube.configmaps import (
    DIGEST,
    Stored,
    configmap_path,
    get_stored,
    is_as_written,
    is_ours,
    listed_shards,
)
from common.kube.types import ConfigMap, Metadata

_log: Final = logging.getLogger(__name__)
LEADER: Final = "eidos.nvidia.com/leader"
"""Annotation of the index: who began to lead last."""
_LONGEST: Final = 32 << 20
"""Bytes of a document that is read back: seconds of work, on which leading waits."""
_SHARDS: Final = {"labelSelector": f"{INDEX_LABEL}={FLEET}"}


class LeaderPublisher:
    """A `Publisher` for as long as `elector` leads."""

    def __init__(self, kube: Kube, namespace: str, elector: Elector) -> None:
        self._kube = kube
        self._namespace = namespace
        self._elector = elector
        self._path = configmap_path(namespace, FLEET)
        self._writing = asyncio.Lock()
        self._document: FleetSnapshot | None = None
        self._content = b""
        """The document's bytes where another leader wrote it, perhaps of another version; empty for our own."""
        self._publisher = ConfigMapPublisher(kube, namespace, elector.confirm)

    async def publish(self, document: FleetSnapshot) -> None:
        """See Publisher."""
        async with self._writing:
            self._document, self._content = document, b""
            await self._publisher.publish(document)

    async def take_over(self) -> None:
        """Have writes of earlier leaders fail from now on. Raises EidosError."""
        await self._elector.confirm()
        # Never the same twice: it must change the version.
        mark = f"{self._elector.identity} since {datetime.now(UTC).isoformat(timespec='microseconds')}"
        try:
            await self._kube.patch(self._path, {"metadata": {"annotations": {LEADER: mark}}}, Metadata)
        except KubeError as error:
            if error.code is not Code.CLUSTER_NOT_FOUND:
                raise

    async def read_back(self) -> FleetSnapshot | None:
        """What earlier leaders published last; None where there is nothing to go on from, as the log says.

        To be called after `take_over`. Raises KubeError when the API server cannot be asked.
        """
        async with self._writing:
            if self._document is not None:
                return None
            try:
                stored = await get_stored(self._kube, self._namespace, FLEET, _LONGEST, attempts=1)
                document = await asyncio.to_thread(self._believed, stored)
            except InputError as error:
                _log.warning("not read back", extra={"configmap": FLEET, "detail": error.message})
                return None
            except KubeError as error:
                if error.code not in (Code.CLUSTER_NOT_FOUND, Code.CLUSTER_FORBIDDEN):
                    raise
                _log.info("not read back", extra={"configmap": FLEET, "detail": error.message})
                return None
            _log.info("read back", extra={"configmap": FLEET, "run": document.metadata.run})
            self._document, self._content = document, stored.document.content
            self._publisher.stands = stored.config_map
            return document

    def _believed(self, stored: Stored) -> FleetSnapshot:
        """Raises InputError for what no leader has written so."""
        place = f"cm://{self._namespace}/{FLEET}"
        if not is_as_written(stored.config_map):
            raise InputError(
                Code.INPUT_MALFORMED,
                f"{place} bears no digest of its data: somebody has edited it, or an earlier version wrote it",
            )
        return read_published(stored.document.content, place)

    async def follow(self) -> None:
        """Put the document back whenever somebody changes it or its shards, for ever."""
        collection = configmap_path(self._namespace)
        async with asyncio.TaskGroup() as both:
            both.create_task(guard(self._kube, collection, named(FLEET), self.mend))
            both.create_task(guard(self._kube, collection, _SHARDS, self.mend))

    async def mend(self) -> None:
        """Publish the last document again where it is no longer as it was written. Raises EidosError."""
        async with self._writing:
            if self._document is None or not self._elector.leads:
                return
            found = await self._current()
            if found is not None and await self._is_intact(found):
                return
            stood = self._publisher.stands
            if stood is not None:
                _log.warning("put back", extra={"configmap": FLEET, "deleted": found is None})
                if found is not None and not is_ours(found) and found.metadata.uid == stood.metadata.uid:
                    # Our own, disfigured: not to be taken for somebody else's.
                    await self._kube.delete(self._path, preconditions={"uid": found.metadata.uid})
            await self._publisher.publish(self._document, self._content)

    async def _current(self) -> ConfigMap | None:
        try:
            return await self._kube.get(self._path, ConfigMap)
        except KubeError as error:
            if error.code is not Code.CLUSTER_NOT_FOUND:
                raise
            return None

    async def _is_intact(self, found: ConfigMap) -> bool:
        stands = self._publisher.stands
        if stands is None or not is_ours(found) or (found.data, found.binary_data) != (stands.data, {}):
            return False
        if found.metadata.annotations.get(DIGEST) != stands.metadata.annotations.get(DIGEST):
            return False  # the next leader would not believe it
        if not (needed := listed_shards(stands)):
            return True
        # Their content cannot be changed (`immutable`), only taken away.
        there, _ = await self._kube.list(configmap_path(self._namespace), Metadata, _SHARDS, accept=METADATA_LIST)
        return needed <= {shard.metadata.name for shard in there}


__all__ = ["LEADER", "LeaderPublisher"]
