"""The process that evaluates one expression: `python -m aggregator.query_child`, a request in, an answer out.

CEL bounds itself (nesting of 32, 10,000 steps of a macro at each evaluation, regular expressions without
backtracking). What remains, such as text that doubles with every step, meets this process's own limits on memory and
time; whatever it dies of, the aggregator goes on.
"""

import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from aggregator.query_functions import quantity, semver
from common.model import Scalar

if TYPE_CHECKING:
    from cel_expr_python import cel

_MEMORY: Final = 256 << 20
"""Bytes of address space: the aggregator's own memory limit, in a cluster, is this process's too."""
_LONGEST_REASON: Final = 200
NO_MEMORY: Final = 3
"""Exit status when there was not enough memory."""


class Missing(msgspec.Struct, frozen=True, tag=True):
    """A fact is not there; `unread` when it could not be read, or nobody looked."""

    unread: bool = False


class Given(msgspec.Struct, frozen=True, tag=True):
    """A fact's value, a whole subtype, or whether something is there."""

    value: Scalar | dict[str, Scalar]


class Request(msgspec.Struct, frozen=True):
    """An expression, and the facts of each distinct content, by position of their variable."""

    expression: str
    variables: list[str]
    rows: list[list[Given | Missing]]
    seconds: int
    constants: list[tuple[str, int, int]] = []
    """Expressions without variables, with line and column in the user's text, that must have a value."""


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one row gave: true, false, or no answer and why."""

    matches: bool | None
    reason: str = ""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A verdict for every row; or, when the expression is wrong, CEL's words for it."""

    verdicts: list[Verdict] = []
    fault: str = ""


def evaluate(request: Request) -> Answer:
    """Compile once, evaluate every row."""
    from cel_expr_python import cel

    types = dict.fromkeys(request.variables, cel.Type.DYN)
    environment = cel.NewEnv(variables=types, functions=_functions(cel))
    try:
        program = environment.compile(request.expression)
        kind = program.return_type()
    except RuntimeError as error:
        return Answer(fault=str(error))
    if kind not in (cel.Type.BOOL, cel.Type.DYN):
        return Answer(fault=f"ERROR: <input>:1:1: the expression gives {kind.name()} and not true or false")
    for call, line, column in request.constants:
        if reason := _constant_fault(environment, call):
            return Answer(fault=f"ERROR: <input>:{line}:{column}: {reason}")
    return Answer([_verdict(program, _data(request.variables, row)) for row in request.rows])


def _constant_fault(environment: "cel.Env", call: str) -> str:
    """Why a call without variables has no value, in one line."""
    try:
        result = environment.compile(call).eval(data={})
        reason = str(result.value()) if result.type().name() == "ERROR" else ""
    except (RuntimeError, ValueError, OverflowError) as error:
        reason = str(error)
    return " ".join(reason.split())[:_LONGEST_REASON]


def _data(variables: Sequence[str], row: Sequence[Given | Missing]) -> dict[str, object]:
    """What is missing is no variable: CEL calls using it an error, which `||` and `&&` may make irrelevant."""
    return {name: _whole(fact.value) for name, fact in zip(variables, row, strict=True) if isinstance(fact, Given)}


def _whole(value: object) -> object:
    """CEL's binding cuts text short at a zero: a sign stands for it, so that no text passes for its beginning."""
    if isinstance(value, str):
        return value.replace("\0", "\u2400")
    if isinstance(value, dict):
        return {_whole(key): _whole(one) for key, one in value.items()}
    return value


def _verdict(program: "cel.Expression", data: Mapping[str, object]) -> Verdict:
    try:
        result = program.eval(data=data)
        kind, value = result.type().name(), result.value()
    except MemoryError:
        return Verdict(None, "it takes more memory than a query may")
    except (RuntimeError, ValueError, OverflowError) as error:
        return Verdict(None, str(error)[:_LONGEST_REASON])
    if kind == "BOOL":
        return Verdict(bool(value))
    return Verdict(
        None, str(value)[:_LONGEST_REASON] if kind == "ERROR" else f"it gives {kind} and not true or false"
    )


def _functions(library: Any) -> "list[cel.FunctionDecl]":
    """`semver` and `quantity`, for text and for numbers as they may stand for one."""
    types = library.Type

    def declare(name: str, returns: object, work: Callable[[str], object]) -> "cel.FunctionDecl":
        def checked(value: object) -> object:
            try:
                return work(str(value))
            except ValueError as error:
                raise ValueError(f"{name}: {str(value)[:80]!r} {error}") from error

        overloads = [
            library.Overload(f"{name}_{kind.name().lower()}", returns, [kind], False, checked)
            for kind in (types.STRING, types.INT, types.UINT, types.DOUBLE)
        ]
        made: cel.FunctionDecl = library.FunctionDecl(name, overloads)
        return made

    return [declare("semver", types.BYTES, semver), declare("quantity", types.DYN, quantity)]


def main() -> None:
    """One request on standard input, its answer on standard output."""
    request = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Request)
    signal.alarm(2 * request.seconds)  # should nobody be left to end it
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (request.seconds, request.seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        sys.stdout.buffer.write(msgspec.msgpack.encode(evaluate(request)))
    except MemoryError:
        sys.exit(NO_MEMORY)


if __name__ == "__main__":
    main()
