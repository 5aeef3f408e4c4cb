"""Who may do what takes a thread for long: a few at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from common.errors import Code, FleetError

_AT_ONCE: Final = 2
_MOST: Final = 32
"""Who has a turn or waits for one."""


class Turns:
    """Of one kind of request."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._asked = 0

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """A turn, as long as the block runs. Raises FleetError when too many wait already."""
        if self._asked >= _MOST:
            raise FleetError(Code.FLEET_BUSY, "too many wait already for what takes long", "Try again later.")
        self._asked += 1
        try:
            async with self._free:
                yield
        finally:
            self._asked -= 1
