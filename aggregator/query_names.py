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

from common.errors import UsageError
from common.fleet_api import MOST_EXPRESSION
from common.model import MeasurementType

MOST_NAMES: Final = 64

_TOKEN: Final = re.compile(
    r"""
      (?P<space> \s+ | //[^\n]* )
    | (?P<raw> [bB]?[rR][bB]? (?: \"\"\" .*? \"\"\" | ''' .*? ''' | "[^"\n]*" | '[^'\n]*' ) )
    | (?P<text> [bB]? (?: \"\"\" (?:\\.|[^\\])*? \"\"\" | ''' (?:\\.|[^\\])*? '''
        | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' ) )
    | (?P<quoted> `[^`\n]*` )
    | (?P<word> [A-Za-z_][A-Za-z0-9_]* )
    | (?P<number> [0-9][A-Za-z0-9_]* )
    | (?P<sign> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_TYPES: Final = {kind.value: kind for kind in MeasurementType}
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


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

    def readings(self) -> Iterator[tuple[str, str]]:
        """The ways to read it as subtype and key, the shortest subtype first."""
        for cut in range(1, len(self.parts)):
            yield ".".join(self.parts[:cut]), ".".join(self.parts[cut:])

    @property
    def whole(self) -> str:
        """Read as the name of a subtype."""
        return ".".join(self.parts)


class Constant(NamedTuple):
    """A call that no fact changes: `semver("570.0.0")`. One that cannot be right makes the expression wrong."""

    call: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Named:
    """An expression in which `variable(i)` stands for `names[i]`."""

    source: str
    expression: str
    names: tuple[Name, ...]
    constants: tuple[Constant, ...] = ()


def variable(number: int) -> str:
    """What stands for the name at this position."""
    return f"__{number}"


def find_names(source: str) -> Named:
    """Take the names out of an expression. Raises UsageError when it is too long or names too much or nothing."""
    if not source.strip():
        raise UsageError("the expression is empty", 'Write one such as OS.release.ID == "ubuntu".')
    if len(source) > MOST_EXPRESSION:
        raise UsageError(f"the expression has more than {MOST_EXPRESSION} characters")
    tokens = [
        _Token(match.lastgroup or "", match[0], match.start(), match.end())
        for match in _TOKEN.finditer(source)
        if match.lastgroup != "space"
    ]
    names: dict[Name, int] = {}
    pieces: list[str] = []
    done = at = 0
    while at < len(tokens):
        found = _name_at(source, tokens, at)
        if found is None:
            at += 1
            continue
        name, after = found
        start, end = tokens[at].start, tokens[after - 1].end
        number = names.setdefault(name, len(names))
        pieces += [source[done:start], _fill(variable(number), source[start:end])]
        done, at = end, after
    if len(names) > MOST_NAMES:
        raise UsageError(f"the expression names more than {MOST_NAMES} facts")
    return Named(source, "".join([*pieces, source[done:]]), tuple(names), tuple(_constants(source, tokens)))


def _constants(source: str, tokens: list[_Token]) -> Iterator[Constant]:
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


def _name_at(source: str, tokens: list[_Token], at: int) -> tuple[Name, int] | None:
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


def _parts(tokens: list[_Token], at: int) -> tuple[tuple[str, ...], int]:
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


def _literal(token: _Token) -> str | None:
    """The text of a string literal; None for anything else."""
    if token.kind not in ("raw", "text") or token.text[0] in "bB":
        return None
    body = token.text.lstrip("rR")
    quotes = 3 if body[:3] in ('"""', "'''") and len(body) >= 6 else 1
    text = body[quotes:-quotes]
    return text if token.kind == "raw" else _ESCAPE.sub(r"\1", text)


def _texts(tokens: list[_Token], at: int, count: int) -> tuple[str, ...]:
    return tuple(token.text for token in tokens[at : at + count])


def position(source: str, offset: int) -> tuple[int, int]:
    """Line and column of a place in a text, both from 1."""
    before = source[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
