"""What the server is known by, whoever signs it."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

Pair: TypeAlias = tuple[bytes, bytes]
"""A certificate (with its intermediates) and its key, PEM."""
Renewed: TypeAlias = Callable[[Pair], Awaitable[None]]
"""Told of each new pair; the bundle may be another then, too."""


class Certificates(Protocol):
    """Where the server's certificate comes from."""

    @property
    def bundle(self) -> bytes:
        """The authorities that agents and the API server are to trust, PEM. Known once loaded."""

    async def load(self) -> Pair:
        """What to serve with now. Raises EidosError."""

    async def borrow(self) -> Pair | None:
        """What a standby serves with, when that is new; None also when there is nothing yet. Raises EidosError."""

    async def follow(self, renewed: Renewed) -> None:
        """Keep it good, for ever."""
