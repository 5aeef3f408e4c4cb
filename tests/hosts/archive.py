"""The text a host is kept as: one file for a whole tree, that a person can read and a diff can show.

    # A comment.
    [/sys/class/net/eth0]               the directory of the entries that follow
    mtu = 9000                          a file of one line; a newline ends it
    address = "02:00\\tx"                a file with exactly this content, as a JSON string
    cmdline |                           a file of several lines, each after a bar; a newline ends each
    |first
    |second
    cpuinfo | 28                        the same, with a period: `~5` stands for five lines that are each equal to
    |processor\t: 0                      the line 28 before
    ~5
    config hex 0:8680 34:40 1000:       a binary file: bytes in hexadecimal at offsets, zeros between; the last
                                        offset is the length
    device -> ../../0000:18:00.0        a symbolic link
    power/                              a directory with nothing in it that matters
    speed ! EINVAL                      a file that is there, but reading it ends in this error
    secret/ ! EACCES                    the same for listing a directory

A name or directory may end in a range, and its entries are repeated for every number, which `{}` stands for:
`[/sys/devices/system/cpu/cpu[0-3]]`, `memory[32-95] -> ../../memory/memory{}`. A name that looks like anything of
the above is written as a JSON string.

Errors are needed because root reads whatever a mode forbids. They are raised by ArchivedHost, so they cannot stand
below /proc/sys, which is read past it.
"""

import errno
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar, cast

from agent.host import DEFAULT_LIMIT, Host
from tests.hosts.tree import Tree

_HEADER: Final = re.compile(r"\[(/.*)\]")
_ENTRY: Final = re.compile(r'("(?:[^"\\]|\\.)*"|[^\s"|~#]\S*?)(/?)(?: (=|\||->|!|hex)(?: (.*))?)?')
_RANGE: Final = re.compile(r"(.*)\[(\d+)-(\d+)\]")
_NUMBER: Final = "{}"


class ArchiveError(ValueError):
    """A line of an archive is not what the format asks for."""


def parse(text: str) -> Tree:
    """The tree in an archive. Raises ArchiveError with the line's number."""
    tree, directories = Tree(), [("", "")]
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        line, start = lines[at], at + 1
        at += 1
        if not line or line.startswith("#"):
            continue
        if header := _HEADER.fullmatch(line):
            directories = list(_numbered(header[1].rstrip("/")))
            tree.directories.update(path for path, _ in directories if path)
            continue
        body: list[str] = []
        while at < len(lines) and lines[at][:1] in ("|", "~") and lines[at]:
            body.append(lines[at])
            at += 1
        entry = _ENTRY.fullmatch(line)
        if entry is None or (body and entry[3] != "|"):
            raise ArchiveError(f"line {start}: {line!r} is no entry")
        for directory, number in directories:
            _add(tree, directory, number, entry, body, start)
    return tree


def _numbered(name: str) -> Iterator[tuple[str, str]]:
    """(name, number) for every number of a range; the name itself without one."""
    if found := _RANGE.fullmatch(name):
        for number in range(int(found[2]), int(found[3]) + 1):
            yield f"{found[1]}{number}", str(number)
    else:
        yield name, ""


def _add(tree: Tree, directory: str, number: str, entry: re.Match[str], body: list[str], line: int) -> None:
    word, slash, operator, value = entry[1], entry[2], entry[3], entry[4] or ""
    names = [(json.loads(word), "")] if word.startswith('"') else list(_numbered(word))
    for name, own in names:
        path = f"{directory}/{name}"
        filled = value.replace(_NUMBER, own or number) if own or number else value
        if operator == "!":
            if path.startswith("/proc/sys/"):
                raise ArchiveError(f"line {line}: an error below /proc/sys would not be seen")
            tree.errors[path] = _errno(filled, line)
            if slash:
                tree.directories.add(path)
        elif slash and operator is None:
            tree.directories.add(path)
        elif operator == "->" and filled and not slash:
            tree.links[path] = filled
        elif operator in ("=", "|", "hex") and not slash:
            tree.files[path] = _content(operator, filled, body, line)
        else:
            raise ArchiveError(f"line {line}: {entry[0]!r} is no entry")


def _errno(name: str, line: int) -> int:
    number = getattr(errno, name, None)
    if not isinstance(number, int):
        raise ArchiveError(f"line {line}: {name!r} is no error")
    return number


