"""What type of value a fact is compared with, where that is written out: `== 60`, `in ["a", "b"]`. Pure.

CEL takes a text and a number for unequal, without a word: `OS.sysctl["/proc/sys/vm/swappiness"] != 60` would be true
for "60". Only what certainly is a whole operand counts here; of anything else nothing is said.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final

from aggregator.query_tokens import Token
from common.model import Scalar

_BEGINS: Final = frozenset("([{,?:&|")
"""Signs after which an operand of a comparison begins."""
_ENDS: Final = frozenset(")]},?:&|")
_OPERATORS: Final = {("=", "="), ("!", "=")}
_BOOLS: Final = ("true", "false")


class ValueType(Enum):
    """What equals no value of another of these."""

    TEXT = "text"
    NUMBER = "a number"
    BOOL = "true or false"
    BYTES = "bytes"
    MAP = "a whole subtype"


ANY: Final[frozenset[ValueType]] = frozenset()
"""Nothing is known of what it is compared with."""


def value_type(value: Scalar | dict[str, Scalar]) -> ValueType:
    """The type of a fact's value, or of a whole subtype."""
    if isinstance(value, bool):
        return ValueType.BOOL
    if isinstance(value, dict):
        return ValueType.MAP
    return ValueType.TEXT if isinstance(value, str) else ValueType.NUMBER


def compared_with(tokens: Sequence[Token], at: int, after: int) -> frozenset[ValueType]:
    """The types of the literals that the operand from `at` to before `after` is compared with; ANY if it is not."""
    if _begins(tokens, at):
        if _texts(tokens, after, 2) in _OPERATORS:
            found, end = _literal(tokens, after + 2)
        elif _texts(tokens, after, 2) == ("in", "["):
            found, end = _list(tokens, after + 2)
        else:
            found, end = ANY, after
        if found and _ends(tokens, end):
            return found
    if at >= 3 and _ends(tokens, after) and _texts(tokens, at - 2, 2) in _OPERATORS:
        return next(
            (found for begin in range(at - 3, max(at - 9, -1), -1) if (found := _whole(tokens, begin, at - 2))), ANY
        )
    return ANY


def _whole(tokens: Sequence[Token], begin: int, after: int) -> frozenset[ValueType]:
    """The type of the literal that stands between these and is the whole operand; ANY if it is none."""
    found, end = _literal(tokens, begin)
    return found if end == after and _begins(tokens, begin) else ANY


def _literal(tokens: Sequence[Token], at: int) -> tuple[frozenset[ValueType], int]:
    """The type of the literal that begins at a token, and the token after it."""
    if _texts(tokens, at, 1) == ("-",) and at + 1 < len(tokens) and tokens[at + 1].kind == "number":
        at += 1
    if at >= len(tokens):
        return ANY, at
    token = tokens[at]
    if token.kind in ("text", "raw"):
        is_bytes = "b" in token.text[: token.text.index(token.text[-1])].lower()
        return frozenset((ValueType.BYTES if is_bytes else ValueType.TEXT,)), at + 1
    if token.kind == "word" and token.text in _BOOLS:
        return frozenset((ValueType.BOOL,)), at + 1
    if token.kind == "number":
        return frozenset((ValueType.NUMBER,)), _after_number(tokens, at)
    return ANY, at


def _after_number(tokens: Sequence[Token], at: int) -> int:
    """`60`, `0x3c`, `60u`, `60.5`, `6e+1`: the tokenizer cuts at a point and at the sign of an exponent."""
    if _texts(tokens, at + 1, 1) == (".",) and at + 2 < len(tokens) and tokens[at + 2].kind == "number":
        at += 2
    text = tokens[at].text.lower()
    if text.endswith("e") and not text.startswith("0x") and _texts(tokens, at + 1, 1) in (("-",), ("+",)):
        at += 2
    return at + 1


def _list(tokens: Sequence[Token], at: int) -> tuple[frozenset[ValueType], int]:
    """The types of a list's elements, from after its bracket, and the token after it; ANY unless all are literals."""
    types: frozenset[ValueType] = ANY
    while True:
        found, at = _literal(tokens, at)
        closing = _texts(tokens, at, 1)
        if not found or closing not in ((",",), ("]",)):
            return ANY, at
        types |= found
        at += 1
        if closing == ("]",):
            return types, at


def _begins(tokens: Sequence[Token], at: int) -> bool:
    return at == 0 or (tokens[at - 1].kind == "sign" and tokens[at - 1].text in _BEGINS)


def _ends(tokens: Sequence[Token], at: int) -> bool:
    return at >= len(tokens) or (tokens[at].kind == "sign" and tokens[at].text in _ENDS)


def _texts(tokens: Sequence[Token], at: int, count: int) -> tuple[str, ...]:
    return tuple(token.text for token in tokens[at : at + count])
