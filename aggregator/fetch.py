"""Getting content from the agents that hold it: each digest once, from one holder, from another if that one fails.

A section is complete when its manifest and all its subtypes are here; nodes wait for sections, not for subtypes, so a
thousand nodes waiting for the same section are a thousand entries and not fifty thousand. No I/O: the hub passes
frames in and out, and calls `ask` and `tick`.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import Final, Generic, Protocol, TypeVar

from aggregator.blobs import StoreFullError
from aggregator.catalog import Catalog
from common.canonical import Domain
from common.wire import MAX_DIGESTS, Blobs, Closed, FrameError, Want

PATIENCE: Final = 2.0
"""Seconds after which another holder is asked."""
MOST_ASKED: Final = 1024
"""Digests asked for and not yet answered, over all agents: bounds what may arrive at once."""


class Holder(Protocol):
    """An agent's link."""

    @property
    def schema(self) -> int:
        """The schema version its digests are under."""

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""

    def send(self, message: Want) -> None:
        """Ask; never waits."""


H = TypeVar("H", bound=Holder)
N = TypeVar("N", bound=Hashable)
Key = tuple[Domain, int, bytes]
"""Kind of content, schema version, digest: a digest claimed for the wrong kind spoils nobody else's."""


class _Need(Generic[H, N]):
    """One piece of content that is not here, or a section of which something is not here."""

    __slots__ = ("asked", "asked_at", "children", "holders", "key", "open", "parents", "tried", "waiting")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.holders: dict[H, None] = {}  # in the order they are asked
        self.tried: set[H] = set()
        self.waiting: set[N] = set()
        self.parents: list[_Need[H, N]] = []
        self.children: list[_Need[H, N]] = []
        self.open = 0  # pieces not here: itself, and for a section its subtypes
        self.asked: H | None = None
        self.asked_at = 0.0


