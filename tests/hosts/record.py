"""Records the machine this runs on: `python -m tests.hosts.record NAME` writes tests/hosts/NAME/tree.txt.

Host paths given after the name are left out, with what is below them: what only this machine's kernel has.

What the collectors of OS facts read, list and follow is kept, and all of /proc/sys, which is read past the Host.
What identifies a machine, says how it is run or is a secret is replaced or left out (tests/hosts/scrub.py); read the
text yourself before it is committed.
"""

import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent.collect import run
from agent.collectors.base import Options
from agent.collectors.registry import collectors
from agent.host import DEFAULT_LIMIT, Host
from common.model import MeasurementType
from tests.hosts.archive import dump
from tests.hosts.scrub import scrub
from tests.hosts.tree import Tree

_SYSCTL: Final = "/proc/sys"
_SIZE_LIMIT: Final = 1 << 20
# Reading these acts on the machine, or they are secrets; the collectors leave them alone as well.
_NEVER_READ: Final = frozenset({"stat_refresh", "stable_secret", "tcp_fastopen_key", "binfmt_misc"})


class RecordingHost(Host):
    """A host that keeps what is read of it. Says it is not the local machine, as it will not be when read back."""

    def __init__(self) -> None:
        super().__init__("/")
        self.tree = Tree()

    @property
    def is_local(self) -> bool:
        return False

    @property
    def shares_network(self) -> bool:
        return False

    def read_bytes(self, path: str, limit: int = DEFAULT_LIMIT) -> bytes:
        real = self._follow(path)
        try:
            content = super().read_bytes(path, limit)
        except OSError as error:
            self._failed(real, error)
            raise
        if real:
            self.tree.files[real] = content
        return content

    def listdir(self, path: str) -> list[str]:
        real = self._follow(path)
        try:
            names = super().listdir(path)
        except OSError as error:
            self._failed(real, error)
            raise
        if real:
            self.tree.directories.add(real)
            for name in names:
                self._exists(f"{real}/{name}")
        return names

    def readlink(self, path: str) -> str:
        target = super().readlink(path)
        self._follow(path)
        return target

    def exists(self, path: str) -> bool:
        self._follow(path)
        return super().exists(path)

    def is_dir(self, path: str) -> bool:
        self._follow(path)
        return super().is_dir(path)

    def _follow(self, path: str) -> str:
        """Keep every link on the way, and that the end is there. Gives the path without links, "" if it has none."""
        pending, at, steps = [part for part in reversed(path.split("/")) if part], "", 0
        while pending and steps < 400:
            steps += 1
            part = pending.pop()
            if part == "..":
                at = at.rpartition("/")[0]
                continue
            at = f"{at}/{part}"
            try:
                target = os.readlink(at)
            except OSError:
                continue
            self.tree.links[at] = target
            at = "" if target.startswith("/") else at.rpartition("/")[0]
            pending.extend(piece for piece in reversed(target.split("/")) if piece not in ("", "."))
        self._exists(at)
        return at if os.path.lexists(at or "/") else ""

    def _exists(self, path: str) -> None:
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            return
        if stat.S_ISLNK(mode):
            self.tree.links[path] = os.readlink(path)
        elif stat.S_ISDIR(mode):
            self.tree.directories.add(path)
        elif stat.S_ISREG(mode):
            self.tree.files.setdefault(path, b"")

    def _failed(self, real: str, error: OSError) -> None:
        if real and error.errno:
            self.tree.files.pop(real, None)
            self.tree.errors[real] = error.errno


def record_sysctl(tree: Tree) -> None:
    """All of /proc/sys that its owner may read. An unreadable file there is left out: it leaves no fact either."""
    for directory, names, files in os.walk(_SYSCTL):
        names[:] = sorted(name for name in names if name not in _NEVER_READ)
        for name in sorted(files):
            path = os.path.join(directory, name)
            if name in _NEVER_READ or os.path.islink(path) or not os.lstat(path).st_mode & stat.S_IRUSR:
                continue
            try:
                with open(path, "rb") as file:
                    tree.files[path] = file.read(_SIZE_LIMIT)
            except OSError:
                continue


def record(left_out: Sequence[str] = ()) -> Tree:
    """This machine, scrubbed, without the given paths."""
    host = RecordingHost()
    chosen = [collector for collector in collectors() if collector.type is MeasurementType.OS]
    run(chosen, host, "recorded", Options())
    record_sysctl(host.tree)
    return scrub(host.tree, left_out)


def main() -> None:
    if len(sys.argv) < 2 or not sys.argv[1].replace("-", "").isalnum():
        raise SystemExit("usage: python -m tests.hosts.record NAME [PATH...]")
    path = Path(__file__).parent / sys.argv[1] / "tree.txt"
    path.parent.mkdir(exist_ok=True)
    text = f"# Recorded by tests/hosts/record.py and scrubbed.\n\n{dump(record(sys.argv[2:]))}"
    path.write_text(text, encoding="utf-8")
    print(f"{path}: {len(text)} bytes. Read it before you commit it.")


if __name__ == "__main__":
    main()
