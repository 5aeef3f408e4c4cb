"""Progress on a terminal, for what takes longer than a second. Says nothing anywhere else."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cli.terminal import is_terminal

_PATIENCE: Final = 1.0  # seconds a person waits without wondering


class Pending:
    """The names of what is still being waited for. Written by the caller, read by the display."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._total = len(names)

    def done(self, name: str) -> None:
        self._names = [other for other in self._names if other != name]

    def text(self, verb: str, seconds: float) -> str:
        waiting = ", ".join(self._names[:4]) + (" …" if len(self._names) > 4 else "")
        return f"{verb} {self._total - len(self._names)}/{self._total}, waiting for {waiting} ({seconds:.0f} s)"


@contextmanager
def waiting(verb: str, names: list[str]) -> Iterator[Pending]:
    """Show what is pending once a second has passed, on standard error if that is a terminal."""
    pending = Pending(names)
    if not is_terminal(sys.stderr):
        yield pending
        return
    finished = threading.Event()
    display = threading.Thread(target=_display, args=(verb, pending, finished), daemon=True)
    display.start()
    try:
        yield pending
    finally:
        finished.set()
        display.join(timeout=_PATIENCE)


def _display(verb: str, pending: Pending, finished: threading.Event) -> None:
    started = time.monotonic()
    if finished.wait(_PATIENCE):
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("") as status:
        while not finished.is_set():
            status.update(pending.text(verb, time.monotonic() - started))
            finished.wait(0.2)
