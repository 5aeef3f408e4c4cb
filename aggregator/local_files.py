"""Files of a local fleet: read as somebody may have left them, and written so that nobody sees half of one."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from common.errors import Code, InputError


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
