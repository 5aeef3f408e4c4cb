"""How an installation is getting on: its steps, drawn on a terminal, a line each anywhere else."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from cli.terminal import is_terminal
from installer.workflow import Observer, Phase

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_DRAWN_EVERY = 0.1
_TOLD_EVERY = 10.0
"""Seconds between lines about a step that changes with every pod, where nothing is drawn."""
_BUSY = (Phase.AGENTS, Phase.FIRST_RUN, Phase.REMOVAL)


class Progress(Observer):
    """Keeps each step and how long it took. On standard error only: standard output is for results."""

    def __init__(self) -> None:
        self.done: list[tuple[Phase, float]] = []
        self.now: Phase | None = None
        self.text = ""
        self._since = 0.0
        self._told_at = 0.0
        self._on_terminal = is_terminal(sys.stderr)
        self._live: Live | None = None

    def phase(self, phase: Phase) -> None:
        self.finish()
        self.now, self._since, self.text = phase, time.monotonic(), ""

    def detail(self, text: str) -> None:
        if text == self.text or self._on_terminal or self.now is None:
            self.text = text
            return
        self.text = text
        now = time.monotonic()
        if self.now not in _BUSY or now - max(self._told_at, self._since) >= _TOLD_EVERY:
            self._told_at = now
            click.echo(f"{self.now.value}: {text}", err=True)

    def note(self, text: str) -> None:
        if self._live is None:
            click.echo(f"Note: {text}", err=True)
            return
        from rich.text import Text

        self._live.console.print(Text(f"Note: {text}"))  # above what is drawn

    def finish(self) -> None:
        """The step under way has ended well."""
        if self.now is None:
            return
        self.done.append((self.now, time.monotonic() - self._since))
        if not self._on_terminal:
            click.echo(_line(*self.done[-1], self.text if self.now is Phase.AGENTS else ""), err=True)
        self.now = None

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Draw while the block runs, if there is a terminal; what was drawn stays."""
        if not self._on_terminal:
            yield
            return
        from rich.console import Console
        from rich.live import Live

        with Live(self._drawn(), console=Console(stderr=True), auto_refresh=False) as live:
            self._live = live
            drawing = asyncio.create_task(self._draw(live))
            try:
                yield
            finally:
                drawing.cancel()
                self._live = None
                live.update(self._drawn(), refresh=True)

    async def _draw(self, live: "Live") -> None:
        while True:
            await asyncio.sleep(_DRAWN_EVERY)
            live.update(self._drawn(), refresh=True)

    def _drawn(self) -> "RenderableType":
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for phase, seconds in self.done:
            table.add_row(Text("✓", "green"), phase.value, Text(f"{seconds:.1f} s", "dim"), "")
        if self.now is not None:
            passed = f"{time.monotonic() - self._since:.0f} s"
            table.add_row(Text("…", "yellow"), Text(self.now.value, "bold"), Text(passed, "dim"), Text(self.text))
        return table


def _line(phase: Phase, seconds: float, text: str) -> str:
    return f"{phase.value}: done ({seconds:.1f} s)" + (f": {text}" if text else "")
