"""Folding of indexes and node names: `0-7`, `0-2,5`. Pure."""

from collections.abc import Iterable
from typing import Final

from common.errors import UsageError

_MOST_INDEXES: Final = 1_000_000


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
    return sorted(indexes)


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
