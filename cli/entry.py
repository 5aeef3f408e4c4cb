"""Where the console scripts begin: Ctrl-C ends the program quietly from its first moment on.

Importing takes a while on a busy machine, and a KeyboardInterrupt in the middle of it would end in a traceback.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


def main() -> NoReturn:
    """`eidos`."""
    with _ended_by_ctrl_c():
        from cli.main import run
    sys.exit(run())


def plugin() -> NoReturn:
    """The same as a plugin of kubectl, which runs `kubectl-eidos` for `kubectl eidos`."""
    with _ended_by_ctrl_c():
        from cli.main import run
    sys.exit(run(name="kubectl eidos"))


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """As it ends a program that knows nothing of signals; where SIGINT is ignored (nohup) it stays so."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
