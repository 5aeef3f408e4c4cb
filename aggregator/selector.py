"""Which of the expected nodes a run is for: by name, by label. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aggregator.ledger import Expected
from common.errors import UsageError
from common.nodeset import unfold_names

_TERM: Final = re.compile(
    r"(?P<not>!)?(?P<key>[A-Za-z0-9._/-]{1,317})(?:(?P<op>==|=|!=)(?P<value>[A-Za-z0-9._-]{0,63}))?"
)
_LONGEST: Final = 64_000


@dataclass(frozen=True, slots=True)
class Selector:
    """Nodes by name (a node set; empty for all) and by label (as kubectl's -l: `a=b,c!=d,e,!f`; empty for all)."""

    nodes: str = ""
    labels: str = ""

    def select(self, expected: Iterable[Expected]) -> list[Expected]:
        """The nodes that both parts allow, by name. Raises UsageError on what cannot be read."""
        if len(self.nodes) > _LONGEST or len(self.labels) > _LONGEST:
            raise UsageError("the selector is too long")
        terms = [_term(text.strip()) for text in self.labels.split(",")] if self.labels.strip() else []
        names = frozenset(unfold_names(self.nodes)) if self.nodes else None
        return sorted(
            (
                node
                for node in expected
                if (names is None or node.node in names) and all(term.matches(node) for term in terms)
            ),
            key=lambda node: node.node,
        )


@dataclass(frozen=True, slots=True)
class _Term:
    key: str
    value: str | None
    """None when only the key's presence matters."""
    negated: bool

    def matches(self, node: Expected) -> bool:
        if self.value is None:
            return (self.key in node.labels) is not self.negated
        return (node.labels.get(self.key) == self.value) is not self.negated


def _term(text: str) -> _Term:
    found = _TERM.fullmatch(text)
    if found is None or (found["not"] and found["op"]):
        raise UsageError(f"{text[:80]!r} is not a label selector", "Write it as key=value, key!=value, key or !key.")
    return _Term(found["key"], found["value"], bool(found["not"]) or found["op"] == "!=")