def _content(operator: str, value: str, body: list[str], line: int) -> bytes:
    try:
        if operator == "=":
            return (json.loads(value) if value.startswith('"') else f"{value}\n").encode()
        return _unfold_lines(body, int(value or 0)) if operator == "|" else _unpack_bytes(value)
    except (ValueError, IndexError) as error:
        raise ArchiveError(f"line {line}: {error}") from error


def _unfold_lines(body: list[str], period: int) -> bytes:
    lines: list[str] = []
    for line in body:
        if line.startswith("|"):
            lines.append(line[1:])
        else:
            for _ in range(int(line[1:])):
                lines.append(lines[len(lines) - period])
    return "".join(f"{line}\n" for line in lines).encode()


def _unpack_bytes(value: str) -> bytes:
    content = bytearray()
    for part in value.split():
        offset, _, digits = part.partition(":")
        content.extend(bytes(int(offset, 16) - len(content)))
        content.extend(bytes.fromhex(digits))
    return bytes(content)


def dump(tree: Tree) -> str:
    """The archive of a tree: the same text for the same tree."""
    blocks: dict[str, list[str]] = {}
    for path in sorted({*tree.files, *tree.links, *tree.errors, *tree.directories}):
        directory, _, name = path.rpartition("/")
        if _RANGE.fullmatch(directory):
            raise ArchiveError(f"the directory {directory!r} would read as a range")
        blocks.setdefault(directory, []).append(_line(tree, path, name))
    parents = {path[: at.start()] for path in blocks for at in re.finditer("/", path)} | set(blocks)
    needed = {
        directory: [line for line in block if not _is_known_directory(directory, line, parents)]
        for directory, block in sorted(blocks.items())
    }
    lines = [text for header, block in _fold_blocks(needed) for text in ("", f"[{header or '/'}]", *block)]
    return "\n".join(lines[1:]) + "\n"


def _is_known_directory(directory: str, line: str, parents: set[str]) -> bool:
    """Whether a line only says that a directory exists, which its own entries say already."""
    return line.endswith("/") and f"{directory}/{line[:-1]}" in parents


def _line(tree: Tree, path: str, name: str) -> str:
    plain = _ENTRY.fullmatch(f"{name} = x")
    word = name if plain and plain[1] == name and not _RANGE.fullmatch(name) else json.dumps(name)
    if path in tree.errors:
        return f"{word}{'/' if path in tree.directories else ''} ! {errno.errorcode[tree.errors[path]]}"
    if path in tree.links:
        return f"{word} -> {tree.links[path]}"
    return _file_line(word, tree.files[path]) if path in tree.files else f"{word}/"


