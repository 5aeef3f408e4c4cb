"""OS.sysctl: every kernel setting below /proc/sys. Source: the kernel's Documentation/admin-guide/sysctl/.

The largest cost of a snapshot (a thousand small files and more), so it works on directory descriptors and calls
the system directly: each path is resolved once, and a symbolic link can lead nowhere.
"""

import errno
import os
import stat
from collections.abc import Container
from typing import Final

from agent.collectors.base import Context, outcome_of
from agent.collectors.interface_names import interface_pattern
from agent.host import Host
from common.model import Absent, Collected, Failed, FailureCode, MeasurementType, Ok, Outcome, Scalar
from common.stability import Stability, default_rules

ROOT: Final = "/proc/sys"

# Left out on purpose, below /proc/sys:
# - what only triggers something, or does so when read: stat_refresh interrupts every CPU;
# - binfmt_misc, another file system: looking into it makes systemd mount it;
# - dev/cdrom, which is a report about drives (and left out by the format);
# - secrets: the key of TCP Fast Open cookies, and the seed of IPv6 stable addresses (stable_secret).
_LEFT_OUT: Final = frozenset(
    {
        "dev/cdrom",
        "fs/binfmt_misc",
        "net/ipv4/route/flush",
        "net/ipv4/tcp_fastopen_key",
        "net/ipv6/route/flush",
        "vm/compact_memory",
        "vm/drop_caches",
        "vm/stat_refresh",
    }
)
_SECRET_NAMES: Final = frozenset({"stable_secret"})

# What the kernel shows of the reader's own namespaces, wherever its /proc is mounted.
_OF_NAMESPACE: Final = {
    "ipc": ("fs/mqueue/", "kernel/auto_msgmni", "kernel/msg", "kernel/sem", "kernel/shm"),
    "net": ("net/",),
    "user": ("user/",),
    "uts": ("kernel/domainname", "kernel/hostname"),
}

_ATTACHED: Final = "ena[1-9]*"

_OPEN: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW

# The kernel allocates and clears a buffer as large as the read, so a page; 64 KiB would cost half as much again.
_PAGE: Final = 4095
_LIMIT: Final = 256 * 1024

# Gone since it was listed, or there is no value at present: nothing to report.
_NOTHING: Final = frozenset(
    {errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENODATA, errno.EINVAL, errno.EOPNOTSUPP, errno.ELOOP}
)
_MOST_NAMED: Final = 8


def parse_sysctl(path: str, text: str) -> dict[str, str]:
    """The facts in one file: its content without the last newline under its path.

    A file of several lines, each `word rest…`, gives one fact per line, `path/word`; a word that comes again
    loses nothing, its values are joined by ` | ` in order.
    """
    text = text.removesuffix("\n")
    if "\n" not in text:
        return {path: text}
    facts: dict[str, str] = {}
    for line in text.split("\n"):
        if words := line.split():
            key, value = f"{path}/{words[0]}", " ".join(words[1:])
            facts[key] = f"{facts[key]} | {value}" if key in facts else value
    return facts or {path: ""}


def fold_values(values: set[str]) -> str:
    """What interfaces of one pattern have: the value where all agree, else all of them, sorted."""
    return " | ".join(sorted(values))


def instance_pattern(directory: str, name: str, attached: Container[str] = ()) -> str:
    """What a directory is called in keys: interfaces, and CPUs of the scheduler, fold by the pattern they match.

    `directory` is below /proc/sys. There is a directory per interface in net/<family>/conf and net/<family>/neigh.
    `attached` are the interfaces a cloud attached beside the node's first one.
    """
    head, _, kind = directory.rpartition("/")
    if kind in ("conf", "neigh") and head.startswith("net/"):
        return _ATTACHED if name in attached else interface_pattern(name)
    if directory == "kernel/sched_domain" and name.startswith("cpu"):  # kernels before 5.13
        return "cpu*"
    return name


