"""Keys that stand for several equal things, such as `vbios-version[0-7]`: taken apart and put together. Pure.

One of eight GPUs that changes splits the key of all eight. Compared index by index it is what it is: one change.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from common.errors import UsageError
from common.model import Scalar
from common.nodeset import fold_indexes, unfold_indexes

_FOLDED: Final = re.compile(r"(.+)\[([0-9][0-9,-]*)\]", re.DOTALL)
_MOST_INDEXES: Final = 4096
"""Most indexes unfolded in one key, and in one subtype; keys beyond are compared as they are written."""


def split_key(key: str) -> tuple[str, list[int]]:
    """The name and the indexes of a folded key; no indexes for any other key."""
    match = _FOLDED.fullmatch(key)
    if match is None:
        return key, []
    try:
        return match[1], unfold_indexes(match[2], _MOST_INDEXES)
    except UsageError:  # brackets that are part of the name, or too many
        return key, []


def unfold_differing(
    old: Mapping[str, Scalar], new: Mapping[str, Scalar]
) -> tuple[Mapping[str, Scalar], Mapping[str, Scalar]]:
    """Both sides with those folded keys taken apart, index by index, that only one side has."""
    differing = old.keys() ^ new.keys()
    parts = {key: indexes for key in differing if (indexes := split_key(key)[1])}
    if not parts or sum(map(len, parts.values())) > _MOST_INDEXES:
        return old, new
    return _unfold(old, parts), _unfold(new, parts)


def _unfold(data: Mapping[str, Scalar], parts: Mapping[str, list[int]]) -> dict[str, Scalar]:
    unfolded: dict[str, Scalar] = {}
    for key, value in data.items():
        if key in parts:
            name = split_key(key)[0]
            unfolded.update((f"{name}[{index}]", value) for index in parts[key])
        else:
            unfolded[key] = value
    return unfolded


def fold_keys(keys: Iterable[str]) -> list[str]:
    """Keys of one meaning, put together again: `x[0]`, `x[1]`, `y` give `x[0-1]`, `y`, in order of first mention."""
    indexes: dict[str, list[int]] = {}
    for key in keys:
        name, own = split_key(key)
        indexes.setdefault(name, []).extend(own)
    return [f"{name}[{fold_indexes(own)}]" if own else name for name, own in indexes.items()]