def _file_line(word: str, content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return f"{word} hex {_pack_bytes(content)}"
    if "\0" in text:
        return f"{word} hex {_pack_bytes(content)}"
    first, newline, rest = text.partition("\n")
    printable = all(sign.isprintable() or sign in "\t\n" for sign in text)
    if not printable or not newline or not text.endswith("\n"):
        return f"{word} = {json.dumps(text, ensure_ascii=False)}"
    if rest:
        return _fold_lines(word, text[:-1].split("\n"))
    plain = first == first.strip() and not first.startswith('"')
    return f"{word} = {first if plain else json.dumps(text, ensure_ascii=False)}".rstrip()


def _fold_lines(word: str, lines: list[str]) -> str:
    """Lines after bars; a file of equal blocks, which an empty line ends, is told by its period."""
    period = lines.index("") + 1 if "" in lines[1:] else 0
    folded: list[str] = []
    same = 0
    for number, line in enumerate([*lines, None]):
        if line is not None and period and number >= period and line == lines[number - period]:
            same += 1
            continue
        if same:
            folded.append(f"~{same}")
            same = 0
        if line is not None:
            folded.append(f"|{line}")
    return "\n".join([f"{word} | {period}" if any(line[0] == "~" for line in folded) else f"{word} |", *folded])


def _pack_bytes(content: bytes) -> str:
    parts = [f"{found.start():x}:{found[0].hex()}" for found in re.finditer(rb"[^\0](?:\0{0,3}[^\0])*", content)]
    return " ".join([*parts, f"{len(content):x}:"])


def _fold_blocks(blocks: dict[str, list[str]]) -> Iterator[tuple[str, list[str]]]:
    """Directories that differ in their number only, in the order of the first, as one with a range."""
    folded: dict[tuple[str, bool, tuple[str, ...]], list[tuple[int, str, list[str]]]] = {}
    for directory, block in blocks.items():
        lines = _fold_names(block)
        if not lines:
            continue
        stem, number = _split_number(directory)
        if not number or any(_NUMBER in line for line in block):
            stem, number = directory, ""
        # cpu0 is on node0 as cpu1 is: a line that a neighbour has too is not about the directory's number.
        beside = {line for step in (-1, 1) for line in blocks.get(f"{stem}{int(number or -9) + step}", ())}
        template = tuple(line if not number or line in beside else _templated(line, number) for line in lines)
        folded.setdefault((stem, bool(number), template), []).append((int(number or 0), directory, lines))
    for (stem, _, template), members in folded.items():
        for run in _runs(sorted(members)):
            if len(run) > 1:
                yield f"{stem}[{run[0][0]}-{run[-1][0]}]", list(template)
            else:
                yield run[0][1], run[0][2]


def _fold_names(block: list[str]) -> list[str]:
    """Entries of one directory that differ in their number only, as one with a range."""
    folded: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for line in block:
        name, space, rest = line.partition(" ")
        stem, number = _split_number(name.removesuffix("/"))
        if not number or "\n" in line or _NUMBER in line or name.startswith('"'):
            folded[line, ""] = [(0, line)]
            continue
        slash = "/" if name.endswith("/") else ""
        folded.setdefault((stem, slash + _templated(space + rest, number)), []).append((int(number), line))
    lines: list[str] = []
    for (stem, rest), members in folded.items():
        for run in _runs(sorted(members)):
            if len(run) > 2:
                lines.append(f"{stem}[{run[0][0]}-{run[-1][0]}]{rest}")
            else:
                lines.extend(line for _, line in run)
    return lines


_Numbered = TypeVar("_Numbered", bound=tuple[object, ...])


def _runs(members: list[_Numbered]) -> list[list[_Numbered]]:
    """Members whose numbers, which come first in them, follow each other."""
    runs: list[list[_Numbered]] = []
    for member in members:
        if runs and runs[-1][-1][0] == cast(int, member[0]) - 1:
            runs[-1].append(member)
        else:
            runs.append([member])
    return runs


def _split_number(name: str) -> tuple[str, str]:
    """(stem, number) of a name that ends in a decimal number without leading zeros, else (name, "")."""
    found = re.fullmatch(r"(.*?\D)(0|[1-9]\d{0,6})", name, re.DOTALL)
    return (found[1], found[2]) if found else (name, "")


def _templated(line: str, number: str) -> str:
    """The line with the number replaced where it is the whole value, or ends a link's target."""
    if "\n" in line or _NUMBER in line or line.startswith('"'):
        return line
    head, operator, value = line.partition(" = ")
    if operator:
        return f"{head}{operator}{_NUMBER}" if value == number else line
    head, operator, target = line.partition(" -> ")
    stem, last = _split_number(target)
    return f"{head}{operator}{stem}{_NUMBER}" if operator and last == number else line


class ArchivedHost(Host):
    """A host unpacked from an archive: reads like a live one, errors included."""

    def __init__(self, root: Path, tree: Tree) -> None:
        super().__init__(str(root))
        self._errors = {os.path.join(self.root, path.lstrip("/")): number for path, number in tree.errors.items()}

    def read_bytes(self, path: str, limit: int = DEFAULT_LIMIT) -> bytes:
        self._refuse(path)
        return super().read_bytes(path, limit)

    def listdir(self, path: str) -> list[str]:
        self._refuse(path)
        return super().listdir(path)

    def _refuse(self, path: str) -> None:
        if number := self._errors.get(self.resolve(path)):
            raise OSError(number, os.strerror(number), path)


def unpack(tree: Tree, root: Path) -> ArchivedHost:
    """Write a tree below `root`, which must be empty, and give the host it is."""
    made: set[Path] = set()

    def place(path: str) -> Path:
        real = root / path.lstrip("/")
        if real.parent not in made:
            real.parent.mkdir(parents=True, exist_ok=True)
            made.add(real.parent)
        return real

    for path in tree.directories:
        place(path).mkdir(exist_ok=True)
    for path in tree.errors.keys() - tree.directories:
        place(path).touch()
    for path, content in tree.files.items():
        place(path).write_bytes(content)
    for path, target in tree.links.items():
        place(path).symlink_to(target)
    return ArchivedHost(root, tree)


def load(path: Path) -> Tree:
    return parse(path.read_text(encoding="utf-8"))
