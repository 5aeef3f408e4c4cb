"""One build at a time, and lines on stderr that say what takes so long."""

import fcntl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tests.cluster.paths import cache_root

T = TypeVar("T")


def say(text: str) -> None:
    print(f"cluster: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Says that `what` begins, and how long it took."""
    say(f"{what} ...")
    begun = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - begun:.0f} s")


def tried_again(work: Callable[[], T], trouble: type[Exception] = RuntimeError) -> T:
    """What `work` returns, for work that downloads, which breaks off now and then: it is begun up to three times."""
    for _ in range(2):
        try:
            return work()
        except trouble as error:
            say(f"begins anew after this: {str(error)[-500:]}")
    return work()


@contextmanager
def build_lock(what: str = "build") -> Iterator[None]:
    """Held while anything is built, installed or cleared away, by one process of the machine at a time.

    Each `what` is a lock of its own; who holds one may take another, never the same again.
    """
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{what}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is at it ({what}); waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
