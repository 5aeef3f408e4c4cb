"""What is wrong with an expression, in words that are not the parser's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.query_child import Given, Request, evaluate
from aggregator.query_facts import Row
from aggregator.query_names import find_names, variable
from aggregator.query_words import refusal, refuse_whole, undecided
from common.errors import UsageError

JARGON = (
    "EOF",
    "Syntax",
    "mismatched",
    "extraneous",
    "viable",
    "recognition",
    "expecting",
    "DYN",
    "IDENTIFIER",
    "__",
)


def told(expression: str) -> UsageError | None:
    named = find_names(expression)
    request = Request(named.expression, [variable(number) for number in range(len(named.uses))], [], 5)
    fault = evaluate(request).fault
    return refusal(fault, named) if fault else None


@pytest.mark.parametrize(
    ("expression", "detail", "hint"),
    [
        ("foo(", "something is missing at the end (line 1, column 5", ""),
        ("(OS.a.b == 1", "')' is missing at the end", ""),
        ("OS.a.b == 1 ? true", "':' is missing at the end", ""),
        ("{'x' 1}", "':' is missing before '1'", ""),
        ("-", "something is missing at the end", ""),
        ("OS.a.b == 'x", "the text that begins here has no closing quote", ""),
        ('OS.a.b == "\\q"', "the text that begins here has no closing quote, or a backslash", ""),
        ("OS.a.b == 1)", "')' cannot stand here (line 1, column 12", ""),
        ("OS.a.b..c == 1", "cannot stand here", ""),
        ("OS.a.b = 1", "'=' cannot stand here (line 1, column 8", "Equal is written ==."),
        ("OS.a.b <> 1", "'>' cannot stand here", "Unequal is written !=."),
        ("OS.a.b == 1 and true", "'and' cannot stand here", "And is written &&."),
        ("OS.a.b == 1 | true", "'|' cannot stand here", "Or is written ||."),
        ("OS.a.b == \u201cx\u201d", "'\u201c' cannot stand here", "Text stands between straight quotes"),
        ("OS.a.b == #", "'#' cannot stand here", ""),
        ("size(OS.a.b)", "the expression is a number and not true or false", ""),
        ("[OS.a.b]", "the expression is a list and not true or false", ""),
        ("{'x': 1}", "the expression is a map and not true or false", ""),
        ("semver('1')", "the expression is a version and not true or false", ""),
    ],
)
def test_a_wrong_expression(expression: str, detail: str, hint: str) -> None:
    error = told(expression)
    assert error is not None
    assert detail in str(error)
    assert hint in error.hint
    assert not any(word in str(error) for word in JARGON)


_PIECES = st.sampled_from(
    ["OS.a.b", "==", "&&", "(", ")", "[", "]", "{", "}", "'x'", "'", "1", ".", "-", "?", ":", ","]
)


@given(st.lists(_PIECES, min_size=1, max_size=8).map(" ".join))
def test_the_parsers_words_are_never_shown(expression: str) -> None:
    error = told(expression)
    assert error is None or not any(word in str(error) for word in JARGON)


def test_what_a_node_gives_instead_of_an_answer() -> None:
    named = find_names("OS.a.b")
    assert undecided("it gives STRING and not true or false", named, ()) == "it is text and not true or false"


def test_a_whole_subtype_alone_is_refused() -> None:
    rows = [Row((Given({"k": 1}),), ["n"])]
    with pytest.raises(UsageError, match=r"OS\.a is a whole subtype, and neither true nor false"):
        refuse_whole(find_names(" OS.a "), rows)
    refuse_whole(find_names("has(OS.a)"), [Row((Given(True),), ["n"])])
    refuse_whole(find_names("'k' in OS.a"), rows)
    refuse_whole(find_names("OS.a.b"), [Row((Given(True),), ["n"])])
