"""The facts an expression names, and the expression with a variable in the place of each of them. Pure.

    OS.release.VERSION_ID != "22.04" && has(GPU.smi["gpu-count"])
    __0                   != "22.04" && __1

Every variable has the length of what it stands for, so that CEL's lines and columns are those of the user's text.
Only names are understood here; what an expression means is left to CEL.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from aggregator.query_compared import ValueType, compared_with
from aggregator.query_tokens import Token, tokens_of
from common.errors import UsageError
from common.fleet_api import MOST_EXPRESSION
from common.model import MeasurementType

MOST_NAMES: Final = 64

_TYPES: Final = {kind.value: kind for kind in MeasurementType}
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Name:
    """One fact, or one subtype, as an expression names it."""

    kind: MeasurementType
    parts: tuple[str, ...]
    """What stands between dots and in brackets. A subtype or key may have dots itself and be several of them."""
    is_test: bool
    """Whether only its being there is asked: has(…)."""
    text: str
    """As written."""

    @property
    def whole(self) -> str:
        """Read as the name of a subtype."""
        return ".".join(self.parts)


class Use(NamedTuple):
    """A name in one kind of place."""

    name: int
    """Its position among the names."""
    takes: frozenset[ValueType]
    """Types of value that mean something there; ANY if all do."""


class Constant(NamedTuple):
    """A call that no fact changes: `semver("570.0.0")`. One that cannot be right makes the expression wrong."""

    call: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Named:
    """An expression in which `variable(i)` stands for `uses[i]`."""

    source: str
    expression: str
    names: tuple[Name, ...]
    uses: tuple[Use, ...] = ()
    constants: tuple[Constant, ...] = ()


def variable(number: int) -> str:
    """What stands for the use at this position."""
    return f"__{number}"


def find_names(source: str) -> Named:
    """Take the names out of an expression. Raises UsageError when it is too long or names too much or nothing."""
    if not source.strip():
        raise UsageError("the expression is empty", 'Write one such as OS.release.ID == "ubuntu".')
    if len(source) > MOST_EXPRESSION:
        raise UsageError(f"the expression has more than {MOST_EXPRESSION} characters")
    tokens = tokens_of(source)
    names: dict[Name, int] = {}
    uses: dict[Use, int] = {}
    pieces: list[str] = []
    done = at = 0
    while at < len(tokens):
        found = _name_at(source, tokens, at)
        if found is None:
            at += 1
            continue
        name, after = found
        start, end = tokens[at].start, tokens[after - 1].end
        use = Use(names.setdefault(name, len(names)), compared_with(tokens, at, after))
        number = uses.setdefault(use, len(uses))
        pieces += [source[done:start], _fill(variable(number), source[start:end])]
        done, at = end, after
    if len(names) > MOST_NAMES:
        raise UsageError(f"the expression names more than {MOST_NAMES} facts")
    expression = "".join([*pieces, source[done:]])
    return Named(source, expression, tuple(names), tuple(uses), tuple(_constants(source, tokens)))


def _constants(source: str, tokens: list[Token]) -> Iterator[Constant]:
    """Versions, quantities and regular expressions that are written out."""
    for at, (function, opening, literal, closing) in enumerate(
        zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False)
    ):
        if (opening.text, closing.text) != ("(", ")") or literal.kind not in ("text", "raw"):
            continue
        is_method = at > 0 and tokens[at - 1].text == "."
        if function.text in ("semver", "quantity") and not is_method:
            yield Constant(f"{function.text}({literal.text})", *position(source, function.start))
        elif function.text == "matches" and is_method:
            yield Constant(f'"".matches({literal.text})', *position(source, function.start))


def _fill(name: str, replaced: str) -> str:
    """The name, made as long as what it replaces, and in as many lines."""
    lines = [" " * len(line) for line in replaced.split("\n")]
    roomy = next((number for number, line in enumerate(lines) if len(line) >= len(name)), 0)
    lines[roomy] = name.ljust(len(lines[roomy]))
    return "\n".join(lines)


def _name_at(source: str, tokens: list[Token], at: int) -> tuple[Name, int] | None:
    """The name that begins at a token, and the token after it."""
    is_test = _texts(tokens, at, 2) == ("has", "(")
    begin = at + 2 if is_test else at
    if begin >= len(tokens) or tokens[begin].text not in _TYPES or (at and tokens[at - 1].text == "."):
        return None
    parts, after = _parts(tokens, begin + 1)
    if is_test:
        if _texts(tokens, after, 1) != (")",):
            return None
        after += 1
    kind = _TYPES[tokens[begin].text]
    if not parts:
        line, column = position(source, tokens[begin].start)
        raise UsageError(
            f"{kind.value} alone names no fact (line {line}, column {column})",
            "Write Type.subtype.key, as in OS.release.ID.",
        )
    last = tokens[after - 2 if is_test else after - 1]
    return Name(kind, parts, is_test, source[tokens[begin].start : last.end]), after


def _parts(tokens: list[Token], at: int) -> tuple[tuple[str, ...], int]:
    """What follows the type: `.word`, `` .`any text` ``, `["any text"]`, `[3]` for one of several equal things."""
    parts: list[str] = []
    while True:
        dot, word, opening = (*tokens[at : at + 3], None, None, None)[:3]
        if dot is None or word is None:
            break
        if dot.text == "." and word.kind in ("word", "quoted"):
            if word.kind == "word" and opening is not None and opening.text == "(":
                break  # a call: `.startsWith(…)`
            parts.append(word.text.strip("`"))
            at += 2
        elif dot.text == "[" and opening is not None and opening.text == "]" and (part := _literal(word)) is not None:
            parts.append(part)
            at += 3
        elif dot.text == "[" and opening is not None and opening.text == "]" and parts and word.text.isdecimal():
            parts[-1] += f"[{word.text}]"
            at += 3
        else:
            break
    return tuple(parts), at


def _literal(token: Token) -> str | None:
    """The text of a string literal; None for anything else."""
    if token.kind not in ("raw", "text") or token.text[0] in "bB":
        return None
    body = token.text.lstrip("rR")
    quotes = 3 if body[:3] in ('"""', "'''") and len(body) >= 6 else 1
    text = body[quotes:-quotes]
    return text if token.kind == "raw" else _ESCAPE.sub(r"\1", text)


def _texts(tokens: list[Token], at: int, count: int) -> tuple[str, ...]:
    return tuple(token.text for token in tokens[at : at + count])


def position(source: str, offset: int) -> tuple[int, int]:
    """Line and column of a place in a text, both from 1."""
    before = source[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
