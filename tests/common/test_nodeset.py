"""Folding of indexes and node names: exact, as ClusterShell reads it, and errors that name the faulty part."""

import subprocess
import sys
from string import ascii_lowercase, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from common.nodeset import fold_indexes, fold_names, unfold_indexes, unfold_names


@pytest.mark.parametrize(
    ("indexes", "text"),
    [
        ([], ""),
        ([0], "0"),
        ([0, 1], "0-1"),
        (range(8), "0-7"),
        ([5, 2, 0, 1, 1], "0-2,5"),
        ([0, 2, 4], "0,2,4"),
        ([9, 10, 11, 99], "9-11,99"),
    ],
)
def test_indexes_fold(indexes: list[int], text: str) -> None:
    assert fold_indexes(indexes) == text
    assert unfold_indexes(text) == sorted(set(indexes))


@given(st.sets(st.integers(0, 999_999_999), max_size=50) | st.sets(st.integers(0, 60)))
def test_indexes_unfold_to_what_was_folded(indexes: set[int]) -> None:
    assert unfold_indexes(fold_indexes(indexes)) == sorted(indexes)


def test_index_ranges_may_overlap() -> None:
    assert unfold_indexes("3-5,0-4") == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (",", "''"),
        ("1,", "''"),
        ("a", "'a'"),
        ("0-7,x-9", "'x-9'"),
        ("1-", "'1-'"),
        ("-1", "'-1'"),
        ("1-2-3", "'1-2-3'"),
        ("7-0", "'7-0'"),
        (" 1", "' 1'"),
        ("٣", "'٣'"),
        ("²", "'²'"),
        ("1234567890", "'1234567890'"),
        ("0-999999999", "'0-999999999'"),
        ("0-999999,1000000-1999999", "'1000000-1999999'"),
    ],
)
def test_wrong_indexes_are_named(text: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        unfold_indexes(text)
    assert part in caught.value.message


@pytest.mark.timeout(10)
def test_indexes_that_come_again_count_again() -> None:
    with pytest.raises(UsageError, match="hold more than 1000000 indexes"):
        unfold_indexes(",".join(["0-999998"] * 5_000))
    with pytest.raises(UsageError, match="hold more than 8 indexes"):
        unfold_indexes("0-3,0-4", most=8)


@given(st.text(max_size=12) | st.text("012345-,", max_size=7))
def test_any_text_is_indexes_or_refused(text: str) -> None:
    assert refused(unfold_indexes, text) or unfold_indexes(text) == sorted(set(unfold_indexes(text)))


def refused(unfold: object, text: str) -> bool:
    assert callable(unfold)
    try:
        unfold(text)
    except UsageError as error:
        return "\n" not in error.message or "\n" in text
    return False


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["gpu-001"], "gpu-001"),
        ([f"gpu-{number:03d}" for number in range(1, 513)], "gpu-[001-512]"),
        (["gpu-1", "gpu-2", "gpu-2", "gpu-5"], "gpu-[1-2,5]"),
        ([f"n{number}" for number in (8, 9, 10, 11)], "n[8-11]"),
        (["n08", "n09", "n10"], "n[08-10]"),
        (["n1", "n01", "n001"], "n[1,01,001]"),
        (["n9", "n09", "n10", "n010"], "n[9,09-10,010]"),
        (["n0", "n00"], "n[0,00]"),
        (["login", "gpu-2", "gpu-1"], "gpu-[1-2],login"),
        (["gpu-1.a.example", "gpu-2.a.example", "gpu-1.b.example"], "gpu-[1-2].a.example,gpu-1.b.example"),
        (["n1.dc2.x", "n2.dc2.x"], "n[1-2].dc2.x"),
        (["h100-01", "h100-02"], "h100-[01-02]"),
        (["r1n1", "r1n2", "r2n1"], "r1n[1-2],r2n1"),
        (["node1a", "node2a"], "node[1-2]a"),
        (["7", "8"], "[7-8]"),
        (["a.1", "a.2"], "a.1,a.2"),
        (
            ["ip-10-0-158-18.ec2.internal", "ip-10-0-158-19.ec2.internal"],
            "ip-10-0-158-18.ec2.internal,ip-10-0-158-19.ec2.internal",
        ),
        (["10.0.0.1", "10.0.0.2"], "10.0.0.1,10.0.0.2"),
        (["gke-pool-1f2a-x7z9", "gke-pool-1f2a-q3pp"], "gke-pool-1f2a-q3pp,gke-pool-1f2a-x7z9"),
        (["n1234567890123456", "n1234567890123457"], "n1234567890123456,n1234567890123457"),
    ],
)
def test_names_fold(names: list[str], text: str) -> None:
    assert fold_names(names) == text
    assert unfold_names(text) == sorted(set(names))


# Names whose letters and digits repeat, so that folding has something to fold.
_part = st.text("ab0123", min_size=1, max_size=5)
_label = st.lists(_part, min_size=1, max_size=4).map("-".join)
_alike = st.lists(_label, min_size=1, max_size=3).map(".".join)
_edge = st.sampled_from(ascii_lowercase + digits)
_any_label = st.tuples(_edge, st.text(ascii_lowercase + digits + "-", max_size=20), _edge).map("".join)
_dns = st.lists(_any_label, min_size=1, max_size=4).map(".".join)


