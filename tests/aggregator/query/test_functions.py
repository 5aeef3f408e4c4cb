"""Versions sort as SemVer says; quantities are numbers."""

import itertools
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.query_functions import quantity, semver

# SemVer 2.0.0, section 11, and what drivers, kernels and distributions write.
ORDER = [
    *(
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
    ),
    *("1.0.0", "2.0.0", "2.1.0", "2.1.1", "5.15.0-1053-nvidia", "5.15.0", "22.04", "535.183.01", "570", "570.86.15"),
    *("570.124.06", "v580.1"),
]


@pytest.mark.parametrize(("lower", "higher"), list(itertools.pairwise(ORDER)))
def test_order(lower: str, higher: str) -> None:
    assert semver(lower) < semver(higher)


@pytest.mark.parametrize(
    ("one", "other"),
    [("570", "570.0.0"), ("v1.2", "1.2.0"), ("1.2.3+build5", "1.2.3"), ("22.04", "22.4"), (" 1.0 ", "1.0.0")],
)
def test_equal(one: str, other: str) -> None:
    assert semver(one) == semver(other)


@pytest.mark.parametrize(
    "text", ["", "x", "1.", ".1", "1..2", "-1", "1.2.3.4.5.6.7", "9" * 16, "1.2-", "١.٢", "1\n2"]
)
def test_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="is no version"):
        semver(text)


_NUMBERS = st.lists(st.integers(0, 10**15 - 1), min_size=1, max_size=6)


@given(_NUMBERS, _NUMBERS)
def test_numbers_sort_as_numbers(one: list[int], other: list[int]) -> None:
    def padded(numbers: list[int]) -> list[int]:
        return numbers + [0] * (6 - len(numbers))

    assert (semver(".".join(map(str, one))) < semver(".".join(map(str, other)))) == (padded(one) < padded(other))


@pytest.mark.parametrize(
    ("text", "value"),
    [("16Gi", 16 * 2**30), ("500m", 0.5), ("1.5k", 1500), ("2e3", 2000), ("12", 12), ("-1Ki", -1024),
     ("97871 MiB", 97871 * 2**20),
     ("1n", 1e-9), (".5", 0.5)],
)  # fmt: skip
def test_quantities(text: str, value: float) -> None:
    assert quantity(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "1Xi", "1e", "1e999", "--1", "0x10", "1 2"])
def test_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        quantity(text)


@given(st.text(max_size=40))
def test_any_text_is_a_value_or_none(text: str) -> None:
    for function in (semver, quantity):
        with suppress(ValueError):
            function(text)