class Fetcher(Generic[H, N]):
    """What is missing, and from whom it was asked. `on_ready` hears of every waiter that lacks nothing any more."""

    def __init__(self, catalog: Catalog, on_ready: Callable[[N], None]) -> None:
        self._catalog = catalog
        self._on_ready = on_ready
        self._needs: dict[Key, _Need[H, N]] = {}
        self._lacking: dict[N, set[Key]] = {}
        self._asked: dict[H, dict[bytes, Key]] = {}
        self._queue: dict[Key, None] = {}
        self._whole: set[Key] = set()  # sections known to be complete
        self._slow: set[H] = set()  # did not answer in time; asked only when nobody else can be
        self._in_flight = 0

    def __len__(self) -> int:
        return len(self._needs)

    @property
    def in_flight(self) -> int:
        """Pieces asked for and not yet answered."""
        return self._in_flight

    @property
    def has_questions(self) -> bool:
        """Whether `ask` would find something to ask for."""
        return bool(self._queue) and self._in_flight < MOST_ASKED

    def await_content(self, waiter: N, holder: H, digests: Iterable[tuple[Domain, bytes]]) -> bool:
        """Have everything under these digests fetched for a waiter. True when nothing is missing.

        A waiter waits for one set of digests at a time: an earlier one is given up.
        """
        lacking: set[Key] = set()
        for domain, digest in digests:
            need = self._need((domain, holder.schema, digest))
            if need is not None:
                need.holders[holder] = None
                need.waiting.add(waiter)
                lacking.add(need.key)
                self._requeue(need, holder)
        self.give_up(waiter, lacking)
        if lacking:
            self._lacking[waiter] = lacking
        return not lacking

    def give_up(self, waiter: N, but: Iterable[Key] = ()) -> None:
        """Nothing more is fetched for this waiter, unless another waits for it too."""
        for key in self._lacking.pop(waiter, set()).difference(but):
            need = self._needs.get(key)
            if need is not None:
                need.waiting.discard(waiter)
                self._drop_if_idle(need)

    def gone(self, holder: H) -> None:
        """The holder's link is down: what it was asked for is asked of others."""
        self._slow.discard(holder)
        for key in self._asked.pop(holder, {}).values():
            if (need := self._needs.get(key)) is not None:
                self._landed(need)
                self._queue[key] = None

    def content_dropped(self) -> None:
        """Content was dropped from the catalog: sections that were complete may no longer be."""
        self._whole.clear()

    def received(self, holder: H, blobs: Blobs) -> int:
        """Take in what a holder sent. Raises FrameError when it is wrong or was not asked for.

        Returns how many pieces there was no room for: their waiters stay incomplete, and say so at their run's
        deadline.
        """
        refused = 0
        self._slow.discard(holder)
        asked = self._asked.get(holder, {})
        for blob in blobs.blobs:
            key = asked.pop(blob.digest, None)
            if key is None:
                raise FrameError(Closed.OUT_OF_TURN, "content that was not asked for")
            need = self._needs.get(key)
            if need is None or need.open == 0 or self._catalog.has(key[0], key[2]):
                continue  # nobody waits for it any more, or another holder was faster
            self._landed(need)
            try:
                self._catalog.add(key[0], blob.digest, blob.compressed, key[1])
            except StoreFullError:
                refused += 1
                continue
            except FrameError:
                self._queue[key] = None  # others may hold what this one does not
                raise
            self._arrived(need)
        for digest in blobs.missing:
            if (key := asked.pop(digest, None)) and (need := self._needs.get(key)) is not None:
                need.holders.pop(holder, None)
                self._landed(need)
                self._queue[key] = None
        return refused

    def tick(self, now: float) -> None:
        """Have others asked for what was not answered in time."""
        for need in self._needs.values():
            if need.asked is not None and now - need.asked_at > PATIENCE:
                self._slow.add(need.asked)
                self._landed(need)
                self._queue[need.key] = None

    def ask(self, now: float) -> None:
        """Ask for what is queued, as much as may be in flight at once. No holder is asked twice for a digest."""
        wants: dict[H, list[bytes]] = {}
        for key in list(self._queue):
            if self._in_flight >= MOST_ASKED:
                break
            del self._queue[key]
            need = self._needs.get(key)
            holder = self._next_holder(need) if need is not None else None
            if need is None or holder is None:
                continue  # queued again when somebody else reports it
            need.tried.add(holder)
            need.asked, need.asked_at = holder, now
            self._in_flight += 1
            self._asked.setdefault(holder, {})[key[2]] = key
            wants.setdefault(holder, []).append(key[2])
        for holder, digests in wants.items():
            for start in range(0, len(digests), MAX_DIGESTS):
                holder.send(Want(digests[start : start + MAX_DIGESTS]))

    def _need(self, key: Key) -> _Need[H, N] | None:
        """What is missing of this content, or None when nothing is."""
        if key in self._whole:
            return None
        need = self._needs.get(key)
        if need is not None:
            return need
        domain, _, digest = key
        here = self._catalog.has(domain, digest)
        if here and domain is not Domain.SECTION:
            return None
        need = self._needs[key] = _Need(key)
        if here:
            self._expand(need)
            if need.open == 0:
                del self._needs[key]
                self._whole.add(key)
                return None
        else:
            need.open = 1
            self._queue[key] = None
        return need

    def _expand(self, section: _Need[H, N]) -> None:
        """A section's manifest is here: its subtypes are needed."""
        _, schema, digest = section.key
        for subtype in set(self._catalog.manifest(digest).subtypes.values()):
            child = self._need((Domain.SUBTYPE, schema, subtype))
            if child is not None:
                child.parents.append(section)
                section.children.append(child)
                section.open += 1

    def _arrived(self, need: _Need[H, N]) -> None:
        if need.key[0] is Domain.SECTION:
            self._expand(need)
        self._piece_done(need)

    def _piece_done(self, need: _Need[H, N]) -> None:
        need.open -= 1
        if need.open:
            return
        del self._needs[need.key]
        if need.key[0] is Domain.SECTION:
            self._whole.add(need.key)
        for waiter in need.waiting:
            lacking = self._lacking[waiter]
            lacking.discard(need.key)
            if not lacking:
                del self._lacking[waiter]
                self._on_ready(waiter)
        for parent in need.parents:
            self._piece_done(parent)

    def _next_holder(self, need: _Need[H, N]) -> H | None:
        slow = None
        for candidates in (need.holders, *(parent.holders for parent in need.parents)):
            for holder in list(candidates):
                if not holder.alive:
                    del candidates[holder]
                elif holder not in need.tried:
                    if holder not in self._slow:
                        return holder
                    slow = slow or holder
        return slow

    def _requeue(self, need: _Need[H, N], holder: H) -> None:
        """A holder (again) says that it has this: what of it is neither in flight nor queued can be asked of it.

        Unless it still owes the answer to an earlier question: then that is awaited.
        """
        owed = self._asked.get(holder, {})
        for piece in need.children or [need]:
            if piece.asked is None and piece.key in self._needs:
                self._queue[piece.key] = None
                if piece.key[2] not in owed:
                    piece.tried.discard(holder)

    def _landed(self, need: _Need[H, N]) -> None:
        if need.asked is not None:
            need.asked = None
            self._in_flight -= 1

    def _drop_if_idle(self, need: _Need[H, N]) -> None:
        if need.waiting or need.parents:
            return
        if self._needs.pop(need.key, None) is None:
            return
        self._landed(need)
        self._queue.pop(need.key, None)
        for child in need.children:
            if need in child.parents:
                child.parents.remove(need)
            self._drop_if_idle(child)
