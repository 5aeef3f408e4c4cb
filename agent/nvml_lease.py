"""Who is talking to the driver now, and whether it still answers: a locked file all processes of a node share.

Before NVML is asked the lock is taken (flock, which ends with its holder and needs no process id) and the moment the
answer is due is written down. Whoever finds the lock held past that moment knows, without starting a process of its
own, that the driver hangs, in which call, and what the holder had learnt before. The lock belongs to an open file
that parent and child share: the parent takes it, the child lets go, and a parent that dies changes nothing.

File: one padded line `<deadline> <call> <gpu>`, then JSON, PCI bus id to the text of the GPU's information file.
Imported by the child as well, so it imports next to nothing.
"""

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

FILE_NAME: Final = "nvml.lock"
_LINE: Final = 128
_LIMIT: Final = 1 << 18
_PAUSE: Final = 0.02


class Record(NamedTuple):
    """What the file says. All fields are empty or zero when it says nothing usable."""

    deadline: float = 0.0
    """time.monotonic() (one clock for the whole machine) by which the answer was due."""
    call: str = ""
    gpu: int | None = None
    information: dict[str, str] = {}  # noqa: RUF012 - a default that is never changed


def parse_record(content: bytes) -> Record:
    """What a lease file says; anything unusable in it counts as not said."""
    words = content[:_LINE].decode("utf-8", "replace").split()
    try:
        deadline = float(words[0])
        gpu = int(words[2]) if len(words) > 2 else None
    except (IndexError, ValueError):
        return Record()
    if not 0 < deadline < 1e12:
        return Record()
    try:
        information = json.loads(content[_LINE:] or b"{}")
    except (ValueError, RecursionError):
        information = {}
    if not isinstance(information, dict):
        information = {}
    texts = {name: text for name, text in information.items() if isinstance(text, str)}
    return Record(deadline, words[1] if len(words) > 1 else "", gpu, texts)


class Holder:
    """The child's side: says what it is doing, and lets go. A descriptor of -1 means there is no lease."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._deadline = 0.0

    def begin(self, deadline: float) -> None:
        """Note when the answer is due. The parent has taken the lock already."""
        self._deadline = deadline

    def note(self, call: str, gpu: int | None) -> None:
        """Note the call that is about to be made."""
        if self._descriptor >= 0:
            os.pwrite(self._descriptor, _line(self._deadline, call, gpu), 0)

    def keep(self, information: Mapping[str, str]) -> None:
        """Note what has been learnt, for whoever finds us hanging."""
        if self._descriptor >= 0:
            os.pwrite(self._descriptor, json.dumps(dict(information)).encode()[:_LIMIT], _LINE)

    def end(self) -> None:
        """Let go: the answer is complete."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)


def _line(deadline: float, call: str, gpu: int | None) -> bytes:
    text = f"{deadline:.3f} {call or '-'}{'' if gpu is None else f' {gpu}'}"
    return text.encode()[: _LINE - 1].ljust(_LINE - 1) + b"\n"


class Lease:
    """The parent's side of the file; `descriptor` is inherited by the child.

    The lock lives as long as either has it open, so the parent closes its side once it has given up.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def acquire(self, deadline: float) -> bool:
        """Take the lock and note that an answer is due by `deadline`; False when the driver hangs.

        Waits for a holder whose own answer is not overdue, but never longer than `deadline`.
        """
        overdue = False
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                now = time.monotonic()
                due = self.record().deadline
                # Seen twice: a holder that has just taken the lock may not have written its own moment yet.
                if now >= deadline or (overdue and 0 < due <= now):
                    return False
                overdue = 0 < due <= now
                time.sleep(max(0.0, min(_PAUSE, deadline - now)))
                continue
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, _line(deadline, "start", None), 0)
            return True

    def record(self) -> Record:
        """What the holder wrote last; still to be had after `close`."""
        try:
            with open(self._path, "rb") as file:
                return parse_record(file.read(_LIMIT + _LINE))
        except OSError:
            return Record()

    def close(self) -> None:
        """Close our side."""
        os.close(self.descriptor)


def open_lease(directories: Iterable[str]) -> Lease | None:
    """The lease in the first directory that can be used; None when none can, and then nothing is shared."""
    for directory in directories:
        with contextlib.suppress(OSError):
            _own_directory(directory)
            return Lease(os.path.join(directory, FILE_NAME))
    return None


def _own_directory(directory: str) -> None:
    """Make the directory, or make sure that it is ours: others may write to the one above it."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        found = os.lstat(directory)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise PermissionError(directory) from None
