"""Where finished documents go, for readers that do not ask the API.

A publisher shows each reader one whole document at any time. In a directory that is done as kubelet does it for
mounted ConfigMaps: the files lie in a directory of their own, and one symbolic link, replaced by rename, names it.
"""

import asyncio
import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from aggregator.excerpt import excerpt_of_fleet
from common.fleet import FleetSnapshot
from common.formats import Format, dump_plain
from common.refs import PUBLISHED

if TYPE_CHECKING:
    from common.kube.client import Kube
    from common.kube.configmap_writer import Fence
    from common.kube.types import ConfigMap

FLEET: Final = PUBLISHED
"""The document's name, wherever it is published."""


class Publisher(Protocol):
    """Publishes documents, one at a time."""

    async def publish(self, document: FleetSnapshot) -> None:
        """Make this the document that readers see. Raises OSError or EidosError, leaving the last one in place."""


class DirectoryPublisher:
    """`DIRECTORY/eidos-fleet/{snapshot.yaml,format,timestamp}`: the data of the ConfigMap of that name, as files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def publish(self, document: FleetSnapshot) -> None:
        """See Publisher."""
        await asyncio.to_thread(self._publish, document)

    def _publish(self, document: FleetSnapshot) -> None:
        whole = self._directory / f".{FLEET}-{document.metadata.run}"
        whole.mkdir(mode=0o755)
        try:
            for name, content in config_map_data(document).items():
                (whole / name).write_bytes(content)
            link = self._directory / f".{FLEET}.new"
            link.unlink(missing_ok=True)
            link.symlink_to(whole.name)
            os.replace(link, self._directory / FLEET)
        except OSError:
            shutil.rmtree(whole, ignore_errors=True)
            raise
        for old in self._directory.glob(f".{FLEET}-*"):
            if old != whole:
                shutil.rmtree(old, ignore_errors=True)


class ConfigMapPublisher:
    """ConfigMap `eidos-fleet` in a namespace; what exceeds it in shards beside it (common/kube/configmaps.py)."""

    def __init__(self, kube: "Kube", namespace: str, fence: "Fence | None" = None) -> None:
        """`fence` raises when this aggregator may no longer write."""
        self._kube = kube
        self._namespace = namespace
        self._fence = fence
        self.stands: ConfigMap | None = None
        """The index as we wrote it last."""

    async def publish(self, document: FleetSnapshot, content: bytes = b"") -> None:
        """See Publisher. `content` is the document as another wrote it, to the byte; empty where we write it."""
        from common.kube.configmap_writer import write_document  # only where there is a cluster

        content = content or await asyncio.to_thread(_yaml, document)
        written_at = datetime.fromisoformat(document.metadata.timestamp)
        excerpt = excerpt_of_fleet(document, _yaml)
        self.stands = await write_document(
            self._kube, self._namespace, FLEET, content, "yaml", excerpt, written_at, fence=self._fence
        )


def config_map_data(document: FleetSnapshot) -> dict[str, bytes]:
    """The keys and values of ConfigMap `eidos-fleet`."""
    return {
        "snapshot.yaml": _yaml(document),
        "format": b"yaml",
        "timestamp": document.metadata.timestamp.encode(),
    }


def _yaml(document: FleetSnapshot) -> bytes:
    return dump_plain(document, Format.YAML)
