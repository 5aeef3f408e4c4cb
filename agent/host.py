"""Reading of a host's files under injected roots, so that a recorded host reads like a live one.

In a container the host's root is mounted at some place such as /host. Every path is given as it is called on the
host and resolved inside that root, absolute symbolic links included: a host file never reads as the container's.
"""

import errno
import os
import stat
from fnmatch import fnmatchcase
from typing import Final

DEFAULT_LIMIT: Final = 1 << 20
"""Most bytes read from one file unless the caller says otherwise. Longer files raise, they are never cut."""

_MOST_LINKS: Final = 40  # as the kernel's own limit (path_resolution(7))


class FileTooLargeError(OSError):
    """The file is longer than the caller's limit (errno EFBIG)."""

    def __init__(self, path: str, limit: int) -> None:
        super().__init__(errno.EFBIG, f"longer than {limit} bytes", path)


class HiddenError(PermissionError):
    """What we would read is our container's and not the host's (errno EACCES)."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(errno.EACCES, why, path)
        self.why = why


class Host:
    """A host's file tree.

    `root` is where the host's `/` is; `proc` and `sys` say where its /proc and /sys are when not below root.
    Methods take host paths ("/proc/modules") and raise OSError subclasses only. Where a directory is gets remembered,
    so make a new Host for each collection.
    """

    def __init__(self, root: str = "/", proc: str | None = None, sys: str | None = None) -> None:
        self.root = "/" + os.path.abspath(root).lstrip("/")  # POSIX keeps two slashes at the front
        self._mounts = {
            name: os.path.abspath(path) for name, path in (("proc", proc), ("sys", sys)) if path is not None
        }
        # Without another root the kernel resolves links just as we would, only faster.
        self._direct = self.root == "/" and not self._mounts
        self._directories: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Host({self.root!r})"

    @property
    def is_local(self) -> bool:
        """Whether this is the machine we run on, seen directly."""
        return self._direct

    @property
    def shares_network(self) -> bool:
        """Whether our network namespace is the host's, so that what the kernel answers us is about its interfaces.

        Namespaces are compared as the objects they are (namespaces(7)), which no recorded file can be.
        """
        if self.is_local:
            return True
        try:
            theirs, ours = os.stat(self._join(self.resolve("/proc/1/ns"), "net")), os.stat("/proc/self/ns/net")
        except OSError:
            return False
        return os.path.samestat(theirs, ours)

    def hidden(self, path: str) -> str:
        """Why the host's `path` cannot be seen from here at all; empty when it can. Reading it raises HiddenError."""
        return ""

    def resolve(self, path: str) -> str:
        """Where the host's `path` is for us, all symbolic links followed inside the root.

        The path need not exist; parts that do not exist are kept as they are. Raises OSError (ELOOP; EINVAL for a
        zero byte, which no file name has but text read from a file may).
        """
        _refuse_zero_byte(path)
        if self._direct:
            return path
        if ".." in path.split("/"):  # up from where a link leads, not from where it stands
            return self._walk(path)
        directory, name = os.path.split(os.path.normpath("/" + path.lstrip("/")))
        # Files of one directory are read in runs; the directory is resolved once.
        base = self._directories.get(directory)
        if base is None:
            base = self._directories[directory] = self._walk(directory)
        if not name:
            return base
        candidate = self._join(base, name)
        return self._walk(os.path.join(directory, name)) if os.path.islink(candidate) else candidate

    def _walk(self, path: str) -> str:
        pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        at: list[str] = []  # components below the host's root, free of links
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                if at:
                    at.pop()
                continue
            real = self._place([*at, part])
            try:
                target = os.readlink(real)
            except OSError:  # no link, or not there: keep it
                at.append(part)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                at.clear()
            pending.extend(piece for piece in reversed(target.split("/")) if piece not in ("", "."))
        return self._place(at)

    def _place(self, parts: list[str]) -> str:
        if parts and parts[0] in self._mounts:
            return os.path.join(self._mounts[parts[0]], *parts[1:])
        return os.path.join(self.root, *parts)

    def _join(self, base: str, name: str) -> str:
        if base == self.root and name in self._mounts:
            return self._mounts[name]
        return os.path.join(base, name)

    def read_bytes(self, path: str, limit: int = DEFAULT_LIMIT) -> bytes:
        """The whole file. Raises FileTooLargeError past the limit, other OSError when it cannot be read.

        Opened without blocking, so that a FIFO or a device in the way fails instead of hanging.
        """
        descriptor = os.open(self.resolve(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            # One spare byte tells "just fits" from "too long"; most files of /proc and /sys take one read.
            content = os.read(descriptor, min(limit + 1, 65536))
            if not content:
                self._refuse_special(descriptor, path)
                return content
            chunks, size = [content], len(content)
            while size <= limit and (chunk := os.read(descriptor, min(limit + 1 - size, 1 << 20))):
                chunks.append(chunk)
                size += len(chunk)
        finally:
            os.close(descriptor)
        if size > limit:
            raise FileTooLargeError(path, limit)
        return content if len(chunks) == 1 else b"".join(chunks)

    @staticmethod
    def _refuse_special(descriptor: int, path: str) -> None:
        """An empty read from a FIFO means no writer, not an empty file."""
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            raise OSError(errno.EINVAL, "not a regular file", path)

    def read_text(self, path: str, limit: int = DEFAULT_LIMIT) -> str:
        """The whole file as text; bytes that are not UTF-8 become U+FFFD, so that any content can be written."""
        return self.read_bytes(path, limit).decode("utf-8", "replace")

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, sorted."""
        return sorted(os.listdir(self.resolve(path)))

    def readlink(self, path: str) -> str:
        """What a symbolic link says, unresolved."""
        _refuse_zero_byte(path)
        directory, name = os.path.split(path.rstrip("/"))
        return os.readlink(self._join(self.resolve(directory or "/"), name))

    def exists(self, path: str) -> bool:
        """Whether the path is there, links followed inside the root. False when that cannot be found out."""
        try:
            # What is resolved has no links left; following one that appeared since could lead out of the root.
            return os.path.exists(path) if self._direct else os.path.lexists(self.resolve(path))
        except OSError:
            return False

    def is_dir(self, path: str) -> bool:
        """Whether the path is a directory, links followed inside the root."""
        try:
            return os.path.isdir(path) if self._direct else stat.S_ISDIR(os.lstat(self.resolve(path)).st_mode)
        except OSError:
            return False

    def glob(self, directory: str, pattern: str) -> list[str]:
        """Host paths of the names in one directory that match a shell pattern, sorted; [] when it is not there."""
        try:
            names = self.listdir(directory)
        except OSError:
            return []
        return [os.path.join(directory, name) for name in names if fnmatchcase(name, pattern)]


def _refuse_zero_byte(path: str) -> None:
    """Python raises ValueError there; callers are promised OSError."""
    if "\0" in path:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
