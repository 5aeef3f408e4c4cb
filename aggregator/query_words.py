"""CEL's words for what is wrong with an expression, as words about the user's text and facts. Pure."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from aggregator.query_child import Given, Missing
from aggregator.query_compared import ValueType, value_type
from aggregator.query_facts import Row
from aggregator.query_grammar import grammar_fault
from aggregator.query_names import Named, variable
from common.errors import UsageError

_FAULT: Final = re.compile(r"ERROR: <input>:(-?[0-9]+):(-?[0-9]+): ([^\n]*)")
_OVERLOADS: Final = (
    re.compile(r"No matching overloads found : (\S+?)\(([^()]*)\)"),
    re.compile(r"found no matching overload for '([^']+)' applied to '(.*)'"),
)
_UNDECLARED: Final = re.compile(r"undeclared reference to '([^']+)'")
_VARIABLE: Final = re.compile(r"__([0-9]+)\b")
_STATUS: Final = re.compile(r"[A-Z_]+: ")
_NOISE: Final = re.compile(r" \[[A-Z_]+\]$| \(in container '[^']*'\)")
_TYPES: Final = {"int64": "int", "bytes": "version", "double": "float", "uint64": "int"}
_GIVES: Final = re.compile(r"(the expression|it) gives ([A-Z]+)(?:<.*>)?(?= and not true or false)")
_GIVEN: Final = {
    "INT": "a number",
    "UINT": "a number",
    "DOUBLE": "a number",
    "STRING": "text",
    "BYTES": "a version",
    "MAP": "a map",
    "LIST": "a list",
    "TYPE": "a type",
}
_OPERATORS: Final = {"_[_]": "[]", "@in": "in", "_?_:_": "?:"}


def undecided(reason: str, named: Named, cells: Sequence[Given | Missing]) -> str:
    """CEL's words for why there is no answer, with the facts' names in them."""
    if not reason:
        return ""
    text = _STATUS.sub("", reason, count=1)
    missing = _VARIABLE.search(text)
    if "in Activation" in text and missing is not None and int(missing[1]) < len(named.uses):
        use = named.uses[int(missing[1])]
        name, cell = named.names[use.name].text, cells[use.name]
        if isinstance(cell, Given):
            return _mistaken(f"has({name})" if named.names[use.name].is_test else name, cell, use.takes)
        return f"{name} {'was not read' if cell.unread else 'is not there'}"
    return _plain(text, named)


def _mistaken(name: str, cell: Given, takes: Collection[ValueType]) -> str:
    """A fact is compared with values of other types than its own."""
    found = value_type(cell.value)
    wanted = " or ".join(sorted(one.value for one in takes))
    advice = "name one of its facts" if found is ValueType.MAP else "compare it with " + found.value
    if ValueType.NUMBER in takes and found is ValueType.TEXT:
        advice = f"put the number in quotes, or {name} in int(), double() or quantity()"
    elif ValueType.TEXT in takes and found is ValueType.NUMBER:
        advice = f"leave out the quotes, or put {name} in string()"
    return f"{name} is {found.value} and cannot equal {wanted}: {advice}"


def _plain(text: str, named: Named) -> str:
    """With the user's names for our variables, and without CEL's names for operators."""
    text = _NOISE.sub("", text)
    if "Iteration budget" in text:
        return "it takes more steps than a query may"
    for pattern in _OVERLOADS:
        text = pattern.sub(_overload, text)
    text = _GIVES.sub(lambda found: f"{found[1]} is {_GIVEN.get(found[2], found[2].lower())}", text)
    names = [named.names[use.name].text for use in named.uses]
    return _VARIABLE.sub(lambda found: names[int(found[1])] if int(found[1]) < len(names) else found[0], text)


def _overload(found: re.Match[str]) -> str:
    operator = _OPERATORS.get(found[1], found[1].strip("_"))
    types = [_TYPES.get(one.strip(), one.strip()) for one in found[2].strip("()").split(",")]
    return f"{operator} cannot take {' and '.join(types)}"


def refusal(fault: str, named: Named) -> UsageError:
    """A wrong expression: what is wrong, where, and the place shown."""
    found = _FAULT.search(fault)
    if found is None or int(found[1]) < 1:
        deep = "recursion" in fault
        return UsageError("the expression is nested too deeply" if deep else f"CEL refuses it: {fault[:200]}")
    line, column = int(found[1]), int(found[2])
    column = _beginning(found[3], named, line, column)
    wrong, instead = grammar_fault(found[3], is_at_end=column > len(_line(named, line)))
    text = _plain(wrong or _STATUS.sub("", found[3], count=1), named)
    return UsageError(
        f"{text} (line {line}, column {column} of the expression)", instead or _hint(found[3], named, line, column)
    )


def refuse_whole(named: Named, rows: Iterable[Row]) -> None:
    """Raises UsageError when all of the expression is a whole subtype, which is true or false on no node."""
    if len(named.names) != 1 or named.expression.strip() != variable(0):
        return
    if any(isinstance(cell, Given) and isinstance(cell.value, dict) for row in rows for cell in row.cells):
        (name,) = named.names
        raise UsageError(
            f"{name.text} is a whole subtype, and neither true nor false",
            f'Compare one of its facts, {name.text}["KEY"] == "…", or ask whether it is there: has({name.text}).',
        )


def _beginning(text: str, named: Named, line: int, column: int) -> int:
    """The column where an unknown name begins: CEL tells where its last dot is, or the parenthesis after it."""
    unknown = _UNDECLARED.search(text)
    if unknown is None:
        return column
    start = _line(named, line).rfind(unknown[1], 0, column - 1 + len(unknown[1]))
    return column if start < 0 else start + 1


def _line(named: Named, line: int) -> str:
    lines = named.source.split("\n")
    return lines[line - 1] if line <= len(lines) else ""


def _hint(text: str, named: Named, line: int, column: int) -> str:
    unknown = _UNDECLARED.search(text)
    if unknown and _line(named, line)[column - 1 + len(unknown[1]) :].lstrip().startswith("("):
        return "Functions are those of CEL, semver() and quantity()."
    before = _line(named, line)[: column - 1].rstrip()
    if "undeclared reference" in text and before.endswith("-"):
        return 'A key with a hyphen stands in brackets: GPU.smi["gpu-count"].'
    if "undeclared reference" in text:
        return "Facts are written Type.subtype.key; types are K8s, GPU, OS, SystemD and NodeTopology."
    if "string" in text and "overload" in text:
        return "Texts become numbers with int(), double(), quantity() and semver()."
    return "See eidos fleet query --help."
