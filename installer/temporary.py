"""An installation for the length of a block, for clusters that allow nothing resident."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

from common.errors import ClusterError
from common.kube.client import Kube
from common.kube.errors import KubeError
from installer.objects import Item
from installer.removal import uninstall
from installer.rendering import Manifest
from installer.settings import Settings
from installer.workflow import Observer, Plan, Report, carry_out, in_the_way, prepare

if TYPE_CHECKING:
    from common.kube.target import Target

_REMOVAL_SECONDS: Final = 90.0
_CLAIM: Final = "eidos.nvidia.com/ephemeral"
"""On the object that is made first: whose installation it is."""


@asynccontextmanager
async def installed(
    target: "Target", settings: Settings, observer: Observer, seconds: float
) -> AsyncIterator[Report]:
    """Install, and remove everything when the block ends, however it ends. Cancellation waits for the removal.

    Raises ClusterError; when the removal fails too, its hint says what is left.
    """
    deadline = time.monotonic() + seconds
    async with Kube(target, deadline=deadline) as kube:
        plan = await prepare(kube, settings, observer, temporary=True)
        claimed = asyncio.create_task(_claim(kube, plan))
        try:
            # Whether it was made decides whether anything may be removed, so that is always found out.
            await asyncio.shield(claimed)
            yield await carry_out(kube, plan, observer, deadline)
        except BaseException as error:
            if not await _was_claimed(claimed):
                raise
            trouble = await _remove(target, plan, observer)
            if trouble is not None and isinstance(error, ClusterError):
                hint = " ".join(part for part in (error.hint, f"Also {trouble}") if part)
                raise ClusterError(error.code, error.message, hint) from error
            if trouble is not None:
                observer.note(str(trouble))
            raise
        if (trouble := await _remove(target, plan, observer)) is not None:
            raise trouble


async def _claim(kube: Kube, plan: Plan) -> None:
    """Create one object that belongs to no namespace: of two that install at the same time one is refused."""
    item, mark = plan.of("ClusterRole")[0], token_hex(8)
    annotations = {**item.manifest["metadata"].get("annotations", {}), _CLAIM: mark}
    marked = {**item.manifest, "metadata": {**item.manifest["metadata"], "annotations": annotations}}
    try:
        await kube.create(item.path.rpartition("/")[0], marked, dict[str, Any])
    except KubeError as error:
        # It may have been made although its answer was lost, also before it was tried again.
        if await _bears(kube, item, mark):
            return
        if error.reason == "AlreadyExists":
            raise in_the_way(str(item)) from error
        raise


async def _bears(kube: Kube, item: Item, mark: str) -> bool:
    """Whether the object is there and was made by us, rather than by another who installs."""
    try:
        there: Manifest = await kube.get(item.path, dict[str, Any])
    except KubeError:
        return False
    return bool(there["metadata"].get("annotations", {}).get(_CLAIM) == mark)


async def _was_claimed(claimed: "asyncio.Task[None]") -> bool:
    await asyncio.wait([claimed])
    return not claimed.cancelled() and claimed.exception() is None


async def _remove(target: "Target", plan: Plan, observer: Observer) -> ClusterError | None:
    """Remove in a time of its own, which cancellation does not cut short."""
    task = asyncio.create_task(_remove_within(target, plan, observer))
    cancelled = False
    while True:
        try:
            trouble = await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():
                observer.note("the removal was cut short; eidos fleet uninstall removes what is left")
                raise
            observer.note("still removing what was installed; this takes a moment")
            cancelled = True
        else:
            break
    if cancelled and trouble is None:
        raise asyncio.CancelledError
    return trouble


async def _remove_within(target: "Target", plan: Plan, observer: Observer) -> ClusterError | None:
    namespace, was_there = plan.settings.namespace, any(item.path in plan.found for item in plan.of("Namespace"))
    async with Kube(target, deadline=time.monotonic() + _REMOVAL_SECONDS) as kube:
        try:
            await uninstall(kube, namespace, observer, _REMOVAL_SECONDS, keep_namespace=was_there)
        except ClusterError as error:
            return error
    return None
