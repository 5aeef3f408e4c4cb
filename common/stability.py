"""The stability class of every fact, read from `common/stability.toml`.

stable    configuration; digested, folded, compared between nodes. The default.
identity  right to differ between nodes (UUIDs, serials, addresses); compared with itself over time only.
volatile  changes by itself (counters, clocks, process ids); never digested, captured only when asked.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final

from common.errors import Code, InputError
from common.model import Scalar

NODE_PLACEHOLDER: Final = "${node}"


class Stability(StrEnum):
    """How a fact behaves; see the module's docstring."""

    STABLE = "stable"
    IDENTITY = "identity"
    VOLATILE = "volatile"


class Rule:
    """One line of the file: a class for the keys that match, in the subtypes that match, and why."""

    __slots__ = ("keys", "stability", "subtype", "why")

    def __init__(self, stability: Stability, subtype: str, keys: list[str], why: str) -> None:
        self.stability = stability
        self.subtype = subtype
        self.keys = keys
        self.why = why


class Rules:
    """Answers which class a fact has. The first rule in the file that matches wins."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = list(rules)
        self._matchers: dict[str, _SubtypeMatcher] = {}

    def classify(self, kind: str, subtype: str, key: str) -> Stability:
        """The class of `Type.subtype.key`."""
        return self._matcher(kind, subtype).classify(key)

    def rule_for(self, kind: str, subtype: str, key: str) -> Rule | None:
        """The rule that decides, or None for a key that is stable because nothing says otherwise."""
        return self._matcher(kind, subtype).rule(key)

    def select(
        self, kind: str, subtype: str, data: Mapping[str, Scalar], wanted: Iterable[Stability]
    ) -> dict[str, Scalar]:
        """The part of one subtype's data that has one of the wanted classes."""
        classify, chosen = self._matcher(kind, subtype).classify, frozenset(wanted)
        return {key: value for key, value in data.items() if classify(key) in chosen}

    def _matcher(self, kind: str, subtype: str) -> "_SubtypeMatcher":
        name = f"{kind}.{subtype}"
        matcher = self._matchers.get(name)
        if matcher is None:
            matching = [rule for rule in self._rules if _glob(rule.subtype).fullmatch(name)]
            matcher = self._matchers[name] = _SubtypeMatcher(matching)
        return matcher


class _SubtypeMatcher:
    """The rules of one subtype, made once: literal keys in a dict, patterns in one expression per rule."""

    def __init__(self, rules: list[Rule]) -> None:
        self._literal: dict[str, tuple[int, Rule]] = {}
        self._patterns: list[tuple[int, re.Pattern[str], Rule]] = []
        for order, rule in enumerate(rules):
            globs = [key for key in rule.keys if "*" in key]
            for key in rule.keys:
                if "*" not in key:
                    self._literal.setdefault(key, (order, rule))
            if globs:
                self._patterns.append((order, re.compile("|".join(map(_translate, globs)), re.DOTALL), rule))

    def rule(self, key: str) -> Rule | None:
        literal = self._literal.get(key)
        for order, pattern, rule in self._patterns:
            if literal is not None and literal[0] < order:
                break
            if pattern.fullmatch(key):
                return rule
        return literal[1] if literal else None

    def classify(self, key: str) -> Stability:
        rule = self.rule(key)
        return rule.stability if rule else Stability.STABLE


def without_node_name(value: Scalar, node: str) -> Scalar:
    """The value as compared between nodes: the node's own name, where it stands as a whole word, replaced."""
    if not node or not isinstance(value, str) or node not in value:
        return value
    return re.sub(rf"(?<![\w.-]){re.escape(node)}(?![\w-])", NODE_PLACEHOLDER, value)


def parse_rules(text: str) -> list[Rule]:
    """The rules in a stability file, in its order. Raises InputError naming the rule that is wrong."""
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(Code.INPUT_MALFORMED, f"the stability rules are not TOML: {error}") from error
    rules = document.get("rule", [])
    if not isinstance(rules, list):
        raise InputError(Code.INPUT_MALFORMED, "the stability rules are not a list of [[rule]]")
    return [_parse_rule(number, entry) for number, entry in enumerate(rules, start=1)]


def _parse_rule(number: int, entry: Any) -> Rule:
    try:
        rule = Rule(Stability(entry["class"]), entry["subtype"], entry["keys"], entry["why"])
        texts = (rule.subtype, rule.why, *rule.keys)
        if isinstance(rule.keys, list) and rule.keys and all(isinstance(text, str) and text for text in texts):
            return rule
    except (KeyError, TypeError, ValueError):
        pass
    raise InputError(
        Code.INPUT_MALFORMED,
        f"rule {number} of the stability rules needs class (stable, identity, volatile), subtype, keys and why",
    )


@cache
def default_rules() -> Rules:
    """The rules shipped with Eidos."""
    return Rules(parse_rules(Path(__file__).with_name("stability.toml").read_text(encoding="utf-8")))


@cache
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(_translate(pattern), re.DOTALL)


def _translate(pattern: str) -> str:
    """`*` stands for any text, everything else for itself: keys are full of `[`, `?` and dots."""
    return ".*".join(re.escape(part) for part in pattern.split("*"))
