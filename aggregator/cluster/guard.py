"""Notices that somebody touched an object of ours, so that it can be put right at once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

from common.errors import EidosError
from common.kube.client import Kube
from common.kube.types import Metadata
from common.kube.watch import watch

_log: Final = logging.getLogger(__name__)
_AGAIN_AFTER: Final = 5.0
_AT_LEAST: Final = 0.5
"""Seconds between two looks: what is written in pieces is not looked at for each."""


async def guard(
    kube: Kube,
    path: str,
    selector: dict[str, str],
    mend: Callable[[], Awaitable[None]],
    touched: asyncio.Event | None = None,
) -> None:
    """Call `mend` now and whenever an object in the collection `path` was touched, for ever.

    `selector` is a fieldSelector or labelSelector. Errors of `mend` are logged, and it is called again. Whoever wants
    it called for a reason of his own sets `touched`.
    """
    touched = touched or asyncio.Event()
    touched.set()
    noticing = asyncio.get_running_loop().create_task(_notice(kube, path, selector, touched), name=f"guard {path}")
    try:
        while True:
            await touched.wait()
            touched.clear()
            try:
                await mend()
            except (EidosError, OSError) as error:
                _log.error("not mended", extra={"path": path, "selector": selector, "detail": str(error)})
                touched.set()
                await asyncio.sleep(_AGAIN_AFTER)
            await asyncio.sleep(_AT_LEAST)
    finally:
        noticing.cancel()
        await asyncio.gather(noticing, return_exceptions=True)


async def _notice(kube: Kube, path: str, selector: dict[str, str], touched: asyncio.Event) -> None:
    while True:
        try:
            async with aclosing(watch(kube, path, Metadata, selector, metadata_only=True)) as changes:
                async for _ in changes:
                    touched.set()
        except EidosError as error:
            _log.error("not watched", extra={"path": path, "selector": selector, "detail": str(error)})
        await asyncio.sleep(_AGAIN_AFTER)


def named(name: str) -> dict[str, str]:
    """The selector of one object."""
    return {"fieldSelector": f"metadata.name={name}"}