@given(st.sets(_alike | _dns, max_size=40))
def test_names_unfold_to_what_was_folded(names: set[str]) -> None:
    text = fold_names(names)
    assert unfold_names(text) == sorted(names)
    assert fold_names(unfold_names(text)) == text


@given(st.sets(_alike | _dns, max_size=20))
def test_clustershell_reads_the_same_names(names: set[str]) -> None:
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

    assert set(NodeSet(fold_names(names), resolver=RESOLVER_NOGROUP)) == names


@given(st.permutations([f"n{number}" for number in range(12)] + ["a", "a1.x", "a2.x"]))
def test_order_of_names_does_not_matter(names: list[str]) -> None:
    assert fold_names(names) == "a,a[1-2].x,n[0-11]"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("rack[1-2]-gpu[01-03],login", ["login", *(f"rack{r}-gpu0{g}" for r in (1, 2) for g in (1, 2, 3))]),
        ("a[1][2][3]", ["a123"]),
        ("a[1,1,1-1]", ["a1"]),
        ("a,a,a[0-1],a0", ["a", "a0", "a1"]),
        ("a[9-11]", ["a10", "a11", "a9"]),
        ("a[0-10]", sorted(f"a{number}" for number in range(11))),
        ("a[1-2]5", ["a15", "a25"]),
        (" a, b ", ["a", "b"]),
        ("Node_1", ["Node_1"]),
    ],
)
def test_what_others_write_unfolds(text: str, names: list[str]) -> None:
    assert unfold_names(text) == names


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (",", "''"),
        (",a", "''"),
        ("a,,b", "''"),
        ("a,", "ends in a comma"),
        (" ", "''"),
        ("a b", "'a b'"),
        ("ok,a[", "'a['"),
        ("ok,a]", "'a]'"),
        ("ok,a[1-2", "'a[1-2'"),
        ("a[1-2]]", "'a[1-2]]'"),
        ("a[[1]]", "'a[[1]]'"),
        ("a[]", "''"),
        ("a[1,]", "''"),
        ("a[x]", "'x'"),
        ("a[1-2-3]", "'1-2-3'"),
        ("a[0-10/2]", "'0-10/2'"),
        ("a[-1]", "'-1'"),
        ("a[٣]", "'٣'"),
        ("a[2-1]", "'2-1'"),
        ("a[01-2]", "'01-2'"),
        ("a[0-010]", "'0-010'"),
        ("a[1-999999999]", "more than 100000 names"),
        ("a[0-999][0-9999]", "more than 100000 names"),
        ("a[0-99999],b", "more than 100000 names"),
        ("a[1234567890123456]", "'1234567890123456'"),
        *((f"a{sign}b", f"'a{sign}b'") for sign in "!&^*?@%/: "),
        ("@group", "'@group'"),
        ("ä", "'ä'"),
        ("x" * 254, "longer than"),
        ("x" * 250 + "[1000-1001]", "longer than"),
    ],
)
def test_wrong_names_are_named(text: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        unfold_names(text)
    assert part in str(caught.value)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (",".join(["n[1-99999]"] * 5_000), "more than 100000 names"),
        (f"n[{','.join(['1-99999'] * 5_000)}]", "more than 100000 names"),
        (f"{'x' * 60_000}[1-99999]", "longer than"),  # 6 GB
        ("[1-2]" * 12_000, "longer than"),
        ("[1-999999999999999]" * 200, "longer than"),
        ("[0-9]" * 200, "more than 100000 names"),
    ],
)
def test_what_is_too_much_is_refused_before_it_is_made(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        unfold_names(text)


_number = st.integers(0, 300).map(str) | st.tuples(st.integers(0, 99), st.integers(1, 3)).map(
    lambda pair: str(pair[0]).zfill(pair[1])
)
_range = st.tuples(_number, _number).map("-".join) | _number
_bracket = st.lists(_range, min_size=1, max_size=4).map(lambda ranges: f"n[{','.join(ranges)}]x")


@given(st.lists(_bracket, min_size=1, max_size=2).map("".join))
def test_what_is_read_is_what_clustershell_reads(text: str) -> None:
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

    assert refused(unfold_names, text) or set(unfold_names(text)) == set(NodeSet(text, resolver=RESOLVER_NOGROUP))


@given(st.text(max_size=20) | st.text("a1[]-,. 0", max_size=20))
def test_any_text_is_names_or_refused(text: str) -> None:
    assert refused(unfold_names, text) or fold_names(unfold_names(text)) is not None


def test_nothing_is_read_from_configuration() -> None:
    code = (
        "import sys; import common.nodeset; assert not any('ClusterShell' in m for m in sys.modules);"
        "common.nodeset.fold_names(['a1', 'a2']);"
        "assert not {'ClusterShell.NodeSet', 'ClusterShell.Defaults', 'ClusterShell.NodeUtils'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
