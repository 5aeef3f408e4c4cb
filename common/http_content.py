"""The content of an HTTP answer, whole and within a limit."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp


async def read_whole(content: "aiohttp.StreamReader", limit: int) -> bytes:
    """All bytes, unpacked; what is longer than `limit` shows by its length, `limit` + 1, and is read no further.

    `StreamReader.read(n)` is no such thing: it ends with whatever has come so far. Raises aiohttp.ClientError.
    """
    whole = bytearray()
    async for chunk in content.iter_any():
        whole += chunk
        if len(whole) > limit:
            del whole[limit + 1 :]
            break
    return bytes(whole)
