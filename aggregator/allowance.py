"""How often strangers may have somebody else asked."""

from collections.abc import Callable


class Allowance:
    """So many at once, and so many a second after that."""

    def __init__(self, most: int, a_second: float, monotonic: Callable[[], float]) -> None:
        self._most, self._a_second, self._monotonic = float(most), a_second, monotonic
        self._left, self._counted_at = self._most, monotonic()

    def take(self) -> bool:
        """Whether there is one left; then it is used."""
        now = self._monotonic()
        self._left = min(self._most, self._left + (now - self._counted_at) * self._a_second)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
