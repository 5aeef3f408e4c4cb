"""Objects of one kind with versions, and what became of them lately. Pure but for the clock that numbers begin at.

Versions are numbers that only grow, those of a later leader included: they begin at its first look in microseconds,
and no collection changes a million times a second for long. What a list showed at a version can be read on, page by
page, and what changed after a version can be replayed, as long as either is kept; then the answer is `ExpiredError`
and never something that is nearly right.
"""

import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

_FEWEST_EVENTS: Final = 10_000
_LISTS: Final = 8
"""Lists that are kept for those who read them in pages."""


class ExpiredError(Exception):
    """What was asked for is no longer, or was never, known here."""


class Stored(NamedTuple, Generic[T]):
    """One object as it was from one version on."""

    version: int
    name: str
    labels: Mapping[str, str]
    value: T


class Event(NamedTuple, Generic[T]):
    """A change: what was before, what is after; None where there was or is nothing."""

    version: int
    before: Stored[T] | None
    after: Stored[T] | None


class Current(NamedTuple, Generic[T]):
    """One object as it is now."""

    labels: Mapping[str, str]
    value: T


class Collection(Generic[T]):
    """The objects of one kind."""

    def __init__(self) -> None:
        self.version = 0
        self._items: dict[str, Stored[T]] = {}
        self._sorted: tuple[Stored[T], ...] | None = ()
        self._events: list[Event[T]] = []
        self._before = 0
        """The version after which all events are kept."""
        self._lists: OrderedDict[int, tuple[Stored[T], ...]] = OrderedDict()

    def get(self, name: str) -> Stored[T] | None:
        """One object."""
        return self._items.get(name)

    def update(self, current: Mapping[str, Current[T]]) -> bool:
        """Make these the objects; whether that changes any."""
        if not self.version:  # not sooner: who made this may have stood by for long
            self.version = self._before = int(time.time() * 1e6)
        before = self.version
        for name in [name for name in self._items if name not in current]:
            self._note(self._items.pop(name), None)
        for name, (labels, value) in current.items():
            known = self._items.get(name)
            if known is not None and known.value is value and known.labels is labels:
                continue  # at once: most objects are the same most of the time
            if known is None or known.value != value or known.labels != labels:
                self._items[name] = self._note(known, Stored(self.version + 1, name, labels, value))
        if self.version == before:
            return False
        self._sorted = None
        most = max(_FEWEST_EVENTS, 4 * len(self._items))
        if len(self._events) > 2 * most:
            self._before = self._events[-most - 1].version
            del self._events[:-most]
        return True

    def _note(self, before: Stored[T] | None, after: Any) -> Any:
        self.version += 1
        self._events.append(Event(self.version, before, after))
        return after

    def all(self) -> tuple[Stored[T], ...]:
        """Every object, by name."""
        if self._sorted is None:
            self._sorted = tuple(sorted(self._items.values(), key=lambda item: item.name))
        return self._sorted

    def keep_list(self, version: int) -> None:
        """Somebody goes on to read the list of that version in pages: keep it as it was."""
        self._lists[version] = self.list_at(version)
        self._lists.move_to_end(version)
        while len(self._lists) > _LISTS:
            self._lists.popitem(last=False)

    def list_at(self, version: int) -> tuple[Stored[T], ...]:
        """Every object as it was. Raises ExpiredError."""
        if version == self.version:
            return self.all()
        kept = self._lists.get(version)
        if kept is None:
            raise ExpiredError(f"the list at version {version} is no longer kept")
        return kept

    def since(self, version: int) -> Sequence[Event[T]]:
        """What changed after a version. Raises ExpiredError."""
        if not self._before <= version <= self.version:
            raise ExpiredError(f"the changes since version {version} are not known")
        return self._events[bisect_right(self._events, version, key=lambda event: event.version) :]
