"""Folding of indexes and node names: `0-7`, `0-2,5`, `gpu-[001-512]`. Pure.

Node sets are written as ClusterShell writes them, so that its tools read them. To fold, its RangeSet is used: that
keeps zero padding right, and importing it reads no configuration files, whereas importing its NodeSet does. What
strangers write is unfolded here, since what it holds must be counted before any of it is made.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Final, NamedTuple

from common.errors import UsageError

_MOST_INDEXES: Final = 1_000_000
_MOST_NAMES: Final = 100_000
_LONGEST_NAME: Final = 253  # a DNS-1123 subdomain, which the name of a node is
_LONGEST_NUMBER: Final = 15  # longer ones are dates or serial numbers, not counted through

_ADDRESS: Final = re.compile(r"[0-9]+(?:[.-][0-9]+){3}")
_NUMBERED: Final = re.compile(r"([^.]*?)([0-9]+)([^0-9.]*(?:\..*)?)", re.ASCII | re.DOTALL)
_NAME: Final = re.compile(rf"[A-Za-z0-9._-]{{1,{_LONGEST_NAME}}}", re.ASCII)
_PIECE: Final = re.compile(r"\[([^\[\]]*)\]|([A-Za-z0-9._-]+)", re.ASCII)
_TOKEN: Final = re.compile(r"(?:\[[^\[\]]*\]|[^,\[\]])+")
_RANGE: Final = re.compile(r"([0-9]{1,15})(?:-([0-9]{1,15}))?", re.ASCII)


def fold_indexes(indexes: Iterable[int]) -> str:
    """Sorted, without repeats, runs joined: {0, 1, 2, 5} gives `0-2,5`; nothing gives the empty text."""
    folded: list[str] = []
    first = last = None
    for index in [*sorted(set(indexes)), None]:
        if last is not None and index == last + 1:
            last = index
            continue
        if first is not None:
            folded.append(str(first) if first == last else f"{first}-{last}")
        first = last = index
    return ",".join(folded)


def unfold_indexes(text: str, most: int = _MOST_INDEXES) -> list[int]:
    """The indexes a folded text stands for, sorted. Raises UsageError naming the part that is wrong.

    At most so many are made, those that come again among them.
    """
    indexes: set[int] = set()
    room = most
    for part in text.split(",") if text else []:
        first, dash, last = part.partition("-")
        if not (_is_index(first) and (_is_index(last) if dash else True)):
            raise UsageError(f"{_shown(part)} in {_shown(text)} is not an index or a range such as 0-7")
        low, high = int(first), int(last) if dash else int(first)
        if high < low:
            raise UsageError(f"the range {part!r} in {_shown(text)} runs backwards")
        room -= high - low + 1
        if room < 0:
            raise UsageError(f"the ranges up to {part!r} in {_shown(text)} hold more than {most} indexes")
        indexes.update(range(low, high + 1))
    return sorted(indexes)


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


def fold_names(names: Iterable[str]) -> str:
    """Node names as one node set, without repeats: `gpu-[001-512],login`. Nothing gives the empty text.

    The last number of a name's first part (before any dot) is counted through, zero padding kept. Names that hold an
    IPv4 address, as clouds give them (ip-10-0-158-18.ec2.internal), say more whole and are left so.
    """
    from ClusterShell.RangeSet import RangeSet  # only where names are folded; loading it takes milliseconds

    tokens: list[tuple[str, str]] = []  # a name to sort by, and what is written
    numbers: dict[tuple[str, str], list[str]] = {}
    for name in set(names):
        match = _NUMBERED.fullmatch(name)
        if match is None or len(match[2]) > _LONGEST_NUMBER or _ADDRESS.search(name):
            tokens.append((name, name))
        else:
            numbers.setdefault((match[1], match[3]), []).append(match[2])
    for (before, after), digits in numbers.items():
        if len(digits) == 1:
            name = before + digits[0] + after
            tokens.append((name, name))
            continue
        ranges = RangeSet()
        ranges.update(digits)
        tokens.append((before + min(digits) + after, f"{before}[{ranges}]{after}"))
    return ",".join(written for _, written in sorted(tokens))


def unfold_names(text: str) -> list[str]:
    """The names in a node set, sorted, without repeats. Raises UsageError naming the part that is wrong.

    Understands names and any number of brackets in each, separated by commas: `rack[1-2]-gpu[01-16],login`. At most
    so many names are made, those that come again among them.
    """
    names: set[str] = set()
    room = _MOST_NAMES
    for token in _tokens(text):
        pieces = _pieces(token)
        room -= prod(piece.count for piece in pieces)
        if room < 0:
            raise UsageError(f"the node set {_shown(text)} holds more than {_MOST_NAMES} names")
        names.update("".join(parts) for parts in product(*(piece.texts() for piece in pieces)))
    return sorted(names)


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or (match.end() < len(text) and text[match.end()] != ","):
            broken = text[at:].split(",")[0]
            problem = "has a bracket too many or too few" if broken else "is not a node name"
            raise UsageError(f"{_shown(broken)} in the node set {_shown(text)} {problem}")
        yield match[0].strip()
        at = match.end() + 1
        if at == len(text):
            raise UsageError(f"the node set {_shown(text)} ends in a comma")


class _Range(NamedTuple):
    """`001-512`: first, last, and how many digits each number has at least."""

    first: int
    last: int
    width: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """What stands between two brackets, or in them."""

    literal: str = ""
    ranges: Sequence[_Range] = ()

    @property
    def count(self) -> int:
        return sum(each.last - each.first + 1 for each in self.ranges) if self.ranges else 1

    @property
    def longest(self) -> int:
        return max((len(str(each.last).zfill(each.width)) for each in self.ranges), default=len(self.literal))

    def texts(self) -> Iterable[str]:
        if not self.ranges:
            return (self.literal,)
        return (str(number).zfill(each.width) for each in self.ranges for number in range(each.first, each.last + 1))


def _pieces(token: str) -> list[_Piece]:
    if _NAME.fullmatch(token):
        return [_Piece(token)]
    found = [(match[1], match[2]) for match in _PIECE.finditer(token)]
    whole = "".join(f"[{ranges}]" if ranges is not None else literal for ranges, literal in found)
    if not token or whole != token:
        raise UsageError(f"{_shown(token)} is not a node name or a node set such as gpu-[001-512]")
    pieces = [
        _Piece(ranges=_ranges(ranges, token)) if ranges is not None else _Piece(literal) for ranges, literal in found
    ]
    if sum(piece.longest for piece in pieces) > _LONGEST_NAME:
        raise UsageError(f"{_shown(token)} is longer than a node's name may be ({_LONGEST_NAME} characters)")
    return pieces


def _ranges(text: str, token: str) -> list[_Range]:
    """What a bracket holds."""
    ranges = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise UsageError(f"{_shown(part)} in {_shown(token)} is not a number or a range such as 001-512")
        first, last = match[1], match[2] or match[1]
        padded = any(number.startswith("0") and len(number) > 1 for number in (first, last))
        if int(last) < int(first) or (padded and len(first) != len(last)):
            raise UsageError(f"the range {_shown(part)} in {_shown(token)} runs backwards or mixes zero padding")
        ranges.append(_Range(int(first), int(last), len(first) if padded else 0))
    return ranges


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
