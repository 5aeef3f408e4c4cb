"""Stability classes: which rule decides, and a value compared without the node's own name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Code, InputError
from common.model import MeasurementType, Scalar
from common.stability import (
    NODE_PLACEHOLDER,
    Rule,
    Rules,
    Stability,
    default_rules,
    parse_rules,
    without_node_name,
)

RULES = """
[[rule]]
class = "volatile"
subtype = "OS.sysctl"
why = "counters"
keys = ["/proc/a", "/proc/b/*/c", "*.syncs", "[x]?"]

[[rule]]
class = "identity"
subtype = "OS.sysctl"
why = "names"
keys = ["/proc/host", "/proc/b/1/c", "/proc/a"]

[[rule]]
class = "volatile"
subtype = "SystemD.*"
why = "times"
keys = ["*Timestamp", "MainPID"]

[[rule]]
class = "stable"
subtype = "GPU.*"
why = "configuration after all"
keys = ["serial-kept"]

[[rule]]
class = "identity"
subtype = "GPU.*"
why = "serials"
keys = ["serial*"]
"""


@pytest.fixture
def rules() -> Rules:
    return Rules(parse_rules(RULES))


@pytest.mark.parametrize(
    ("kind", "subtype", "key", "stability", "why"),
    [
        ("OS", "sysctl", "/proc/a", "volatile", "counters"),  # the first of two rules that name it
        ("OS", "sysctl", "/proc/b/1/c", "volatile", "counters"),  # an earlier pattern beats a later literal
        ("OS", "sysctl", "/proc/b/1/2/c", "volatile", "counters"),  # * stands for any text, slashes and dots too
        ("OS", "sysctl", "/proc/b//c", "volatile", "counters"),
        ("OS", "sysctl", "x.syncs", "volatile", "counters"),
        ("OS", "sysctl", "[x]?", "volatile", "counters"),  # everything but * stands for itself
        ("OS", "sysctl", "/proc/host", "identity", "names"),
        ("OS", "sysctl", "/proc/hosts", "stable", None),
        ("OS", "sysctl", "/proc/A", "stable", None),
        ("OS", "sysctl", "xy", "stable", None),
        ("OS", "sysctl", "a.syncs\n", "stable", None),
        ("OS", "sysctl2", "/proc/a", "stable", None),
        ("OS", "", "/proc/a", "stable", None),
        ("GPU", "sysctl", "/proc/a", "stable", None),
        ("SystemD", "a.b.service", "ActiveEnterTimestamp", "volatile", "times"),
        ("SystemD", "a", "Timestamp", "volatile", "times"),
        ("SystemD", "a", "TimestampMonotonic", "stable", None),
        ("SystemD", "", "MainPID", "volatile", "times"),
        (
            "GPU",
            "smi",
            "serial-kept",
            "stable",
            "configuration after all",
        ),  # an earlier literal beats a later pattern
        ("GPU", "smi", "serial", "identity", "serials"),
    ],
)
def test_the_first_rule_that_matches_decides(
    rules: Rules, kind: str, subtype: str, key: str, stability: str, why: str | None
) -> None:
    assert rules.classify(kind, subtype, key) == stability
    rule = rules.rule_for(kind, subtype, key)
    assert (rule.why if rule else None) == why


def test_select_keeps_what_is_wanted(rules: Rules) -> None:
    data: dict[str, Scalar] = {"/proc/a": 1, "/proc/host": "n", "/proc/z": True}
    for wanted in ([], ["stable"], ["identity"], ["volatile"], ["stable", "identity"], list(Stability)):
        classes = {Stability(name) for name in wanted}
        chosen = rules.select("OS", "sysctl", data, classes)
        assert chosen == {k: v for k, v in data.items() if rules.classify("OS", "sysctl", k) in classes}
    assert rules.select("OS", "other", data, {Stability.STABLE}) == data


_names = st.text("ab*.", max_size=4)


@given(
    st.lists(st.tuples(st.sampled_from(Stability), _names, st.lists(_names, min_size=1, max_size=3)), max_size=5),
    _names,
    _names,
)
def test_rules_agree_with_reading_them_one_by_one(
    listed: list[tuple[Stability, str, list[str]]], subtype: str, key: str
) -> None:
    rules = Rules(Rule(stability, f"OS.{name}", keys, "why") for stability, name, keys in listed)
    expected = next(
        (
            stability
            for stability, name, keys in listed
            if matches(name, subtype) and any(matches(pattern, key) for pattern in keys)
        ),
        Stability.STABLE,
    )
    assert rules.classify("OS", subtype, key) is expected


def matches(pattern: str, text: str) -> bool:
    """What `*` means, said in another way."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(matches(pattern[1:], text[at:]) for at in range(len(text) + 1))
    return text[:1] == pattern[0] and matches(pattern[1:], text[1:])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[rule]", "not TOML"),
        ('[[rule]]\nclass = "x"', "rule 1 of"),
        ('[[rule]]\nclass = "odd"\nsubtype = "a"\nkeys = ["b"]\nwhy = "c"', "rule 1 of"),
        ('[[rule]]\nclass = "stable"\nsubtype = ""\nkeys = ["b"]\nwhy = "c"', "rule 1 of"),
        ('[[rule]]\nclass = "stable"\nsubtype = "a"\nkeys = []\nwhy = "c"', "rule 1 of"),
        ('[[rule]]\nclass = "stable"\nsubtype = "a"\nkeys = [""]\nwhy = "c"', "rule 1 of"),
        ('[[rule]]\nclass = "stable"\nsubtype = "a"\nkeys = [1]\nwhy = "c"', "rule 1 of"),
        ('[[rule]]\nclass = "stable"\nsubtype = "a"\nkeys = "ab"\nwhy = "c"', "rule 1 of"),
        ('[[rule]]\nclass = "stable"\nsubtype = "a"\nkeys = 5\nwhy = "c"', "rule 1 of"),
        ('[[rule]]\nclass = "stable"\nsubtype = "a"\nkeys = ["b"]\nwhy = ""', "rule 1 of"),
        ("rule = [1]", "rule 1 of"),
        ("rule = 1", "rules"),
        (RULES + '[[rule]]\nclass = "stable"', "rule 6 of"),
    ],
)
def test_wrong_rules_are_named(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        parse_rules(text)
    assert caught.value.code is Code.INPUT_MALFORMED


# ---- the rules shipped ----


def shipped() -> list[Rule]:
    return default_rules()._rules


def test_every_shipped_rule_is_about_a_type_there_is() -> None:
    kinds = {kind.value for kind in MeasurementType}
    assert {rule.subtype.partition(".")[0] for rule in shipped()} <= kinds
    assert all("." in rule.subtype for rule in shipped())


def test_no_shipped_rule_repeats_an_earlier_one() -> None:
    """The first rule wins, so what a later rule says of the same subtypes and keys would be dead."""
    seen: set[tuple[str, str]] = set()
    for rule in shipped():
        for key in rule.keys:
            assert (rule.subtype, key) not in seen
            seen.add((rule.subtype, key))


@pytest.mark.parametrize(
    ("kind", "subtype", "key", "stability"),
    [
        ("OS", "sysctl", "/proc/sys/kernel/random/uuid", "volatile"),
        ("OS", "sysctl", "/proc/sys/kernel/random/boot_id", "volatile"),
        ("OS", "sysctl", "/proc/sys/kernel/ns_last_pid", "volatile"),
        ("OS", "sysctl", "/proc/sys/fs/file-nr", "volatile"),
        ("OS", "sysctl", "/proc/sys/fs/dentry-state", "volatile"),
        ("OS", "sysctl", "/proc/sys/fs/inode-nr", "volatile"),
        ("OS", "sysctl", "/proc/sys/fs/inode-state", "volatile"),
        ("OS", "sysctl", "/proc/sys/kernel/hostname", "identity"),
        ("OS", "sysctl", "/proc/sys/vm/swappiness", "stable"),
        ("OS", "sysctl", "/proc/sys/kernel/random/poolsize", "stable"),
        ("OS", "release", "VERSION_ID", "stable"),
    ],
)
def test_classes_the_design_names(kind: str, subtype: str, key: str, stability: str) -> None:
    assert default_rules().classify(kind, subtype, key) == stability


# ---- the node's own name ----


@pytest.mark.parametrize(
    ("value", "node", "result"),
    [
        ("gpu-1", "gpu-1", "${node}"),
        ("on gpu-1 now", "gpu-1", "on ${node} now"),
        ("gpu-1,gpu-2,gpu-1", "gpu-1", "${node},gpu-2,${node}"),
        ("gpu-1.example.com", "gpu-1", "${node}.example.com"),
        ("http://gpu-1:80/", "gpu-1", "http://${node}:80/"),
        ("a=gpu-1;", "gpu-1", "a=${node};"),
        ("gpu-10", "gpu-1", "gpu-10"),
        ("my-gpu-1", "gpu-1", "my-gpu-1"),
        ("gpu-1-a", "gpu-1", "gpu-1-a"),
        ("x.gpu-1", "gpu-1", "x.gpu-1"),
        ("_gpu-1", "gpu-1", "_gpu-1"),
        ("éa", "a", "éa"),
        ("a.c", "a.c", "${node}"),
        ("abc", "a.c", "abc"),
        ("GPU-1", "gpu-1", "GPU-1"),
        ("", "gpu-1", ""),
        ("gpu-1", "", "gpu-1"),
        ("1", "1", "${node}"),
        (1, "1", 1),
        (True, "True", True),
        (0.5, "0.5", 0.5),
    ],
)
def test_the_nodes_name_is_replaced_where_it_stands_alone(value: Scalar, node: str, result: Scalar) -> None:
    replaced = without_node_name(value, node)
    assert replaced == result
    assert type(replaced) is type(result)


_node = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,8}[a-z0-9])?", fullmatch=True)


@given(st.lists(st.sampled_from(["", "x", "${node}"]) | st.text(", /:=", max_size=3), max_size=6), _node, _node)
def test_values_that_differ_by_the_name_alone_become_equal(parts: list[str], one: str, other: str) -> None:
    first, second = (" , ".join(name if part == "${node}" else part for part in parts) for name in (one, other))
    if {one, other} & {"x"}:
        return
    assert without_node_name(first, one) == without_node_name(second, other)
    assert str(without_node_name(first, one)).count(NODE_PLACEHOLDER) == parts.count("${node}")


@given(st.text(max_size=20), st.text(max_size=5))
def test_any_text_and_any_name(value: str, node: str) -> None:
    assert isinstance(without_node_name(value, node), str)
