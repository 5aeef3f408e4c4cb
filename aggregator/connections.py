"""Which connections to the HTTP API may stand, so that neither strangers nor users can keep others out.

A newcomer is never turned away: a kubelet whose probes find no room kills the aggregator, and anybody may open
connections. Beyond the limit the oldest connection goes on which nobody has been let in yet. Users' connections are
apart, with as much room of their own; of them the one goes that has asked nothing for longest.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Final, Generic, Protocol, TypeVar

_REASON: Final = "too-many-connections"


class Connection(Protocol):
    """Something that can be dropped; afterwards it reports that it is lost."""

    def drop(self, reason: str) -> None:
        """End it at once, and count why."""


C = TypeVar("C", bound=Connection)


class Connections(Generic[C]):
    """Those of one listener, at most `most` of strangers and as many of users."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._strangers: dict[C, None] = {}  # oldest first
        self._users: set[C] = set()
        self._idle: dict[C, None] = {}  # users' that ask nothing, the longest first

    def __len__(self) -> int:
        """How many stand."""
        return len(self._strangers) + len(self._users)

    def __iter__(self) -> Iterator[C]:
        """All that stand."""
        return chain(self._strangers, self._users)

    def opened(self, connection: C) -> None:
        """Somebody has connected."""
        if len(self._strangers) >= self._most:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.drop(_REASON)
        self._strangers[connection] = None

    def let_in(self, connection: C) -> bool:
        """A user asks something that they may. False when there is no room: all others are at work."""
        self._idle.pop(connection, None)
        if connection not in self._strangers:
            return connection in self._users
        if len(self._users) >= self._most:
            if not self._idle:
                return False
            longest = next(iter(self._idle))
            self.lost(longest)
            longest.drop(_REASON)
        del self._strangers[connection]
        self._users.add(connection)
        return True

    def answered(self, connection: C) -> None:
        """Nothing is asked on it any more."""
        if connection in self._users:
            self._idle[connection] = None

    def lost(self, connection: C) -> None:
        """It stands no longer."""
        self._strangers.pop(connection, None)
        self._users.discard(connection)
        self._idle.pop(connection, None)
