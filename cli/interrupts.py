"""An event loop whose work is cancelled, not cut off, by the signals that end programs; a Ctrl-C that is not lost."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from common.errors import Code, EidosError

T = TypeVar("T")


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Like asyncio.run, with SIGINT (Ctrl-C), SIGTERM and SIGHUP cancelling the work, which may clean up then.

    Ctrl-C after any of them cancels the cleaning up too, which may still say what it leaves. Raises KeyboardInterrupt
    after Ctrl-C and EidosError (INTERRUPTED) after the others, once the work has ended.
    """
    ended_by: list[signal.Signals] = []

    async def guarded() -> T:
        loop, main = asyncio.get_running_loop(), asyncio.current_task()

        def end(number: signal.Signals) -> None:
            impatient = number == signal.SIGINT and bool(ended_by)
            ended_by.append(number)
            for task in asyncio.all_tasks(loop):
                if impatient or task is main:
                    task.cancel()

        # SIGINT too: the handler of asyncio.run raises KeyboardInterrupt at the second, in the middle of anything.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, end, number)
        return await work()

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        if ended_by[:1] == [signal.SIGINT]:
            raise KeyboardInterrupt from None
        names = ", ".join(number.name for number in dict.fromkeys(ended_by))
        raise EidosError(Code.INTERRUPTED, f"ended by {names}") from None


@contextmanager
def remembered() -> Iterator[Callable[[], None]]:
    """Ctrl-C raises KeyboardInterrupt as ever; the function given raises it again where it was lost on its way.

    Python drops what is raised in destructors and callbacks of weak references, and every import runs some: a program
    that would otherwise stay for good asks in the end. Main thread only.
    """
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
