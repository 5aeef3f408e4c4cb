"""When to renew what lasts for a time."""

import time
from collections.abc import Callable
from typing import Final

_STEP: Final = 10.0
"""Seconds by which the wall clock may have moved on its own: it is kept right in small steps all the time."""


class Renewal:
    """Due every so many seconds, at once when somebody has set the wall clock, and until it was done."""

    def __init__(
        self, every: float, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._every = every
        self._wall = wall
        self._steady = steady
        self.done()

    def done(self) -> None:
        """It was renewed just now."""
        self._due_at = self._steady() + self._every
        self._apart = self._wall() - self._steady()

    def is_due(self) -> bool:
        """Whether it is time, by either clock."""
        moved = abs(self._wall() - self._steady() - self._apart)
        return self._steady() >= self._due_at or moved > _STEP
