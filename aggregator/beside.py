"""Work beside the event loop, in a thread, that is over only when the thread has ended."""

import asyncio
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def beside(work: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T:
    """What `work` returns or raises.

    Nobody can end a thread: who is cancelled meanwhile is told so when it has ended, so that what they hold for it (a
    turn, content) is held as long as it is used. Unlike asyncio.to_thread.
    """
    future = asyncio.get_running_loop().run_in_executor(None, functools.partial(work, *args, **keywords))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        future.exception()  # nobody is left to hear it
        raise
