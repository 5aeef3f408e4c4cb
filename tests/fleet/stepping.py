"""One of our programs under a wall clock that steps, as when time is set right on a machine that was far off.

    python -m tests.fleet.stepping agent|aggregator ARGUMENTS…

SIGUSR1 puts the clock two hours forward, SIGUSR2 two hours back. Only what this process reads from time.time() and
time.time_ns() is shifted, and nothing else.
"""

import runpy
import signal
import sys
import time
from types import FrameType

STEP = 7200.0

_real = time.time
_shift = {signal.SIGUSR1: STEP, signal.SIGUSR2: -STEP}


def main() -> None:
    """See the module's docstring."""
    shifted = 0.0

    def step(number: int, frame: FrameType | None) -> None:
        nonlocal shifted
        shifted += _shift[signal.Signals(number)]

    time.time = lambda: _real() + shifted
    time.time_ns = lambda: int((_real() + shifted) * 1e9)
    for number in _shift:
        signal.signal(number, step)
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
