"""What signals do to work that cleans up behind itself."""

import asyncio
import signal

import pytest

from cli import interrupts
from common.errors import Code, EidosError


class Work:
    """Waits for ever, and cleans up for ever once it is cancelled; it hears `signals`, one at each wait."""

    def __init__(self, *signals: signal.Signals) -> None:
        self._signals = list(signals)
        self.said: list[str] = []

    async def __call__(self) -> None:
        try:
            await self._wait()
        finally:
            cleaning = asyncio.create_task(self._wait())
            await self._until_done(cleaning)

    async def _wait(self) -> None:
        """Until cancelled; then a few steps more, as closing a connection takes."""
        try:
            self._next_signal()
            await asyncio.Event().wait()
        finally:
            self._next_signal()
            await asyncio.sleep(0)

    def _next_signal(self) -> None:
        if self._signals:
            asyncio.get_running_loop().call_soon(signal.raise_signal, self._signals.pop(0))

    async def _until_done(self, cleaning: "asyncio.Task[None]") -> None:
        while True:
            try:
                await asyncio.shield(cleaning)
            except asyncio.CancelledError:
                if cleaning.done():
                    self.said.append("what is left")
                    raise


@pytest.mark.parametrize("times", [3, 4, 5, 8])
@pytest.mark.filterwarnings("error")
def test_ctrl_c_again_and_again(times: int, caplog: pytest.LogCaptureFixture) -> None:
    work = Work(*[signal.SIGINT] * times)
    with pytest.raises(KeyboardInterrupt) as caught:
        interrupts.run(work)
    assert work.said == ["what is left"]
    assert caught.value.__suppress_context__  # nothing was raised in the middle of the work
    assert not caplog.records
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_cuts_the_cleanup_short_that_another_signal_began() -> None:
    work = Work(signal.SIGTERM, signal.SIGTERM, signal.SIGINT)
    with pytest.raises(EidosError, match=r"^ended by SIGTERM, SIGINT$") as caught:
        interrupts.run(work)
    assert caught.value.code is Code.INTERRUPTED
    assert work.said == ["what is left"]


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, EidosError), (signal.SIGHUP, EidosError)],
)
def test_one_signal_lets_the_work_clean_up(number: signal.Signals, error: type[BaseException]) -> None:
    cleaned: list[bool] = []

    async def work() -> None:
        try:
            signal.raise_signal(number)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    with pytest.raises(error):
        interrupts.run(work)
    assert cleaned == [True]


def test_an_interrupt_that_python_dropped_is_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    dropped: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: dropped.append(unraisable.exc_type))
    before = signal.getsignal(signal.SIGINT)
    with interrupts.remembered() as check:
        check()
        Deaf()
        assert dropped == [KeyboardInterrupt]
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is before
