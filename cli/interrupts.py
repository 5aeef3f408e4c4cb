"""An event loop whose work is cancelled, not cut off, by the signals that end programs."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from common.errors import Code, EidosError

T = TypeVar("T")


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Like asyncio.run, and SIGTERM and SIGHUP cancel the work as Ctrl-C does.

    Raises KeyboardInterrupt after Ctrl-C and EidosError (INTERRUPTED) after the others, once the work has ended.
    """
    ended_by: list[signal.Signals] = []

    async def guarded() -> T:
        main = asyncio.current_task()

        def end(number: signal.Signals) -> None:
            ended_by.append(number)
            if main is not None:
                main.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, end, number)
        return await work()

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        names = ", ".join(number.name for number in ended_by)
        raise EidosError(Code.INTERRUPTED, f"ended by {names}") from None
