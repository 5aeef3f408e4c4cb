"""Nodes for a fleet on one machine: this machine, and others that replay directories, a few of them changed.

In a checkout the directories are the hosts of tests/hosts, recorded or constructed. An installed Eidos has none of
these: they are then written from what a snapshot of this machine says, and it is said that they are.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cli.local_fleet import LocalNode
from common.errors import Code, FleetError

if TYPE_CHECKING:
    from common.model import Scalar

CHECKOUT: Final = Path(__file__).resolve().parents[1]

_ARCHIVED: Final = ("h100-8x-ib", "grace-arm64", "cpu-only", "a100-mig", "cloud-vm", "talos", "small-vm")
_FEWEST_ALIKE: Final = 3
"""Nodes of a kind, so that one that is changed differs from a group at least twice its size."""


@dataclass(frozen=True, slots=True)
class Change:
    """A difference to be put into a root: a file's new content, and the fact that must then be found."""

    fact: tuple[str, str, str]
    value: "Scalar"
    path: str
    edit: Callable[[str], str]


def _with_module(text: str) -> str:
    loaded = {line.split(" ", 1)[0] for line in text.splitlines()}
    return text if "nouveau" in loaded else f"{text}nouveau 3096576 0 - Live 0x0000000000000000\n"


def _with_parameter(text: str) -> str:
    return text if "mitigations=" in text else text.rstrip("\n") + " mitigations=off\n"


_CHANGES: Final = (
    Change(("OS", "sysctl", "/proc/sys/vm/swappiness"), "97", "proc/sys/vm/swappiness", lambda _: "97\n"),
    Change(("OS", "kmod", "nouveau"), True, "proc/modules", _with_module),
    Change(("OS", "grub", "mitigations"), "off", "proc/cmdline", _with_parameter),
    Change(("OS", "sysctl", "/proc/sys/kernel/pid_max"), "32771", "proc/sys/kernel/pid_max", lambda _: "32771\n"),
)


@dataclass(frozen=True, slots=True)
class Seeded:
    """A node that was changed, and in what."""

    node: str
    change: Change


@dataclass(frozen=True, slots=True)
class Cast:
    """The nodes of the fleet, and what to say of them."""

    nodes: list[LocalNode]
    seeded: list[Seeded]
    source: str
    """What the replayed nodes are, in a sentence."""


def cast(count: int, here: str, directory: Path, checkout: Path = CHECKOUT) -> Cast:
    """`count` nodes, of which one, called `here`, is this machine. Writes below the directory. Raises EidosError."""
    archived = checkout / "tests" / "hosts" / "unpack.py"
    if archived.is_file():
        kinds = _ARCHIVED[: max(1, min(len(_ARCHIVED), (count - 1) // _FEWEST_ALIKE))]
        _unpack(checkout, directory, kinds)
        source = f"replay the files of {', '.join(kinds)}, recorded or constructed, from tests/hosts"
    else:
        kinds = ("copy",)
        _write_copy(directory / "copy")
        source = (
            "replay what a snapshot of this machine says of its release, kernel settings, modules and command line "
            "(hosts of other kinds are in a checkout of Eidos only)"
        )
    nodes = [LocalNode(here)]
    seeded: list[Seeded] = []
    for turn, (kind, names) in enumerate(zip(kinds, _names(kinds, count - 1), strict=True)):
        root = directory / kind
        changes = _possible(root)
        changes = changes[: len(names) - 2] if len(kinds) == 1 else changes[turn % len(changes) :][:1]
        for name in names[: len(names) - len(changes)]:
            nodes.append(LocalNode(name, root))
        for name, change in zip(names[len(names) - len(changes) :], changes, strict=True):
            nodes.append(LocalNode(name, _changed(root, directory / name, change)))
            seeded.append(Seeded(name, change))
    return Cast(nodes, seeded, source)


def _names(kinds: Sequence[str], count: int) -> Iterator[list[str]]:
    for at, kind in enumerate(kinds):
        mine = len(range(at, count, len(kinds)))
        yield [f"{kind}-{number:0{len(str(mine))}}" for number in range(1, mine + 1)]


def _unpack(checkout: Path, directory: Path, kinds: Sequence[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.hosts.unpack", str(directory), *kinds],
        cwd=checkout,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = done.stderr.strip().rpartition("\n")[2]
        raise FleetError(Code.FLEET_FAILED, f"the hosts of tests/hosts cannot be unpacked: {last}")


def _possible(root: Path) -> list[Change]:
    """The changes for which the root has the file, and not yet the fact."""
    files = {change: root / change.path for change in _CHANGES}
    return [change for change, file in files.items() if file.is_file() and change.edit(_text(file)) != _text(file)]


def _text(file: Path) -> str:
    return file.read_text("utf-8", "surrogateescape")


def _changed(root: Path, own: Path, change: Change) -> Path:
    """A root of the node's own: all files are those of the other root, but for the changed one."""
    shutil.copytree(root, own, symlinks=True, copy_function=os.link)
    file = own / change.path
    text = change.edit(_text(file))
    file.unlink()  # the content is another root's, too
    file.write_text(text, "utf-8", "surrogateescape")
    return own


def _write_copy(root: Path) -> None:
    """A root from what a snapshot of this machine says."""
    from agent.oneshot import Request, find_host, take

    document = take(Request(collectors=("OS",)), find_host(os.environ), os.environ)
    data = {subtype.subtype: subtype.data for m in document.measurements for subtype in m.subtypes}
    for path, value in data.get("sysctl", {}).items():
        _write(root, path, f"{value}\n")
    release = "".join(f'{key}="{value}"\n' for key, value in data.get("release", {}).items())
    _write(root, "/etc/os-release", release)
    parameters = (f"{key}={value}" if value else key for key, value in data.get("grub", {}).items())
    _write(root, "/proc/cmdline", " ".join(parameters) + "\n")
    if "kmod" in data:
        modules = "".join(f"{name} 16384 0 - Live 0x0000000000000000\n" for name in data["kmod"])
        _write(root, "/proc/modules", modules)


def _write(root: Path, path: str, text: str) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
