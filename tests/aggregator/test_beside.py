"""Work beside the loop: what it gives, and that it is not over before its thread is."""

import asyncio
import threading

import pytest

from aggregator.beside import beside


async def test_what_it_gives() -> None:
    assert await beside(int, "ff", base=16) == 255
    with pytest.raises(ValueError, match="invalid literal"):
        await beside(int, "x")


@pytest.mark.parametrize("fails", [False, True])
async def test_who_is_cancelled_waits_for_the_thread(fails: bool) -> None:
    began, may_end = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        may_end.wait(30)
        if fails:
            raise OSError("nobody hears this")

    task = asyncio.create_task(beside(work))
    await asyncio.to_thread(began.wait, 30)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.05)
    assert not done
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
