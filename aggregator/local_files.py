"""Files of a local fleet: read as somebody may have left them, and written so that nobody sees half of one."""

import fcntl
import os
import secrets
import weakref
from contextlib import suppress
from pathlib import Path

from common.errors import Code, InputError, UsageError


def write_whole(path: Path, content: bytes, mode: int = 0o600, *, lasting: bool = True) -> None:
    """Write so that a reader sees the old content or the new, and nothing else is left. Raises OSError.

    `lasting` content also survives a crash of the machine, which takes the disk's time.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if lasting:
                file.flush()
                os.fsync(descriptor)
        os.replace(new, path)
    except OSError:
        with suppress(OSError):  # the error that brought us here is the one to report
            new.unlink()
        raise


class DirectoryLock:
    """Keeps others out of a directory, until it is released or this process ends, however that happens."""

    def __init__(self, directory: Path) -> None:
        """Raises UsageError when somebody else has it, OSError."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.release = weakref.finalize(self, os.close, descriptor)
        """Let others in."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise UsageError(
                f"another aggregator serves {directory}", "End that one, or name another directory."
            ) from error


def kept(path: Path) -> bytes | None:
    """What a file holds; None without one. Raises OSError."""
    return path.read_bytes() if path.exists() else None


def kept_token(path: Path) -> str:
    """The token in a file; a new one where there is none, or only white space. Raises InputError, OSError."""
    content = kept(path) or b""
    token = content.decode("ascii", "replace").strip()
    if not token:
        return secrets.token_urlsafe(32)
    if not content.isascii() or not token.isprintable() or " " in token:
        raise InputError(Code.INPUT_MALFORMED, f"{path} holds no token", "Delete it, and a new one is made.")
    return token
