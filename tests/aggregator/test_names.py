"""Sets of node names as text and back."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.names import NodeNames, unfold_names
from common.errors import EidosError
from common.fleet import NodeTable

name = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,8}[a-z0-9])?", fullmatch=True)
numbered = st.builds(
    lambda stem, number: f"{stem}{number}",
    st.sampled_from(["gpu-", "n", "r1n"]),
    st.from_regex(r"0{0,2}[0-9]{1,3}", fullmatch=True),
)
cloud = st.builds(
    lambda a, b: f"ip-10-0-{a}-{b}.us-west-2.compute.internal", st.integers(0, 255), st.integers(0, 255)
)


@given(st.sets(name | numbered | cloud, max_size=60), st.data())
def test_any_subset_comes_back(names: set[str], data: st.DataObject) -> None:
    fleet = NodeNames(names)
    subset = data.draw(st.sets(st.sampled_from(sorted(names)))) if names else set()
    assert unfold_names(fleet.fold(subset), fleet.table) == sorted(subset)


@given(st.sets(numbered | cloud, max_size=30))
def test_the_order_of_names_does_not_matter(names: set[str]) -> None:
    assert NodeNames(names).fold(sorted(names)) == NodeNames(names).fold(sorted(names, reverse=True))


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        ([], ""),
        (["login"], "login"),
        (["gpu-1", "gpu-2", "gpu-3"], "gpu-[1-3]"),
        (["gpu-001", "gpu-002", "gpu-512"], "gpu-[001-002,512]"),
        (["n8", "n9", "n10", "n11"], "n[8-11]"),
        (["n08", "n09", "n10"], "n[08-10]"),
        (["n98", "n99", "n100"], "n[98-100]"),
        (["n099", "n100"], "n[099-100]"),
        (["dgx-a100-01", "dgx-a100-02"], "dgx-a100-[01-02]"),
        (["n1.example", "n2.example", "login"], "login,n[1-2].example"),
    ],
)
def test_folding(names: list[str], folded: str) -> None:
    assert NodeNames(names).fold(names) == folded


def test_racks_fold_by_node() -> None:
    names = [f"r{rack}n{node:02}" for rack in range(1, 4) for node in range(1, 17)]
    assert NodeNames(names).fold(names) == "r1n[01-16],r2n[01-16],r3n[01-16]"


def test_cloud_names_stand_once_in_a_table() -> None:
    names = [f"ip-10-{n * 7 % 13}-{n * 31 % 251}-{n * 17 % 253}.us-west-2.compute.internal" for n in range(200)]
    fleet = NodeNames(names)
    (table,) = fleet.table
    assert table.suffix == ".us-west-2.compute.internal"
    assert len(table.names) == len(set(names))
    assert fleet.fold(names) == f"@0-{len(set(names)) - 1}"
    assert fleet.fold(sorted(names)[3:5]) == "@3-4"


def test_a_set_of_one_is_the_name() -> None:
    fleet = NodeNames([f"gpu-{n:03}" for n in range(100)])
    assert fleet.fold(["gpu-007"]) == "gpu-007"


@pytest.mark.parametrize(
    "text", ["[", "a[", "a[]", "a[x]", "a[3-1]", "a]b", "a,", ",a", "a[1-2", "@0", "@x", "a[1-99999999]"]
)
def test_texts_that_are_no_set_are_refused(text: str) -> None:
    with pytest.raises(EidosError):
        unfold_names(text)


@given(st.text("ab01[],-@", max_size=12))
def test_any_text_is_a_set_or_an_error_of_ours(text: str) -> None:
    with suppress(EidosError):
        unfold_names(text, [NodeTable("", ["x", "y"])])
