"""Which of the expected nodes a run is for: by name, by label. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aggregator.ledger import Expected
from common.errors import UsageError
from common.nodeset import unfold_names

_KEY: Final = r"[A-Za-z0-9._/-]{1,317}"
_VALUE: Final = r"[A-Za-z0-9._-]{0,63}"
_VALUE_ALONE: Final = re.compile(_VALUE)
_TERM: Final = re.compile(
    rf"""
      ! \s* (?P<absent>{_KEY})
    | (?P<key>{_KEY}) (?: \s* (?P<op>==|=|!=) \s* (?P<value>{_VALUE})
                        | \s+ (?P<set>in|notin) \s* \( (?P<values>[^()]*) \) )?
    """,
    re.VERBOSE,
)
_LONGEST: Final = 64_000
MOST_TERMS: Final = 64
"""Each is asked of every node, on the event loop. A term may have any number of values."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Nodes by name (a node set; empty for all) and by label (as kubectl's -l; empty for all)."""

    nodes: str = ""
    labels: str = ""

    def select(self, expected: Iterable[Expected]) -> list[Expected]:
        """The nodes that both parts allow, by name. Raises UsageError on what cannot be read."""
        if len(self.nodes) > _LONGEST:
            raise UsageError("the selector is too long")
        labels = LabelSelector.read(self.labels)
        names = frozenset(unfold_names(self.nodes)) if self.nodes else None
        return sorted(
            (node for node in expected if (names is None or node.node in names) and labels.matches(node.labels)),
            key=lambda node: node.node,
        )

    def names_any(self, expected: Iterable[Expected]) -> bool:
        """Whether a node that is named is there, or none is named. Raises UsageError on what cannot be read."""
        self.select(())
        return not self.nodes or not {node.node for node in expected}.isdisjoint(unfold_names(self.nodes))


@dataclass(frozen=True, slots=True)
class _Term:
    key: str
    values: frozenset[str] | None
    """None when only the key's presence matters."""
    negated: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        held = self.key in labels if self.values is None else labels.get(self.key) in self.values
        return held is not self.negated


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Terms that must all hold: `a=b`, `c!=d`, `e in (f, g)`, `h notin (i)`, `j`, `!k`."""

    terms: tuple[_Term, ...] = ()

    @classmethod
    def read(cls, text: str) -> "LabelSelector":
        """As kubectl writes it; empty for all. Raises UsageError."""
        if len(text) > _LONGEST:
            raise UsageError("the selector is too long")
        if not text.strip():
            return cls()
        parts = _parts(text)
        if len(parts) > MOST_TERMS:
            raise UsageError(
                f"the selector has more than {MOST_TERMS} terms", "Several values of one key are one: key in (a,b)."
            )
        return cls(tuple(_term(part.strip()) for part in parts))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether all terms hold."""
        return all(term.matches(labels) for term in self.terms)


def _parts(text: str) -> list[str]:
    """At the commas that are in no parentheses."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        if character in "()":
            depth += 1 if character == "(" else -1
        elif character == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _term(text: str) -> _Term:
    found = _TERM.fullmatch(text)
    if found is None:
        raise _unreadable(text)
    if found["absent"]:
        return _Term(found["absent"], None, negated=True)
    if found["set"]:
        values = frozenset(value.strip() for value in found["values"].split(","))
        if not all(map(_VALUE_ALONE.fullmatch, values)):
            raise _unreadable(text)
        return _Term(found["key"], values, negated=found["set"] == "notin")
    if found["op"]:
        return _Term(found["key"], frozenset((found["value"],)), negated=found["op"] == "!=")
    return _Term(found["key"], None, negated=False)


def _unreadable(text: str) -> UsageError:
    return UsageError(
        f"{text[:80]!r} is not a label selector",
        "Write it as key=value, key!=value, key in (a,b), key notin (a,b), key or !key.",
    )
