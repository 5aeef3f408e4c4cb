"""Documents beyond what one ConfigMap holds: packed with zstd and cut into shards, and put together again. Pure.

A shard's name comes from the packed content, so that a name never stands for two contents, and the index lists each
shard with its digest and the whole with its own: what is put together is the whole document or an error.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from common.canonical import Domain, content_digest

SHARD_BYTES: Final = 900 << 10
"""Most bytes in one ConfigMap of ours; the API server refuses more than 1 MiB over all keys."""
_LAYOUT: Final = 1
"""Version of this layout. It goes into the digests in place of the schema: stored documents outlive schemas."""
_LONGEST_NAME: Final = 253
_MARK: Final = 12
"""Hexadecimal digits of a digest in a name."""
_LEVEL: Final = 6


class Shard(msgspec.Struct, frozen=True):
    """One piece: the ConfigMap it is in, and its digest in hexadecimal."""

    name: str
    digest: str


class ShardIndex(msgspec.Struct, frozen=True):
    """What a document consists of, in order. `size` and `digest` are those of the document itself, unpacked."""

    size: int
    digest: str
    shards: list[Shard]
    encoding: str = "zstd"
    layout: int = _LAYOUT

    @property
    def most_packed(self) -> int:
        """Bytes that its shards have together at most, however badly the document packs."""
        return self.size + self.size // 64 + 1024


class IncompleteError(ValueError):
    """The pieces are not those the index lists."""


def split(content: bytes, base: str) -> tuple[ShardIndex, dict[str, bytes]]:
    """The index of a document, and its shards by ConfigMap name. `base` is the document's own ConfigMap."""
    import zstandard

    packed = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(content)
    mark = _digest(packed)[:_MARK]
    pieces = [packed[at : at + SHARD_BYTES] for at in range(0, len(packed), SHARD_BYTES)]
    stem = fitted(base, _LONGEST_NAME - _MARK - len("--99999"))
    shards = {f"{stem}-{mark}-{number}": piece for number, piece in enumerate(pieces)}
    listed = [Shard(name, _digest(piece)) for name, piece in shards.items()]
    return ShardIndex(size=len(content), digest=_digest(content), shards=listed), shards


def join(index: ShardIndex, pieces: Sequence[bytes], limit: int) -> bytes:
    """The document. Raises IncompleteError unless it is whole, OverflowError when it is longer than `limit`."""
    import zstandard

    if index.layout != _LAYOUT or index.encoding != "zstd":
        raise IncompleteError("it was written by a later version of Eidos")
    if index.size > limit:
        raise OverflowError
    for shard, piece in zip(index.shards, pieces, strict=True):
        if _digest(piece) != shard.digest:
            raise IncompleteError(f"its part {shard.name} was changed")
    try:
        # Read no further than the index says: a frame may claim any size.
        with zstandard.ZstdDecompressor().stream_reader(b"".join(pieces)) as reader:
            content = reader.read(index.size + 1)
    except zstandard.ZstdError:
        raise IncompleteError("its parts cannot be unpacked") from None
    if len(content) != index.size or _digest(content) != index.digest:
        raise IncompleteError("its parts do not give what its index says")
    return content


def index_digest(data: Mapping[str, str]) -> str:
    """Of all that an index holds, its list of shards included, in hexadecimal."""
    return _digest(msgspec.json.encode(data, order="sorted"))


def _digest(content: bytes) -> str:
    return content_digest(Domain.SHARD, content, _LAYOUT).hex()


def fitted(name: str, longest: int) -> str:
    """The name itself, or one of at most `longest` characters that stands for it and for no other."""
    if len(name) <= longest:
        return name
    mark = "-" + _digest(name.encode())[:_MARK]
    # What is cut off must not leave a dot or dash before the mark's dash.
    return name[: longest - len(mark)].rstrip(".-") + mark
