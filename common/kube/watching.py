"""Several collections watched at the same time, for whoever waits until they show something. Nothing is polled."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Protocol, TypeVar

from common.errors import ClusterError, Code
from common.kube.call import Params
from common.kube.client import Kube
from common.kube.errors import KubeError
from common.kube.types import ObjectMeta
from common.kube.watch import ChangeKind, Reset, watch


class _Object(Protocol):
    @property
    def metadata(self) -> ObjectMeta: ...


T = TypeVar("T", bound=_Object)


class Watching:
    """Hands every object and change to whoever asked for it, and tells that something is new."""

    def __init__(self, kube: Kube) -> None:
        self.changed = asyncio.Event()
        """Set with each change; whoever waits clears it."""
        self.trouble: ClusterError | None = None
        """Why a watch has ended that was needed."""
        self._kube = kube
        self._watches: list[Callable[[], Coroutine[None, None, None]]] = []

    def add(
        self,
        path: str,
        kind: type[T],
        take: Callable[[T, bool], None],
        params: Params | None = None,
        *,
        needed: bool = True,
    ) -> None:
        """Watch a collection, once running. `take` is given each object, and whether it is gone.

        One that is not `needed` may be forbidden, and the rest goes on.
        """
        self._watches.append(lambda: self._watch(path, kind, take, params or {}, needed))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch while the block runs."""
        tasks = [asyncio.create_task(begin()) for begin in self._watches]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def wait(self, seconds: float) -> None:
        """Until something has changed, or so long."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self.changed.wait()
        except TimeoutError:
            return

    async def _watch(
        self, path: str, kind: type[T], take: Callable[[T, bool], None], params: Params, needed: bool
    ) -> None:
        known: dict[str, T] = {}
        try:
            async with aclosing(watch(self._kube, path, kind, params)) as changes:
                async for change in changes:
                    if isinstance(change, Reset):
                        now = {item.metadata.uid: item for item in change.items}
                        for item in (item for uid, item in known.items() if uid not in now):
                            take(item, True)
                        for item in change.items:
                            take(item, False)
                        known = now
                    elif change.kind is ChangeKind.DELETED:
                        known.pop(change.item.metadata.uid, None)
                        take(change.item, True)
                    else:
                        known[change.item.metadata.uid] = change.item
                        take(change.item, False)
                    self.changed.set()
        except KubeError as error:
            if not needed and error.code is Code.CLUSTER_FORBIDDEN:
                return
            self.trouble = error
            self.changed.set()
