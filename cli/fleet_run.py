"""A run from the caller's side: started, followed with its progress on a terminal, its document fetched."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from cli.terminal import is_terminal
from cli.text import visible
from common.errors import Code, FleetError
from common.fleet import FleetSnapshot
from common.fleet_api import Progress, RunBody, RunState

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cli.fleet_client import FleetClient

_COLOUR: Final = {"ok": "green", "partial": "yellow"}
_LONGEST: Final = 3
_DRAWN_EVERY: Final = 0.1


async def take(client: "FleetClient", body: RunBody) -> tuple[FleetSnapshot, Progress]:
    """A fleet snapshot taken now, and how its run ended; its progress is drawn. Raises EidosError."""
    async with _display() as display:
        return await take_quietly(client, body, display.hear)


async def take_quietly(
    client: "FleetClient", body: RunBody, hear: Callable[[Progress], None]
) -> tuple[FleetSnapshot, Progress]:
    """The same, for callers who show the progress themselves."""
    last: Progress | None = None
    async for last in client.run(body):
        hear(last)
    if last is None or last.state not in (RunState.DONE, RunState.FAILED):
        raise FleetError(Code.FLEET_FAILED, "the aggregator stopped in the middle of the run", "Try again.")
    try:
        return await client.run_snapshot(last.run), last  # of a failed run this says why
    except FleetError as error:
        if error.code is not Code.FLEET_NOT_FOUND:
            raise
        # The aggregator keeps few documents, and others have had so many made since this run's end.
        return await client.run_and_wait(body), last


class _Display:
    """Holds the latest progress and draws it while the run goes on."""

    def __init__(self) -> None:
        self.progress: Progress | None = None

    def hear(self, progress: Progress) -> None:
        self.progress = progress

    async def draw(self) -> None:
        """Until cancelled."""
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
            while True:
                if self.progress is not None:
                    live.update(drawn(self.progress), refresh=True)
                await asyncio.sleep(_DRAWN_EVERY)


@asynccontextmanager
async def _display() -> AsyncIterator[_Display]:
    """Draws on standard error if that is a terminal."""
    display = _Display()
    if not is_terminal(sys.stderr):
        yield display
        return
    drawing = asyncio.get_running_loop().create_task(display.draw(), name="progress")
    try:
        yield display
    finally:
        drawing.cancel()
        await asyncio.gather(drawing, return_exceptions=True)  # what it drew is wiped before others write


def drawn(progress: Progress) -> "RenderableType":
    """Answered and expected, the states so far, who is slowest, what fails and why."""
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{progress.state.value}  ", "bold")
    text.append(f"{progress.answered}/{progress.expected} nodes answered")
    for state, count in progress.states.items():
        text.append(f"  {state} {count}", _COLOUR.get(state, "red"))
    text.append(f"  {progress.seconds:.1f} s", "dim")
    if progress.waiting:
        more = progress.awaited - len(progress.waiting)
        names = ", ".join(visible(name) for name in progress.waiting)
        text.append(f"\nslowest: {names}" + (f" and {more} more" if more > 0 else ""), "dim")
    for reason, count in list(progress.reasons.items())[:_LONGEST]:
        text.append(f"\nfailing: {visible(reason)} on {count}", "yellow")
    return text
