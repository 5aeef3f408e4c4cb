"""Label selectors as kubectl writes them; whatever is not one is refused, and quickly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.ledger import Expected
from aggregator.selector import LabelSelector, Selector
from common.errors import UsageError

LABELS = {"zone": "a", "gpu": "h100", "empty": "", "example.com/role": "train"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("  ", True),
        ("zone=a", True),
        ("zone == a", True),
        ("zone=b", False),
        ("zone!=b", True),
        ("none!=b", True),
        ("empty=", True),
        ("none=", False),
        ("zone", True),
        ("!zone", False),
        ("! none", True),
        ("zone in (a,b)", True),
        ("zone in ( b , a )", True),
        ("zone in (b)", False),
        ("zone notin (b, c)", True),
        ("none notin (b)", True),
        ("none in (b,)", False),
        ("empty in (a,)", True),
        ("example.com/role in (train),zone=a,!none", True),
        ("zone=a,gpu=a100", False),
        ("in in (in)", False),
        ("notin", False),
    ],
)
def test_which_labels_match(text: str, matches: bool) -> None:
    assert LabelSelector.read(text).matches(LABELS) is matches


@pytest.mark.parametrize(
    "text",
    ["a=b=c", "a in b", "a in (b", "a in b)", "a in (b c)", "a in (b=c)", "a in ((b))", "=b", "a,", ",a", "a!",
     "!a=b", "a in(b),,c", "a>1", "a in (b)c", "a" * 400, "a=" + "b" * 64, "a\n=b\0"],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="is not a label selector"):
        LabelSelector.read(text)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "text", ["a in (" + " " * 60_000 + "x y)", "a" + " " * 60_000 + "!", "(" * 60_000, "a," * 30_000]
)
def test_long_nonsense_is_refused_at_once(text: str) -> None:
    with pytest.raises(UsageError):
        LabelSelector.read(text)


def test_terms_are_counted_and_values_in_one_are_not() -> None:
    """Every term is asked of every node, on the event loop."""
    assert LabelSelector.read(",".join(["!none"] * 64)).matches(LABELS)
    assert LabelSelector.read(f"zone in ({','.join(f'z{number}' for number in range(5_000))},a)").matches(LABELS)
    with pytest.raises(UsageError, match="more than 64 terms"):
        LabelSelector.read(",".join(["!none"] * 65))


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        LabelSelector.read(text).matches(LABELS)
    except UsageError:
        return


def test_names_and_labels_both_count() -> None:
    nodes = [Expected(f"n{number}", labels={"odd": str(number % 2)}) for number in range(6)]
    assert [node.node for node in Selector("n[1-4]", "odd in (1)").select(nodes)] == ["n1", "n3"]
