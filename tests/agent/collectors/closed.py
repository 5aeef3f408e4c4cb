"""A host on which some files are there but closed to us: root may read anything, so the refusal is made up."""

import errno
import os

from agent.host import DEFAULT_LIMIT, Host


class ClosedHost(Host):
    """Raises PermissionError on reading the given paths, or all below them."""

    def __init__(self, root: str, *closed: str) -> None:
        super().__init__(root)
        self._closed = closed

    def read_bytes(self, path: str, limit: int = DEFAULT_LIMIT) -> bytes:
        if any(path == closed or path.startswith(f"{closed}/") for closed in self._closed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return super().read_bytes(path, limit)
