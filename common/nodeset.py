"""Folding of indexes and node names: `0-7`, `0-2,5`, `gpu-[001-512]`. Pure.

Node sets are written as ClusterShell writes them, so that its tools read them. Only its RangeSet is used: that keeps
zero padding right, and importing it reads no configuration files, whereas importing its NodeSet does.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import product
from math import prod
from typing import Final

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


def unfold_indexes(text: str) -> list[int]:
    """The indexes a folded text stands for, sorted. Raises UsageError naming the part that is wrong."""
    indexes: set[int] = set()
    for part in text.split(",") if text else []:
        first, dash, last = part.partition("-")
        if not (_is_index(first) and (_is_index(last) if dash else True)):
            raise UsageError(f"{part!r} in {text!r} is not an index or a range such as 0-7")
        low, high = int(first), int(last) if dash else int(first)
        if high < low or high - low >= _MOST_INDEXES:
            raise UsageError(f"the range {part!r} in {text!r} runs backwards or is too long")
        indexes.update(range(low, high + 1))
        if len(indexes) > _MOST_INDEXES:
            raise UsageError(f"the ranges up to {part!r} hold more than {_MOST_INDEXES} indexes")
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

    Understands names and any number of brackets in each, separated by commas: `rack[1-2]-gpu[01-16],login`.
    """
    names: set[str] = set()
    for token in _tokens(text):
        names.update(_unfold_token(token))
        if len(names) > _MOST_NAMES:
            raise _too_many(text)
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


def _unfold_token(token: str) -> list[str]:
    if _NAME.fullmatch(token):
        return [token]
    pieces = [(match[1], match[2]) for match in _PIECE.finditer(token)]
    whole = "".join(f"[{ranges}]" if ranges is not None else literal for ranges, literal in pieces)
    if not token or whole != token:
        raise UsageError(f"{_shown(token)} is not a node name or a node set such as gpu-[001-512]")
    counts = [_count(ranges, token) for ranges, _ in pieces if ranges is not None]
    if prod(counts) > _MOST_NAMES:
        raise _too_many(token)
    from ClusterShell.RangeSet import RangeSet

    choices = [list(RangeSet(ranges).striter()) if ranges is not None else [literal] for ranges, literal in pieces]
    names = ["".join(parts) for parts in product(*choices)]
    if any(len(name) > _LONGEST_NAME for name in names):
        raise UsageError(f"{_shown(token)} is longer than a node's name may be ({_LONGEST_NAME} characters)")
    return names


def _count(ranges: str, token: str) -> int:
    """How many numbers a bracket holds at most; refuses what RangeSet would stumble over or take its time for."""
    total = 0
    for part in ranges.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise UsageError(f"{_shown(part)} in {_shown(token)} is not a number or a range such as 001-512")
        first, last = match[1], match[2] or match[1]
        padded = any(number.startswith("0") and len(number) > 1 for number in (first, last))
        if int(last) < int(first) or (padded and len(first) != len(last)):
            raise UsageError(f"the range {_shown(part)} in {_shown(token)} runs backwards or mixes zero padding")
        total += int(last) - int(first) + 1
    return total


def _too_many(text: str) -> UsageError:
    return UsageError(f"the node set {_shown(text)} holds more than {_MOST_NAMES} names")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