class _Walk:
    """One pass over /proc/sys. `data` and `unreadable` hold what was found."""

    def __init__(self, include_volatile: bool, left_out: tuple[str, ...], attached: Container[str]) -> None:
        self.data: dict[str, Scalar] = {}
        self.unreadable: list[str] = []
        self._include_volatile = include_volatile
        self._left_out = left_out
        self._attached = attached
        self._folded: dict[str, set[str]] = {}

    def run(self, base: str) -> None:
        """Read everything below `base`. Raises OSError only when `base` itself cannot be read."""
        descriptor = os.open(base, _OPEN_DIRECTORY & ~os.O_NOFOLLOW)
        try:
            self._directory(descriptor, "", "", folding=False)
        finally:
            os.close(descriptor)
        for key, values in self._folded.items():
            self.data[key] = fold_values(values)

    def _directory(self, descriptor: int, real: str, shown: str, folding: bool) -> None:
        """`real` is the path below /proc/sys with a slash at its end, `shown` the same as it stands in keys."""
        directories: list[str] = []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                name = entry.name
                path = real + name
                if path in _LEFT_OUT or name in _SECRET_NAMES or path.startswith(self._left_out):
                    continue
                if entry.is_file(follow_symlinks=False):
                    content = self._read(descriptor, name, path)
                    if content is not None:
                        self._add(f"{ROOT}/{shown}{_text(name)}", content.decode("utf-8", "replace"), folding)
                elif entry.is_dir(follow_symlinks=False):
                    directories.append(name)
        for name in directories:
            plain = _text(name)
            pattern = instance_pattern(real.rstrip("/"), plain, self._attached)
            if pattern == plain or self._wanted(f"{shown}{pattern}/"):
                self._enter(descriptor, name, real, f"{shown}{pattern}/", folding or pattern != plain)

    def _enter(self, directory: int, name: str, real: str, shown: str, folding: bool) -> None:
        try:
            descriptor = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
            try:
                self._directory(descriptor, f"{real}{name}/", shown, folding)
            finally:
                os.close(descriptor)
        except OSError as error:  # an interface may go while we look; a directory may be closed to us
            self._note(error, directory, name, real + name)

    def _wanted(self, prefix: str) -> bool:
        """Whether a folded directory is worth its reads: hundreds of pods' interfaces would be read and dropped."""
        return (
            self._include_volatile
            or default_rules().classify("OS", "sysctl", f"{ROOT}/{prefix}") is not Stability.VOLATILE
        )

    def _add(self, key: str, text: str, folding: bool) -> None:
        if folding:
            for name, value in parse_sysctl(key, text).items():
                self._folded.setdefault(name, set()).add(value)
        elif "\n" in text[:-1]:
            self.data.update(parse_sysctl(key, text))
        else:
            self.data[key] = text.removesuffix("\n")

    def _read(self, directory: int, name: str, path: str) -> bytes | None:
        try:
            descriptor = os.open(name, _OPEN, dir_fd=directory)
        except OSError as error:
            self._note(error, directory, name, path)
            return None
        try:
            content = os.read(descriptor, _PAGE)
            if len(content) == _PAGE:
                # A number list that did not fit is cut, and what was cut is not served by another read.
                content = os.pread(descriptor, _LIMIT, 0)
                if len(content) == _LIMIT:
                    self.unreadable.append(path)
                    return None
            return content
        except OSError as error:
            self._note(error, directory, name, path)
            return None
        finally:
            os.close(descriptor)

    def _note(self, error: OSError, directory: int, name: str, path: str) -> None:
        """Remember what is meant to be read and could not be: not what is gone, and not what is only written."""
        if error.errno in _NOTHING:
            return
        try:
            readable = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode & (
                stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
            )
        except OSError:
            return
        if readable:
            self.unreadable.append(path)


def _text(name: str) -> str:
    """A file name as text: an interface may be called by any bytes."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "replace")


def foreign_namespaces(host: Host) -> list[str]:
    """Namespaces in which we are not where the host's first process is, or in a container may not be.

    [] when there is nothing to compare with, as in a recorded tree.
    """
    foreign = []
    for name in _OF_NAMESPACE:
        try:
            theirs, ours = host.readlink(f"/proc/1/ns/{name}"), os.readlink(f"/proc/self/ns/{name}")
        except PermissionError:
            if not host.is_local:  # on the host itself its users, too, are where the first process is
                foreign.append(name)
        except OSError:
            continue
        else:
            if theirs != ours:
                foreign.append(name)
    return foreign


def attached_interfaces(host: Host) -> frozenset[str]:
    """Amazon's elastic interfaces other than the first: its network plugin attaches them as pods need addresses."""
    elastic: list[tuple[int, str]] = []
    for path in host.glob("/sys/class/net", "e*"):
        name = path.rpartition("/")[2]
        try:
            if interface_pattern(name) == name and host.readlink(f"{path}/device/driver").endswith("/ena"):
                elastic.append((int(host.read_text(f"{path}/ifindex", limit=64)), name))
        except (OSError, ValueError):  # no device, or it went away
            continue
    return frozenset(name for _, name in sorted(elastic)[1:])


class SysctlCollector:
    """Reads all of /proc/sys, net included."""

    name = "sysctl"
    type = MeasurementType.OS

    def collect(self, ctx: Context) -> Collected:
        foreign = foreign_namespaces(ctx.host)
        left_out = tuple(path for name in foreign for path in _OF_NAMESPACE[name])
        walk = _Walk(ctx.options.include_volatile, left_out, attached_interfaces(ctx.host))
        try:
            walk.run(ctx.host.resolve(ROOT))
        except OSError as error:
            return Collected.of({"sysctl": outcome_of(error, ROOT)})
        context = _unreadable(walk.unreadable)
        if foreign:
            # Settings of our own container must not pass for the host's.
            context["left-out"] = f"settings of another {', '.join(foreign)} namespace than the host's"
        # What could not be read has lines of its own, so that its missing facts do not count as removed.
        parts: dict[str, Outcome] = {
            f"sysctl[{ROOT}/{path}]": Failed(FailureCode.PERMISSION_DENIED, f"{ROOT}/{path} may not be read")
            for path in sorted(walk.unreadable)
        }
        for name in foreign:
            reason = f"a setting of another {name} namespace than the host's"
            parts.update((f"sysctl[{ROOT}/{path}*]", Absent(reason)) for path in _OF_NAMESPACE[name])
        return Collected.of({"sysctl": Ok(walk.data, context), **parts})


def _unreadable(paths: list[str]) -> dict[str, str]:
    if not paths:
        return {}
    named = ", ".join(f"{ROOT}/{path}" for path in sorted(paths)[:_MOST_NAMED])
    more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
    return {"unreadable": named + more}
