"""Finding and ending the processes of a cluster, however it was left.

Every process started from outside carries the cluster's state folder in its environment, so a later `down` finds
it without trusting a pid file. What runs inside a stand-in machine dies with that machine's process 1.
"""

import os
import signal
import time
from pathlib import Path

MARK = "EIDOS_TEST_CLUSTER"


def marked(mark: str) -> set[int]:
    """The pids of the living processes that carry `mark`."""
    wanted = f"{MARK}={mark}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # gone, or a kernel thread
        if wanted in environment.split(b"\0"):
            found.add(int(entry.name))
    return found


def alive(pid: int) -> bool:
    """False for a process that is gone or only waits to be reaped; that of a machine has no living child then."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of `pid`: with the pid, a name that is never given again (proc(5))."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(status.rpartition(")")[2].split()[19])


def kill_marked(mark: str, timeout: float = 20.0) -> int:
    """SIGKILLs every process that carries `mark`, waits until they are gone, and says how many there were."""
    deadline = time.monotonic() + timeout
    seen: set[int] = set()
    while True:
        now = marked(mark)
        seen |= now
        for pid in now:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not now and not any(alive(pid) for pid in seen):
            return len(seen)
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes {sorted(now | {pid for pid in seen if alive(pid)})} do not die")
        time.sleep(0.02)
