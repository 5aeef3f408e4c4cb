"""Where finished documents go, for readers that do not ask the API.

A publisher shows each reader one whole document at any time. In a directory that is done as kubelet does it for
mounted ConfigMaps: the files lie in a directory of their own, and one symbolic link, replaced by rename, names it.
"""

import os
import shutil
from pathlib import Path
from typing import Final, Protocol

from common.fleet import FleetSnapshot
from common.formats import Format, dump_plain

_CURRENT: Final = "eidos-fleet"


class Publisher(Protocol):
    """Publishes documents. Called one at a time, in a thread that may wait."""

    def publish(self, document: FleetSnapshot) -> None:
        """Make this the document that readers see. Raises OSError, leaving the last one in place."""


class DirectoryPublisher:
    """`DIRECTORY/eidos-fleet/{snapshot.yaml,format,timestamp}`: the data of the ConfigMap of that name, as files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def publish(self, document: FleetSnapshot) -> None:
        """See Publisher."""
        whole = self._directory / f".{_CURRENT}-{document.metadata.run}"
        whole.mkdir(mode=0o755)
        try:
            for name, content in config_map_data(document).items():
                (whole / name).write_bytes(content)
            link = self._directory / f".{_CURRENT}.new"
            link.unlink(missing_ok=True)
            link.symlink_to(whole.name)
            os.replace(link, self._directory / _CURRENT)
        except OSError:
            shutil.rmtree(whole, ignore_errors=True)
            raise
        for old in self._directory.glob(f".{_CURRENT}-*"):
            if old != whole:
                shutil.rmtree(old, ignore_errors=True)


def config_map_data(document: FleetSnapshot) -> dict[str, bytes]:
    """The keys and values of ConfigMap `eidos-fleet`."""
    return {
        "snapshot.yaml": dump_plain(document, Format.YAML),
        "format": b"yaml",
        "timestamp": document.metadata.timestamp.encode(),
    }
