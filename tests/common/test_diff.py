"""What changed between two snapshots: facts, values, order, patterns."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.diff import Change, ChangeKind, Diff, diff, equal, scalar_text
from common.errors import UsageError
from common.formats import Format, dump, dump_plain, load_document, load_snapshot
from common.model import MeasurementType, Scalar, Snapshot
from common.stability import Rules, Stability, parse_rules
from tests.common.snapshots import STAMP, ran, snapshot_of

RULES = Rules(
    parse_rules(
        '[[rule]]\nclass = "volatile"\nsubtype = "OS.*"\nwhy = "w"\nkeys = ["count*"]\n'
        '[[rule]]\nclass = "identity"\nsubtype = "OS.*"\nwhy = "w"\nkeys = ["serial*"]\n'
    )
)

Facts = dict[str, dict[str, Scalar]]


def compare(before: Facts, after: Facts, *ignore: str, nodes: tuple[str, str] = ("n", "n")) -> Diff:
    return diff(snapshot_of(before, node=nodes[0]), snapshot_of(after, node=nodes[1]), ignore, RULES)


def told(result: Diff) -> list[tuple[str, str, Scalar | None, Scalar | None]]:
    return [
        (change.change.value, f"{change.type}.{change.subtype}.{change.key}", change.old, change.new)
        for change in result.changes
    ]


def test_added_removed_changed() -> None:
    result = compare({"OS.a": {"x": 1, "y": "old", "z": True}}, {"OS.a": {"w": 0.5, "x": 1, "y": "new"}})
    assert told(result) == [
        ("added", "OS.a.w", None, 0.5),
        ("changed", "OS.a.y", "old", "new"),
        ("removed", "OS.a.z", True, None),
    ]
    assert (result.compared, result.ignored, result.incomparable, result.subtypes) == (4, 0, [], [])
    assert result.same_node


def test_changes_come_in_document_order() -> None:
    before: Facts = {"NodeTopology.a": {"k": 1}, "OS.b": {"z": 1, "a": 1}, "OS.a": {"k": 1}, "K8s.z": {"k": 1}}
    after: Facts = {name: dict.fromkeys(data, 2) for name, data in before.items()}
    names = [name for _, name, _, _ in told(compare(before, after))]
    assert names == ["K8s.z.k", "OS.a.k", "OS.b.a", "OS.b.z", "NodeTopology.a.k"]


def test_volatile_facts_never_count() -> None:
    result = compare({"OS.a": {"count": 1, "counter": 2}}, {"OS.a": {"count": 2, "counts": 3}})
    assert (result.changes, result.compared) == ([], 0)


def test_identity_facts_count_on_one_node_only() -> None:
    before: Facts = {"OS.a": {"serial": "1", "gone-serial": 1, "serial-old": 1, "k": 1}}
    after: Facts = {"OS.a": {"serial": "2", "gone-serial": 1, "serial-new": 1, "k": 1}}
    assert [name for _, name, _, _ in told(compare(before, after))] == [
        "OS.a.serial",
        "OS.a.serial-new",
        "OS.a.serial-old",
    ]
    other = compare(before, after, nodes=("n", "m"))
    assert (other.changes, other.compared, other.same_node) == ([], 2, False)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("on n1", "on n2", True),
        ("n1,n2", "n1,n2", True),  # equal as they stand, though the names in them are not each node's own
        ("n1", "n1", True),
        ("n1", "n2", True),
        ("n2", "n1", False),  # each names the other
        ("n1 n1", "n2 n1", False),
        ("n1", "n3", False),
        ("n11", "n21", False),
        (5, "5", True),
    ],
)
def test_between_nodes_each_ones_name_is_the_same(old: Scalar, new: Scalar, same: bool) -> None:
    result = compare({"OS.a": {"k": old}}, {"OS.a": {"k": new}}, nodes=("n1", "n2"))
    assert (result.changes == []) is same
    if not same:
        assert told(result) == [("changed", "OS.a.k", old, new)]  # as they are, not as they were compared


def test_on_one_node_its_name_is_text_like_any_other() -> None:
    assert len(compare({"OS.a": {"k": "n"}}, {"OS.a": {"k": "${node}"}}).changes) == 1


# ---- values ----


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("60", 60, True),
        ("true", True, True),
        ("false", False, True),
        ("0.5", 0.5, True),
        ("18446744073709551615", 18446744073709551615, True),
        (60, 60.0, True),
        (0.0, -0.0, True),
        (float("nan"), float("nan"), True),
        (1, True, False),
        (0, False, False),
        ("1", True, False),
        ("True", True, False),
        ("060", 60, False),
        ("60 ", 60, False),
        ("", 0, False),
        ("a", "b", False),
        (1, 2, False),
    ],
)
def test_values_are_equal_by_type_or_by_text(one: Scalar, other: Scalar, same: bool) -> None:
    assert equal(one, other) is same
    assert equal(other, one) is same
    assert (compare({"OS.a": {"k": one}}, {"OS.a": {"k": other}}).changes == []) is same


_scalars = st.text(max_size=4) | st.booleans() | st.integers(-9, 99) | st.floats(-9, 9)


@given(_scalars, _scalars)
def test_equality_is_fair(one: Scalar, other: Scalar) -> None:
    assert equal(one, one)
    assert equal(one, other) == equal(other, one)
    assert equal(one, scalar_text(one))


# ---- patterns ----


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("OS.a.k", ["OS.a.k2", "OS.b.k", "GPU.a.k.x"]),
        ("OS.a.k*", ["OS.b.k", "GPU.a.k.x"]),
        ("*.k", ["OS.a.k2"]),
        ("*k*", []),
        ("OS", ["GPU.a.k.x"]),
        ("OS.a", ["OS.b.k", "GPU.a.k.x"]),
        ("GPU.a.k", ["OS.a.k", "OS.a.k2", "OS.b.k"]),
        (" OS.* ", ["GPU.a.k.x"]),
        ("OS.**", ["GPU.a.k.x"]),
        ("os.*", ["OS.a.k", "OS.a.k2", "OS.b.k", "GPU.a.k.x"]),
        ("O.", ["OS.a.k", "OS.a.k2", "OS.b.k", "GPU.a.k.x"]),
        ("OS.a.k?", ["OS.a.k", "OS.a.k2", "OS.b.k", "GPU.a.k.x"]),
        ("OS.a.k[2]", ["OS.a.k", "OS.a.k2", "OS.b.k", "GPU.a.k.x"]),
    ],
)
def test_patterns_leave_facts_out(pattern: str, left: list[str]) -> None:
    before: Facts = {"OS.a": {"k": 1, "k2": 1}, "OS.b": {"k": 1}, "GPU.a": {"k.x": 1}}
    result = compare(before, {name: dict.fromkeys(data, 2) for name, data in before.items()}, pattern)
    assert {name for _, name, _, _ in told(result)} == set(left)
    assert (result.compared, result.ignored) == (len(left), 4 - len(left))


def test_several_patterns_and_odd_keys() -> None:
    before: Facts = {"OS.a": {"(x": 1, "a|b": 1, "l1\nl2": 1, "": 1}}
    after: Facts = {"OS.a": {}}
    result = compare(before, after, "OS.a.(x", "*a|b", "OS.a.l1*2")
    assert [name for _, name, _, _ in told(result)] == ["OS.a."]


@pytest.mark.parametrize("pattern", ["", " "])
def test_an_empty_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="empty pattern"):
        compare({}, {}, "OS", pattern)


# ---- the result ----


def test_the_result_as_yaml_and_json() -> None:
    result = compare({"OS.a": {"x": "1", "y": 2}}, {"OS.a": {"x": "2", "z": True}}, nodes=("n", "m"))
    side = {"timestamp": STAMP, "version": "1"}
    expected = {
        "kind": "SnapshotDiff",
        "before": {"source-node": "n", **side},
        "after": {"source-node": "m", **side},
        "same-node": False,
        "compared": 3,
        "ignored": 0,
        "changes": [
            {"change": "changed", "type": "OS", "subtype": "a", "key": "x", "old": "1", "new": "2"},
            {"change": "removed", "type": "OS", "subtype": "a", "key": "y", "old": 2},
            {"change": "added", "type": "OS", "subtype": "a", "key": "z", "new": True},
        ],
        "subtypes": [],
        "incomparable": [],
    }
    assert msgspec.to_builtins(result) == expected
    for form in (Format.YAML, Format.JSON):
        assert load_document(dump_plain(result, form), "x") == expected


_kinds = st.sampled_from([kind.value for kind in MeasurementType])
_facts = st.dictionaries(
    st.tuples(_kinds, st.sampled_from(["a", "b.c"])).map(".".join),
    st.dictionaries(st.sampled_from(["k", "l", "count", "serial"]), _scalars, max_size=4),
    max_size=4,
)


@given(_facts, st.sampled_from([("n", "n"), ("n", "m")]))
def test_a_snapshot_does_not_differ_from_itself(facts: Facts, nodes: tuple[str, str]) -> None:
    result = compare(facts, facts, nodes=nodes)
    assert (result.changes, result.incomparable, result.subtypes) == ([], [], [])


@given(_facts)
def test_nor_from_itself_read_from_a_file(facts: Facts) -> None:
    snapshot = snapshot_of(facts)
    for form in (Format.YAML, Format.JSON):
        assert diff(snapshot, load_snapshot(dump(snapshot, form), "x"), rules=RULES).changes == []


@given(_facts, _facts)
def test_backwards_is_the_mirror_image(before: Facts, after: Facts) -> None:
    mirror = {ChangeKind.ADDED: ChangeKind.REMOVED, ChangeKind.REMOVED: ChangeKind.ADDED}
    there, back = compare(before, after), compare(after, before)
    assert back.changes == [
        Change(mirror.get(c.change, c.change), c.type, c.subtype, c.key, c.new, c.old) for c in there.changes
    ]
    assert (there.compared, len(there.incomparable)) == (back.compared, len(back.incomparable))


@given(_facts, _facts)
def test_changes_lead_from_one_to_the_other(before: Facts, after: Facts) -> None:
    collection = [ran(kind.value, kind.value) for kind in MeasurementType]  # everything was read on both sides
    one, other = snapshot_of(before, collection), snapshot_of(after, collection)
    facts = lasting(one)
    for change in diff(one, other, rules=RULES).changes:
        place = (change.type.value, change.subtype, change.key)
        if change.new is None:
            del facts[place]
        else:
            facts[place] = change.new
    goal = lasting(other)
    assert facts.keys() == goal.keys()
    assert all(equal(facts[place], goal[place]) for place in goal)


def lasting(snapshot: Snapshot) -> dict[tuple[str, str, str], Scalar]:
    """All facts but the volatile."""
    facts = snapshot.facts()
    return {place: value for place, value in facts.items() if RULES.classify(*place) is not Stability.VOLATILE}


def test_one_of_eight_equal_things_that_changes_is_one_change() -> None:
    before: Facts = {"GPU.devices": {"vbios[0-7]": "a", "ecc[0-7]": True}}
    after: Facts = {"GPU.devices": {"vbios[0-2,4-7]": "a", "vbios[3]": "b", "ecc[0-7]": True}}
    assert told(compare(before, after)) == [("changed", "GPU.devices.vbios[3]", "a", "b")]
    assert told(compare(after, before)) == [("changed", "GPU.devices.vbios[3]", "b", "a")]


def test_equal_things_that_are_gone_are_folded() -> None:
    before: Facts = {"GPU.devices": {"vbios[0-7]": "a", "note[x]": "kept as it is"}}
    after: Facts = {"GPU.devices": {"vbios[0-3]": "a", "note[y]": "kept as it is"}}
    assert told(compare(before, after)) == [
        ("removed", "GPU.devices.note[x]", "kept as it is", None),
        ("added", "GPU.devices.note[y]", None, "kept as it is"),
        ("removed", "GPU.devices.vbios[4-7]", "a", None),
    ]


def test_folding_differently_is_no_change() -> None:
    assert told(compare({"OS.a": {"x[0-3]": 1}}, {"OS.a": {"x[0-1]": 1, "x[2-3]": 1}})) == []


def test_values_of_different_types_are_not_folded_together() -> None:
    before: Facts = {"OS.a": {"x[0-1]": 5}}
    after: Facts = {"OS.a": {"x[0]": True, "x[1]": 1}}
    assert told(compare(before, after)) == [("changed", "OS.a.x[0]", 5, True), ("changed", "OS.a.x[1]", 5, 1)]


def test_too_many_indexes_are_compared_as_written() -> None:
    before: Facts = {"OS.a": {"x[0-9999]": 1}}
    after: Facts = {"OS.a": {"x[0-9998]": 1}}
    assert told(compare(before, after)) == [
        ("added", "OS.a.x[0-9998]", None, 1),
        ("removed", "OS.a.x[0-9999]", 1, None),
    ]
