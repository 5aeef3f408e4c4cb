"""Finding and ending the processes of a cluster, however it was left.

Every process started from outside carries the cluster's state folder in its environment, so a later `down` finds
it without trusting a pid file. What runs inside a stand-in machine dies with that machine's process 1.
"""

import os
import signal
import time
from pathlib import Path

MARK = "EIDOS_TEST_CLUSTER"
# PF_EXITING in the kernel's include/linux/sched.h.
_EXITING = 0x4


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


def _status(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat (proc(5)) from the third, the state, on; None when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def alive(pid: int) -> bool:
    """False for a process that is gone, only waits to be reaped, or is on its way out and runs no more.

    Its first thread may be on its way out while another still ends what it does in the kernel.
    """
    fields = _status(pid)
    return fields is not None and not (int(fields[6]) & _EXITING and int(fields[17]) <= 1)


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of `pid`: with the pid, a name that is never given again."""
    fields = _status(pid)
    return None if fields is None else int(fields[19])


def _is_wrapper(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() in ("nsenter", "unshare")
    except OSError:
        return False


def kill_marked(mark: str, timeout: float = 60.0) -> int:
    """SIGKILLs every process that carries `mark`, waits until they are gone, and says how many there were.

    What only waits for its child is spared at first: it reaps the child and then ends by itself.
    """
    begun = time.monotonic()
    seen: set[int] = set()
    while True:
        now = marked(mark)
        seen |= now
        for pid in now:
            if _is_wrapper(pid) and time.monotonic() < begun + 5:
                continue
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        left = now | {pid for pid in seen if alive(pid)}
        if not left:
            return len(seen)
        if time.monotonic() > begun + timeout:
            raise RuntimeError(f"processes {sorted(left)} do not die")
        time.sleep(0.02)
