"""Texts about keys: the most specific wins, wrong files are named, and everything we write is explained."""

from importlib.resources import files
from pathlib import Path

import pytest

from common.errors import InputError
from common.formats import load_snapshot
from common.keys import Entry, Explanation, Keys, default_keys, explain, explain_with, parse_keys
from common.model import MeasurementType
from common.stability import Rules, Stability, parse_rules

HOSTS = Path(__file__).parents[1] / "hosts"

TEXT = """
[[key]]
match = "OS.sysctl"
what = "kernel parameters"
source = "/proc/sys"

[[key]]
match = "OS.sysctl.*"
what = "a kernel parameter"
source = "sysctl"

[[key]]
match = ["OS.sysctl./proc/sys/vm/*", "OS.sysctl./proc/sys/vm*"]
what = "memory management"
source = "vm.rst"

[[key]]
match = "OS.sysctl./proc/sys/vm/swappiness"
what = "eagerness to swap"
source = "vm.rst, swappiness"

[[key]]
match = "SystemD.*.MainPID"
what = "the main process"
source = "D-Bus"

[[key]]
match = "SystemD.*"
what = "a unit"
source = "systemd"
"""

RULES = """
[[rule]]
class = "volatile"
subtype = "SystemD.*"
why = "new with every start"
keys = ["MainPID"]
"""


@pytest.fixture
def keys() -> Keys:
    return Keys(parse_keys(TEXT, "t.toml"))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("OS.sysctl", "kernel parameters"),
        ("OS.sysctl./proc/sys/kernel/x", "a kernel parameter"),
        ("OS.sysctl./proc/sys/vm/x", "memory management"),
        ("OS.sysctl./proc/sys/vm/swappiness", "eagerness to swap"),
        ("OS.sysctl./proc/sys/vm/swappiness2", "memory management"),
        ("SystemD.a.b.service.MainPID", "the main process"),
        ("SystemD.a.b.service", "a unit"),
        ("SystemD.a.b.service.MainPIDs", "a unit"),
        ("OS", None),
        ("OS.kmod", None),
        ("os.sysctl", None),
    ],
)
def test_the_most_specific_text_wins(keys: Keys, name: str, what: str | None) -> None:
    entry = keys.find(name)
    assert (entry.what if entry else None) == what


def test_of_equally_specific_texts_the_first_wins() -> None:
    first, second = Entry("a*b", "first", "s"), Entry("ab*", "second", "s")
    for entries, what in ([first, second], "first"), ([second, first], "second"):
        found = Keys(entries).find("abb")
        assert found is not None
        assert found.what == what


def test_an_explanation_joins_text_and_class(keys: Keys) -> None:
    rules = Rules(parse_rules(RULES))
    assert explain_with(keys, rules, "SystemD", "k.service", "MainPID") == Explanation(
        "the main process", "D-Bus", Stability.VOLATILE, "new with every start"
    )
    told = explain_with(keys, rules, "OS", "sysctl", "/proc/sys/vm/swappiness")
    assert told is not None
    assert (told.stability, told.what) == (Stability.STABLE, "eagerness to swap")
    assert told.why


def test_a_key_nothing_is_known_of_is_explained_by_its_subtype() -> None:
    keys = Keys([Entry("OS.release", "the distribution", "os-release(5)")])
    told = explain_with(keys, Rules([]), "OS", "release", "NEW_FIELD")
    assert told is not None
    assert told.what == "the distribution"
    assert explain_with(keys, Rules([]), "OS", "releases", "X") is None
    assert explain_with(keys, Rules([]), "OS", "releases") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[key]", "a.toml is not TOML"),
        ("key = 5", "key 1 needs"),
        ("key = [5]", "key 1 needs"),
        ('[[key]]\nmatch = "a"\nwhat = "b"', "key 1 needs"),
        ('[[key]]\nmatch = ""\nwhat = "b"\nsource = "c"', "key 1 needs"),
        ('[[key]]\nmatch = []\nwhat = "b"\nsource = "c"', "key 1 needs"),
        ('[[key]]\nmatch = ["a", 1]\nwhat = "b"\nsource = "c"', "key 1 needs"),
        ('[[key]]\nmatch = "a"\nwhat = " "\nsource = "c"', "key 1 needs"),
        (TEXT + "[[key]]", "key 7 needs"),
    ],
)
def test_wrong_texts_are_named(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_keys(text, "a.toml")


# ---- the texts shipped ----


def shipped() -> list[tuple[str, Entry]]:
    directory = files("common").joinpath("key_texts")
    return [
        (path.name, entry)
        for path in directory.iterdir()
        if path.name.endswith(".toml")
        for entry in parse_keys(path.read_text(encoding="utf-8"), path.name)
    ]


def test_shipped_texts_are_about_types_there_are_and_say_each_thing_once() -> None:
    kinds = {kind.value for kind in MeasurementType}
    patterns = [entry.match for _, entry in shipped()]
    assert {pattern.partition(".")[0] for pattern in patterns} <= kinds
    assert len(patterns) == len(set(patterns))


def test_explaining_uses_the_shipped_texts() -> None:
    for _, entry in shipped():
        if "*" not in entry.match:
            found = default_keys().find(entry.match)
            assert found is not None
            assert found.what == entry.what


def golden() -> list[Path]:
    return sorted(path for path in HOSTS.glob("*/*.yaml") if b"kind: Snapshot" in path.read_bytes()[:200])


@pytest.mark.parametrize("path", golden(), ids=lambda path: str(path.relative_to(HOSTS)))
def test_everything_a_recorded_host_shows_is_explained(path: Path) -> None:
    snapshot = load_snapshot(path.read_bytes(), path.name)
    unexplained = {
        f"{kind}.{subtype}.{key}" for kind, subtype, key in snapshot.facts() if explain(kind, subtype, key) is None
    }
    assert unexplained == set()
