"""What every key is and where it is read: the texts of `common/key_texts/*.toml`, for `eidos explain`.

A file holds `[[key]]` entries with `match` (one pattern or a list over `Type.subtype.key`, `*` stands for any text;
`Type.subtype` alone describes the subtype), `what` and `source`. The most specific pattern wins: the one with the
most text that is not `*`.
"""

import re
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from common.errors import Code, InputError
from common.stability import Rules, Stability, default_rules

_STABLE_WHY: Final = "configuration: it stays the same until somebody changes it"


class Explanation(msgspec.Struct, frozen=True):
    """What a key is, where it is read, how it behaves and why."""

    what: str
    source: str
    stability: Stability
    why: str


class Entry(msgspec.Struct, frozen=True):
    """One pattern of a file and its texts."""

    match: str
    what: str
    source: str


class Keys:
    """Answers what a key is."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        # Longest first, so that the first that matches is the most specific; equal ones stay in the files' order.
        ordered = sorted(entries, key=lambda entry: -len(entry.match.replace("*", "")))
        self._literal: dict[str, Entry] = {}
        self._patterns: list[tuple[re.Pattern[str], Entry]] = []
        for entry in ordered:
            if "*" in entry.match:
                expression = ".*".join(re.escape(part) for part in entry.match.split("*"))
                self._patterns.append((re.compile(expression, re.DOTALL), entry))
            else:
                self._literal.setdefault(entry.match, entry)

    def find(self, name: str) -> Entry | None:
        """The entry that says most about `Type.subtype.key` or `Type.subtype`."""
        if literal := self._literal.get(name):
            return literal  # nothing is more specific than the name itself
        return next((entry for pattern, entry in self._patterns if pattern.fullmatch(name)), None)


def explain(kind: str, subtype: str, key: str = "") -> Explanation | None:
    """What is known of `Type.subtype.key`, else of its subtype; None when nothing is."""
    return explain_with(default_keys(), default_rules(), kind, subtype, key)


def explain_with(keys: Keys, rules: Rules, kind: str, subtype: str, key: str = "") -> Explanation | None:
    """As `explain`, with other texts and rules."""
    of_subtype = f"{kind}.{subtype}"
    entry = (keys.find(f"{of_subtype}.{key}") or keys.find(f"{of_subtype}.{key}[0]")) if key else None
    entry = entry or keys.find(of_subtype)
    if entry is None:
        return None
    # `uuid` stands for `uuid[0]`, `uuid[1]` and so on, as people write it.
    rule = (rules.rule_for(kind, subtype, key) or rules.rule_for(kind, subtype, f"{key}[0]")) if key else None
    return Explanation(
        entry.what, entry.source, rule.stability if rule else Stability.STABLE, rule.why if rule else _STABLE_WHY
    )


def parse_keys(text: str, name: str) -> list[Entry]:
    """The entries of one file, in its order. Raises InputError naming the file and the entry that is wrong."""
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(Code.INPUT_MALFORMED, f"{name} is not TOML: {error}") from error
    listed = document.get("key", [])
    entries: list[Entry] = []
    for number, entry in enumerate(listed if isinstance(listed, list) else [listed], start=1):
        texts = entry if isinstance(entry, dict) else {}
        match, what, source = (texts.get(name) for name in ("match", "what", "source"))
        patterns: list[Any] = match if isinstance(match, list) else [match]
        if not patterns or not all(isinstance(text, str) and text.strip() for text in (*patterns, what, source)):
            raise InputError(Code.INPUT_MALFORMED, f"{name}: key {number} needs match, what and source")
        entries += (Entry(pattern, str(what), str(source)) for pattern in patterns)
    return entries


@cache
def default_keys() -> Keys:
    """The texts shipped with Eidos: all files of common/key_texts/, in the order of their names."""
    paths = sorted((Path(__file__).parent / "key_texts").glob("*.toml"))
    return Keys(entry for path in paths for entry in parse_keys(path.read_text(encoding="utf-8"), path.name))
