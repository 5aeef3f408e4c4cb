"""Writing of whole results to files and to standard output, with nothing half-written left behind."""

import errno
import os
import re
import stat
import sys
from contextlib import suppress
from typing import Final

from common.errors import OutputError

_NEW_FILE: Final = 0o644
_DESCRIPTOR: Final = re.compile(r"(?:/dev/fd|/proc/self/fd)/([0-9]{1,9})|/dev/(stderr)")

_WHY: Final = {
    # errno: (why, what to do); {directory} is where the file would be
    errno.ENOENT: ("the directory {directory} does not exist", "Make it first: mkdir -p {directory}."),
    errno.ENOTDIR: ("{directory} is not a directory", ""),
    errno.EISDIR: ("it is a directory", "Name a file in it."),
    errno.EACCES: ("permission is denied", "Choose a place you may write to."),
    errno.EPERM: ("permission is denied", "Choose a place you may write to."),
    errno.EROFS: ("its file system is read-only", "Choose another place; in a pod, a mounted volume."),
    errno.ENOSPC: ("there is no space left on its file system", "Make room or choose another place."),
    errno.EDQUOT: ("the disk quota is used up", "Make room or choose another place."),
    errno.EFBIG: ("it would be longer than the file system or the limits of this process allow", ""),
    errno.ENAMETOOLONG: ("the name is too long", ""),
    errno.ELOOP: ("its symbolic links run in a circle", ""),
    errno.EBUSY: ("something is mounted on it", "Write to another file and copy it there."),
    errno.EPIPE: ("nobody reads from the other end any more", ""),
}


def write_file(path: str, content: bytes) -> None:
    """Write a file whole or not at all. Raises OutputError.

    The content goes to a new file in the same directory, is flushed to the disk and then takes the name, so that a
    reader sees the old file or the new one and a crash leaves one of them. An existing file keeps its mode, and its
    owner where we may set it; a new one gets 0644 less the umask. A symbolic link stays and what it points to is
    written. Pipes, devices and descriptors cannot be replaced so and are written directly.
    """
    try:
        if (descriptor := _descriptor(path)) is not None:
            _write_directly(os.dup(descriptor), content)
            return
        existing = _stat(path)
        if existing is not None and not stat.S_ISREG(existing.st_mode):
            _write_directly(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY), content)
            return
        _refuse_read_only(path, existing)
        _replace(os.path.realpath(path), content, existing)
    except OSError as error:
        raise _output_error(path, error) from error


def check_file(path: str) -> None:
    """Raise OutputError for what can be seen without writing: a directory, a missing parent, no permission."""
    try:
        if _descriptor(path) is not None:
            return
        existing = _stat(path)
        if existing is not None and stat.S_ISDIR(existing.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        _refuse_read_only(path, existing)
        if existing is None or stat.S_ISREG(existing.st_mode):
            directory = os.path.dirname(os.path.realpath(path))
            if not stat.S_ISDIR(os.stat(directory).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), directory)
            if os.statvfs(directory).f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), directory)
            if not os.access(directory, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), directory)
    except OSError as error:
        raise _output_error(path, error) from error


def write_stream(content: bytes) -> None:
    """Write to standard output. Raises OutputError when it is closed, full, or nobody reads it any more."""
    check_stream("Use --output FILE.")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except OSError as error:
        _silence_stdout()
        raise stream_error(error) from error


def check_stream(hint: str) -> None:
    """Raise OutputError, with this hint, when standard output is closed."""
    if sys.stdout is None:
        raise OutputError("standard output cannot be written: it is closed", hint)


def stream_error(error: OSError) -> OutputError:
    """What went wrong with standard output."""
    why, hint = _why(error, "")
    return OutputError(f"standard output cannot be written: {why}", hint)


def _silence_stdout() -> None:
    """What is still buffered can never be written; without this the interpreter would complain when it exits."""
    try:
        descriptor = sys.stdout.fileno()
    except OSError:  # replaced by something that is no file
        return
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _descriptor(path: str) -> int | None:
    """The open descriptor that a name such as /dev/fd/3 stands for; opening it anew could cut or replace a file."""
    match = _DESCRIPTOR.fullmatch(path)
    if match is None:
        return None
    return 2 if match[2] else int(match[1])


def _stat(path: str) -> os.stat_result | None:
    if path.endswith("/"):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _refuse_read_only(path: str, existing: os.stat_result | None) -> None:
    """Replacing needs no permission on the file itself, but a file marked read-only is not ours to replace."""
    if existing is not None and not os.access(path, os.W_OK):
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        code = errno.EROFS if read_only else errno.EACCES
        raise OSError(code, os.strerror(code), path)


def _replace(target: str, content: bytes, existing: os.stat_result | None) -> None:
    directory = os.path.dirname(target)
    temporary, descriptor = _new_file(directory)
    try:
        try:
            if existing is not None:
                _take_over(descriptor, existing)
            _write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, target)
    except BaseException:  # KeyboardInterrupt too: nothing may be left behind
        _remove(temporary)
        raise
    _flush_directory(directory)


def _new_file(directory: str) -> tuple[str, int]:
    while True:
        path = os.path.join(directory, f".eidos-{os.urandom(8).hex()}.tmp")
        try:
            return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _NEW_FILE)
        except FileExistsError:
            continue


def _take_over(descriptor: int, existing: os.stat_result) -> None:
    """Owner before mode, because a change of owner clears mode bits."""
    now = os.fstat(descriptor)
    if (now.st_uid, now.st_gid) != (existing.st_uid, existing.st_gid):
        # Only root may give files away; for others the new file is theirs, as with any editor.
        with suppress(PermissionError):
            os.fchown(descriptor, existing.st_uid, existing.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(existing.st_mode))


def _write_directly(descriptor: int, content: bytes) -> None:
    try:
        _write_all(descriptor, content)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _remove(path: str) -> None:
    with suppress(OSError):  # the error that brought us here is the one to report
        os.unlink(path)


def _flush_directory(directory: str) -> None:
    """Make the new name last. The content is complete by now, so trouble here is not the caller's."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return  # a directory we may write but not read
    try:
        with suppress(OSError):  # some network and FUSE file systems cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _output_error(path: str, error: OSError) -> OutputError:
    directory = os.path.dirname(os.path.realpath(path))
    why, hint = _why(error, directory)
    if error.errno == errno.ENOENT and os.path.isdir(directory):  # as /proc and /sys have it
        why, hint = f"no file can be made in {directory}", "Choose another place."
    return OutputError(f"{path} cannot be written: {why}", hint)


def _why(error: OSError, directory: str) -> tuple[str, str]:
    why, hint = _WHY.get(error.errno or 0, (error.strerror or type(error).__name__, ""))
    return why.format(directory=directory), hint.format(directory=directory)
