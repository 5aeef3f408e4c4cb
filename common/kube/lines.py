"""Splitting of a stream of bytes into lines of bounded length. Pure."""

from collections.abc import AsyncIterator


class LineTooLongError(ValueError):
    """A line of a stream is longer than its reader allows."""


async def split_lines(chunks: AsyncIterator[bytes], limit: int, *, cut: bool = False) -> AsyncIterator[bytes]:
    """Lines without their ends, the last one too if it has none.

    One longer than `limit` raises LineTooLongError, or with `cut` is given in pieces of that length.
    """
    pending = bytearray()
    async for chunk in chunks:
        # Only what is new can hold a line's end: a long line costs its length once.
        searched = len(pending)
        pending += chunk
        start = 0
        while (end := pending.find(b"\n", max(start, searched))) >= 0:
            for piece in _pieces(bytes(pending[start:end]), limit, cut):
                yield piece
            start = end + 1
        del pending[:start]
        while len(pending) > limit:
            if not cut:
                raise LineTooLongError
            yield bytes(pending[:limit])
            del pending[:limit]
    if pending:
        yield bytes(pending)


def _pieces(line: bytes, limit: int, cut: bool) -> list[bytes]:
    if len(line) <= limit:
        return [line]
    if not cut:
        raise LineTooLongError
    return [line[at : at + limit] for at in range(0, len(line), limit)]
