"""What a fact is compared with: told where it is certain, and never where it is not."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.query import _request
from aggregator.query_child import Given, Missing, Request, evaluate
from aggregator.query_compared import ValueType, compared_with
from aggregator.query_facts import Row, usable
from aggregator.query_names import find_names
from aggregator.query_tokens import tokens_of
from aggregator.query_words import undecided
from common.errors import UsageError
from common.model import Scalar

TEXT, NUMBER, BOOL, BYTES = ValueType.TEXT, ValueType.NUMBER, ValueType.BOOL, ValueType.BYTES


def answer(expression: str, *values: Scalar | dict[str, Scalar]) -> tuple[bool | None, str]:
    """What the expression gives for one node, and why nothing; the values are those of its names, in order."""
    named = find_names(expression)
    row = Row(tuple(map(Given, values)), ["n"])
    told = evaluate(msgspec.msgpack.decode(_request(named, [row]), type=Request))
    assert not told.fault
    (verdict,) = told.verdicts
    return verdict.matches, undecided(verdict.reason, named, row.cells)


@pytest.mark.parametrize(
    ("expression", "takes"),
    [
        ("OS.a.b == 60", {NUMBER}),
        ("OS.a.b != -60.5e-3 && true", {NUMBER}),
        ("OS.a.b == 60e-1 || true", {NUMBER}),
        ("OS.a.b == 0x3e", {NUMBER}),
        ("OS.a.b == 60u ? true : false", {NUMBER}),
        ("true ? OS.a.b == 1 : false", {NUMBER}),
        ("!(OS.a.b == '60')", {TEXT}),
        ('OS.a["b"]!=r"60"', {TEXT}),
        ("OS.a.b == '''b''' // so", {TEXT}),
        ("OS.a.b == b'60'", {BYTES}),
        ("OS.a.b == Rb'60'", {BYTES}),
        ("OS.a.b == true", {BOOL}),
        ("60 == OS.a.b", {NUMBER}),
        ("true && -60.5e-3 != OS.a.b", {NUMBER}),
        ('["x"].exists(x, "60" == OS.a.b)', {TEXT}),
        ("OS.a.b in ['60', '61']", {TEXT}),
        ("OS.a.b in ['60', 60, -1.5]", {TEXT, NUMBER}),
        ("[OS.a.b == 1, true][0]", {NUMBER}),
    ],
)
def test_what_is_certain(expression: str, takes: set[ValueType]) -> None:
    (use,) = find_names(expression).uses
    assert use.takes == takes


@pytest.mark.parametrize(
    "expression",
    [
        "OS.a.b", "OS.a.b > 60", "OS.a.b == OS.a.b", "OS.a.b == null", "OS.a.b == 60 + 1", "OS.a.b + 1 == 60",
        "OS.a.b == '60'.size()", "OS.a.b == [60][0]", "OS.a.b.size() == 60", "int(OS.a.b) == 60", "OS.a[k] == 60",
        "1 + OS.a.b == 60", "-OS.a.b == 60", "!OS.a.b == false", "'x' in OS.a.b == true", "OS.a.b < 3 == true",
        "3 == OS.a.b == true", "1 - 3 == OS.a.b", "1.5 + 3 == OS.a.b", "x.y == OS.a.b", "3 == OS.a.b + 1",
        "OS.a.b in ['60', x]", "OS.a.b in []", "OS.a.b in [60].map(x, x)", "OS.a.b in [60] + ['x']", "60 in OS.a.b",
        "OS.a.b == ", "OS.a.b in [", "OS.a.b == 60 == true",
    ],
)  # fmt: skip
def test_what_is_not(expression: str) -> None:
    assert all(not use.takes for use in find_names(expression).uses)


NAME = 'OS.sysctl["/proc/sys/vm/swappiness"]'
QUOTE = (
    f"{NAME} is text and cannot equal a number: put the number in quotes, or {NAME} in int(), double() or quantity()"
)


@pytest.mark.parametrize(
    ("expression", "value", "told"),
    [
        (f"{NAME} != 60", "60", (None, QUOTE)),
        (f"{NAME} == 60", "60", (None, QUOTE)),
        (f"!({NAME} in [60, 10])", "60", (None, QUOTE)),
        (f"60 == {NAME}", "60", (None, QUOTE)),
        (f"{NAME} == 60 || int({NAME}) == 60", "60", (True, "")),
        (f"{NAME} == 60 && int({NAME}) == 61", "60", (False, "")),
        (f"{NAME} in [60, '60']", "60", (True, "")),
        (f"{NAME} == 60 || {NAME} == '60'", "60", (True, "")),
        (f"{NAME} == 60", 60.0, (True, "")),
        (f"{NAME} in [60]", 60, (True, "")),
        ("OS.a.b == '8'", 8, (None, "OS.a.b is a number and cannot equal text: leave out the quotes, or put OS.a.b "
         "in string()")),
        ("OS.a.b == 1", True, (None, "OS.a.b is true or false and cannot equal a number: compare it with true or "
         "false")),
        ("OS.a in [1, 'x', true]", {"k": "x"}, (None, "OS.a is a whole subtype and cannot equal a number or text or "
         "true or false: name one of its facts")),
        ("has(OS.a.b) == 1", True, (None, "has(OS.a.b) is true or false and cannot equal a number: compare it with "
         "true or false")),
    ],
)  # fmt: skip
def test_comparing_across_types_decides_nothing(
    expression: str, value: Scalar | dict[str, Scalar], told: tuple[bool | None, str]
) -> None:
    assert answer(expression, value) == told


def test_what_is_missing_stays_missing() -> None:
    assert usable(Missing(unread=True), {NUMBER}) == Missing(unread=True)
    named = find_names("OS.a.b == 60")
    reason = 'UNKNOWN: No value with name "__0" found in Activation'
    assert undecided(reason, named, (Missing(),)) == "OS.a.b is not there"
    assert undecided(reason, named, (Missing(unread=True),)) == "OS.a.b was not read"


_VALUES = st.sampled_from(["60", "x", 60, 1.5, True])
_TAILS = st.sampled_from(["60", "'60'", "-1", "1.5", "true", "b'x'", "[60]", "['x', 60]", "size('x')", "60 + 1"])


@given(_VALUES, st.sampled_from(["==", "!=", "in"]), _TAILS, st.booleans())
def test_only_answers_that_mean_nothing_are_withheld(value: Scalar, operator: str, tail: str, swapped: bool) -> None:
    """What CEL says is withheld only where it says it of two types."""
    if operator == "in":
        tail, swapped = tail if tail.startswith("[") else f"[{tail}]", False
    expression = f"{tail} {operator} OS.a.b" if swapped else f"OS.a.b {operator} {tail}"
    named = find_names(expression)
    matches, _ = answer(expression, value)
    (plain,) = evaluate(Request(named.expression, ["__0"], [[Given(value)]], 5)).verdicts
    if matches is None:
        assert plain.matches in (None, operator == "!=")
    else:
        assert matches == plain.matches


@given(st.lists(st.sampled_from(["OS.a.b", "==", "!=", "in", "-", "6", "e", ".", "'x'", "[", "]", ",", "("])))
def test_any_text_can_be_looked_through(pieces: list[str]) -> None:
    source = " ".join(pieces)
    for at in range(len(tokens := tokens_of(source))):
        compared_with(tokens, at, at + 1)
    try:
        find_names(source)
    except UsageError:
        return
