"""How Jobs are getting on: drawn on a terminal while they run, every step said with --debug, else only notes."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import click

from agent.job.workflow import Observer, Phase, Report
from cli.terminal import is_terminal
from cli.text import visible

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_PATIENCE: Final = 0.3  # until then a person does not wonder, and what draws need not be loaded
_DRAWN_EVERY: Final = 0.1


def _say(text: str) -> None:
    click.echo(text, err=True)


class Progress(Observer):
    """Keeps the steps of one run and the latest word of it; with `debug` it says every word."""

    def __init__(self, title: str, debug: bool) -> None:
        self.title = title
        self.seconds: dict[Phase, float] = {}
        """Of the steps that are over."""
        self.now: Phase | None = None
        self.explanation = ""
        self.ended = ""
        """How, once it has."""
        self.say = _say
        self._debug = debug
        self._since = 0.0

    @property
    def so_far(self) -> float:
        """Seconds of the step under way."""
        return time.monotonic() - self._since if self.now else 0.0

    def phase(self, phase: Phase) -> None:
        self._finish()
        self.now, self._since = phase, time.monotonic()
        if self._debug:
            self.say(f"{self.title}: {phase.value}")

    def _finish(self) -> None:
        if self.now:
            self.seconds[self.now] = self.so_far
        self.now = None

    def detail(self, text: str) -> None:
        self.explanation = visible(text)
        if self._debug:
            self.say(f"{self.title}: {self.explanation}")

    def note(self, text: str) -> None:
        self.say(f"Note: {self.title}: {visible(text)}")

    def log(self, line: str) -> None:
        self.explanation = visible(line)
        if self._debug:
            self.say(f"{self.title}: log: {self.explanation}")

    def warn(self, text: str) -> None:
        self.say(f"Warning: {self.title}: {visible(text)}")

    def end(self, how: str) -> None:
        self._finish()
        self.ended, self.explanation = how, ""

    def done(self, report: Report, output: str) -> None:
        """The run is over; where it spent its time is for people only."""
        self.end("done")
        if self._debug or is_terminal(sys.stderr):
            times = ", ".join(f"{phase.value} {seconds:.2f} s" for phase, seconds in report.seconds.items())
            self.say(f"{self.title}: snapshot of {report.node} written to {output} ({times})")


@asynccontextmanager
async def shown(runs: Sequence[Progress]) -> AsyncIterator[None]:
    """Draw on standard error while the block runs, if that is a terminal; nothing of it stays."""
    if not is_terminal(sys.stderr):
        yield
        return
    drawing = asyncio.create_task(_draw(runs))
    try:
        yield
    finally:
        drawing.cancel()
        await asyncio.gather(drawing, return_exceptions=True)


async def _draw(runs: Sequence[Progress]) -> None:
    await asyncio.sleep(_PATIENCE)
    from rich.console import Console
    from rich.live import Live

    def above(text: str) -> None:
        live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        for run in runs:
            run.say = above
        try:
            while True:
                live.update(_steps(runs[0]) if len(runs) == 1 else _rows(runs), refresh=True)
                await asyncio.sleep(_DRAWN_EVERY)
        finally:
            for run in runs:
                run.say = _say


def _steps(run: Progress) -> "Table":
    """One run: all its steps, one below the other."""
    from rich.text import Text

    table = _grid(3)
    for phase in Phase:
        now = phase is run.now
        seconds = run.so_far if now else run.seconds.get(phase)
        table.add_row(
            Text(phase.value, "bold" if now else "" if seconds is not None else "dim"),
            Text("" if seconds is None else f"{seconds:.1f} s", "dim"),
            _cut(run.explanation if now else ""),
        )
    return table


def _rows(runs: Sequence[Progress]) -> "Table":
    """Several runs: a line each, with the step it is at."""
    from rich.text import Text

    table = _grid(4)
    phases = list(Phase)
    for run in runs:
        step = f"{phases.index(run.now) + 1}/{len(phases)} {run.now.value}" if run.now else run.ended
        taken = sum(run.seconds.values()) + run.so_far
        style = "dim" if run.ended else ""
        row = (run.title, step, f"{taken:.1f} s")
        table.add_row(*(Text(cell, style) for cell in row), _cut(run.explanation, style))
    return table


def _grid(columns: int) -> "Table":
    """Without lines. The last column is the one that gives way where the terminal is too narrow."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for _ in range(columns - 1):
        table.add_column(no_wrap=True)
    table.add_column()
    return table


def _cut(text: str, style: str = "") -> "Text":
    """What does not fit the terminal is cut, so that a row stays a row."""
    from rich.text import Text

    return Text(text, style, no_wrap=True, overflow="ellipsis")
