"""Content by digest: compressed, in memory up to a limit and on disk beyond it, within a limit there too.

What is here is a cache of what agents hold. It is not kept over a restart: they are asked again.
"""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Collection, Container
from pathlib import Path
from typing import Final

import zstandard

from common.wire import MAX_CONTENT, MAX_FRAME, Closed, FrameError

_FILE: Final = "blobs.sqlite"
_PAGE: Final = 4096
"""SQLite's page size, in bytes."""
_LEAST_PAGES: Final = 4
_PER_BLOB: Final = 200
"""Bytes that a blob costs in memory beside its content: digest, dictionary entry, object headers."""


class StoreFullError(Exception):
    """There is no room for more content, in memory or on disk."""


class BlobStore:
    """Compressed content under 32-byte digests. Safe to read from another thread than the one that adds."""

    def __init__(self, directory: Path, memory: int = 64 << 20, disk: int = 4 << 30) -> None:
        """`memory` and `disk` are in bytes. A store left behind in `directory` is removed."""
        self._memory_limit, self._disk_limit = memory, disk
        self._memory: OrderedDict[bytes, bytes] = OrderedDict()  # least recently used first
        self._on_disk: dict[bytes, int] = {}  # digest: bytes
        self.memory_bytes = 0
        self.disk_bytes = 0
        self._path = directory / _FILE
        self._file: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._path.unlink(missing_ok=True)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._memory or digest in self._on_disk

    def __len__(self) -> int:
        return len(self._memory) + len(self._on_disk)

    def add(self, digest: bytes, compressed: bytes) -> None:
        """Keep content that was verified to have the digest. Raises StoreFullError."""
        with self._lock:
            if digest in self:
                return
            if len(compressed) + self.memory_bytes + self.disk_bytes > self._memory_limit + self._disk_limit:
                raise StoreFullError
            self._memory[digest] = compressed
            self.memory_bytes += len(compressed) + _PER_BLOB
            try:
                while self.memory_bytes > self._memory_limit and self._memory:
                    self._to_disk(next(iter(self._memory)))
            except sqlite3.Error as error:  # the disk is full, or gone: what was here stays in memory
                if digest in self._memory:
                    self._drop(digest)
                raise StoreFullError from error

    def read(self, digest: bytes) -> bytes:
        """The content, uncompressed. Raises KeyError."""
        with self._lock:
            compressed = self._memory.get(digest)
            if compressed is None:
                compressed = self._from_disk(digest)
            else:
                self._memory.move_to_end(digest)
        return zstandard.ZstdDecompressor().decompress(compressed, max_output_size=MAX_CONTENT)

    def keep_only(self, live: Container[bytes]) -> int:
        """Forget all content but this; how many were forgotten."""
        with self._lock:
            gone = [digest for digest in self._memory if digest not in live]
            for digest in gone:
                self._drop(digest)
            lost = [digest for digest in self._on_disk if digest not in live]
            self._delete(lost)
        return len(gone) + len(lost)

    def close(self) -> None:
        """Forget everything and remove the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None
            self._path.unlink(missing_ok=True)
            self._memory.clear()
            self._on_disk.clear()
            self.memory_bytes = self.disk_bytes = 0

    def _drop(self, digest: bytes) -> None:
        self.memory_bytes -= len(self._memory.pop(digest)) + _PER_BLOB

    def _to_disk(self, digest: bytes) -> None:
        compressed = self._memory[digest]
        self._opened().execute("insert or replace into blob values (?, ?)", (digest, compressed))
        self._drop(digest)
        self._on_disk[digest] = len(compressed)
        self.disk_bytes += len(compressed)

    def _from_disk(self, digest: bytes) -> bytes:
        if digest not in self._on_disk:
            raise KeyError(digest.hex())
        row = self._opened().execute("select content from blob where digest = ?", (digest,)).fetchone()
        return bytes(row[0])

    def _delete(self, digests: Collection[bytes]) -> None:
        if digests:
            self._opened().executemany("delete from blob where digest = ?", ((digest,) for digest in digests))
        for digest in digests:
            self.disk_bytes -= self._on_disk.pop(digest)

    def _opened(self) -> sqlite3.Connection:
        if self._file is None:
            file = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
            # Nothing here outlives the process, so nothing needs to survive a crash.
            for pragma in ("journal_mode = memory", "synchronous = off", "cache_size = -4096", "auto_vacuum = full"):
                file.execute(f"pragma {pragma}")
            # Pages are not full of content: the limit is on the file.
            file.execute(f"pragma max_page_count = {max(_LEAST_PAGES, self._disk_limit // _PAGE)}")
            file.execute("create table if not exists blob (digest blob primary key, content blob) without rowid")
            self._file = file
        return self._file


def compress(content: bytes) -> bytes:
    """As content travels and is kept: one zstd frame that states its size."""
    return zstandard.ZstdCompressor(level=3).compress(content)


def decompress(compressed: bytes) -> bytes:
    """What an agent sent, unpacked. Its stated size is checked before a byte is unpacked. Raises FrameError."""
    if len(compressed) > MAX_FRAME:
        raise FrameError(Closed.TOO_LARGE, f"compressed content of {len(compressed)} bytes")
    try:
        size = zstandard.get_frame_parameters(compressed).content_size
        if size > MAX_CONTENT:  # an unstated size reads as 2^64-1
            raise FrameError(Closed.TOO_LARGE, f"content of {size} bytes")
        return zstandard.ZstdDecompressor().decompress(compressed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FrameError(Closed.WRONG_CONTENT, f"content is not zstd: {error}") from error
