"""What is missing is not changed: failed, absent, not collected, older documents, and fallbacks."""

import pytest

from common.diff import Diff, diff
from common.model import CollectionEntry, FailureCode, MeasurementType, Scalar, State
from common.stability import Rules
from tests.common.snapshots import absent, failed, ran, snapshot_of

Facts = dict[str, dict[str, Scalar]]
Lines = list[CollectionEntry]

UNIT: Facts = {"SystemD.docker.service": {"Restart": "always", "User": "root"}}
UNIT_READ = [ran("systemd", "SystemD", "docker.service")]


def compare(before: tuple[Facts, Lines], after: tuple[Facts, Lines], *ignore: str, versions: str = "11") -> Diff:
    return diff(
        snapshot_of(*before, version=versions[0]), snapshot_of(*after, version=versions[1]), ignore, Rules([])
    )


def changes(result: Diff) -> list[str]:
    return [f"{change.change} {change.type}.{change.subtype}.{change.key}" for change in result.changes]


def incomparable(result: Diff) -> list[tuple[str, str, str]]:
    return [
        (f"{line.type}.{line.subtype}" if line.subtype else f"{line.type} ({line.collector})", line.side, line.reason)
        for line in result.incomparable
    ]


def both_ways(before: tuple[Facts, Lines], after: tuple[Facts, Lines], versions: str = "11") -> tuple[Diff, Diff]:
    return compare(before, after, versions=versions), compare(after, before, versions=versions[::-1])


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            [ran("systemd", "SystemD"), absent("systemd", "SystemD", "not installed", "docker.service")],
            "not installed",
        ),
        ([absent("systemd", "SystemD", "no systemd here")], "no systemd here"),
        ([ran("systemd", "SystemD", "kubelet.service")], ""),  # it ran and did not find it
        ([ran("systemd", "SystemD", state=State.PARTIAL)], ""),
    ],
    ids=["unit absent", "systemd absent", "not found", "not found beside a failure"],
)
def test_what_is_really_gone_was_removed(lines: Lines, reason: str) -> None:
    there, back = both_ways((UNIT, UNIT_READ), ({}, lines))
    assert changes(there) == ["removed SystemD.docker.service.Restart", "removed SystemD.docker.service.User"]
    assert changes(back) == ["added SystemD.docker.service.Restart", "added SystemD.docker.service.User"]
    for result, kind in (there, "removed"), (back, "added"):
        assert incomparable(result) == []
        [whole] = result.subtypes
        assert (whole.change, whole.subtype, whole.facts, whole.reason) == (kind, "docker.service", 2, reason)


@pytest.mark.parametrize(
    ("lines", "what", "reason"),
    [
        (
            [ran("systemd", "SystemD"), failed("systemd", "SystemD", "no answer", "docker.service")],
            "SystemD.docker.service",
            "failed (timeout): no answer",
        ),
        ([failed("systemd", "SystemD", "the bus hangs")], "SystemD (systemd)", "failed (timeout): the bus hangs"),
        ([ran("release", "OS", "release")], "SystemD (systemd)", "not collected"),
    ],
    ids=["subtype failed", "collector failed", "collector not run"],
)
def test_what_was_not_read_cannot_be_compared(lines: Lines, what: str, reason: str) -> None:
    release: Facts = {"OS.release": {"ID": "ubuntu"}}
    read = [*UNIT_READ, ran("release", "OS", "release")]
    there, back = both_ways((UNIT | release, read), (release, lines))
    for result, side in (there, "after"), (back, "before"):
        assert changes(result) == []
        assert (what, side, reason) in incomparable(result)
        assert result.subtypes == []


def test_a_failed_collector_is_told_once_not_for_each_subtype() -> None:
    facts: Facts = {f"OS.{name}": {"k": 1} for name in "abc"}
    there, back = both_ways((facts, [ran("os", "OS", "a", "b", "c")]), ({}, [failed("os", "OS")]))
    assert len(there.incomparable) == len(back.incomparable) == 1


def test_another_collector_of_the_type_does_not_vouch_for_it() -> None:
    facts: Facts = {"OS.sysctl": {"k": 1}, "OS.release": {"k": 1}}
    before = (facts, [ran("sysctl", "OS", "sysctl"), ran("release", "OS", "release")])
    after: tuple[Facts, Lines] = ({"OS.release": {"k": 1}}, [failed("sysctl", "OS"), ran("release", "OS", "release")])
    for result in both_ways(before, after):
        assert changes(result) == []
        assert [what for what, _, _ in incomparable(result)] == ["OS (sysctl)"]


def test_failed_on_both_sides_is_still_said() -> None:
    hung, late = failed("gpu", "GPU", "driver hangs"), failed("gpu", "GPU", "late")
    assert incomparable(compare(({}, [hung]), ({}, [hung]))) == [
        ("GPU (gpu)", "both", "failed (timeout): driver hangs")
    ]
    assert incomparable(compare(({}, [hung]), ({}, [late]))) == [
        ("GPU (gpu)", "both", "before: failed (timeout): driver hangs; after: failed (timeout): late")
    ]


def test_failed_here_and_absent_there_cannot_be_compared() -> None:
    lines = [ran("gpu", "GPU")]
    one, other = [*lines, failed("gpu", "GPU", "x", "mig")], [*lines, absent("gpu", "GPU", "no MIG", "mig")]
    there, back = both_ways(({}, one), ({}, other))
    assert incomparable(there) == [("GPU.mig", "before", "failed (timeout): x")]
    assert incomparable(back) == [("GPU.mig", "after", "failed (timeout): x")]


def test_absent_on_both_sides_is_nothing() -> None:
    result = compare(({}, [absent("gpu", "GPU", "no GPU")]), ({}, [absent("gpu", "GPU", "other words")]))
    assert (changes(result), incomparable(result), result.subtypes) == ([], [], [])


def test_a_collector_all_of_whose_subtypes_failed_is_told_by_them() -> None:
    whole = CollectionEntry("release", MeasurementType.OS, State.FAILED)
    line = CollectionEntry(
        "release", MeasurementType.OS, State.FAILED, "release", FailureCode.PERMISSION_DENIED, "no"
    )
    result = compare(
        ({"OS.release": {"k": 1}}, [ran("release", "OS", "release")]),
        ({}, [whole, line]),
    )
    assert incomparable(result) == [("OS.release", "after", "failed (permission_denied): no")]


def test_gpus_that_are_gone_are_a_change() -> None:
    facts: Facts = {"GPU.smi": {"gpu-count": 8}, "GPU.devices": {"model": "H100"}}
    there, _ = both_ways((facts, [ran("gpu", "GPU", "devices", "smi")]), ({}, [absent("gpu", "GPU", "no GPU here")]))
    assert changes(there) == ["removed GPU.devices.model", "removed GPU.smi.gpu-count"]
    assert [whole.reason for whole in there.subtypes] == ["no GPU here", "no GPU here"]


# ---- what a failed collector found in another way ----

FULL: tuple[Facts, Lines] = (
    {"GPU.pcie": {"model": "H100", "speed": 5, "width": 16}, "GPU.smi": {"driver": "570"}},
    [ran("gpu", "GPU", "pcie", "smi")],
)
FALLBACK: tuple[Facts, Lines] = ({"GPU.pcie": {"speed": 5, "width": 8}}, [failed("gpu", "GPU", "hung", "", "pcie")])


def test_of_a_fallback_only_shared_keys_are_compared() -> None:
    for result in both_ways(FULL, FALLBACK):
        assert changes(result) == ["changed GPU.pcie.width"]
        assert [what for what, _, _ in incomparable(result)] == ["GPU (gpu)"]
        assert (result.compared, result.subtypes) == (2, [])


def test_two_equal_fallbacks_are_compared_whole() -> None:
    other: tuple[Facts, Lines] = ({"GPU.pcie": {"speed": 5}}, FALLBACK[1])
    assert changes(compare(FALLBACK, other)) == ["removed GPU.pcie.width"]
    differently: tuple[Facts, Lines] = ({"GPU.pcie": {"speed": 5}}, [failed("gpu", "GPU", "lost", "", "pcie")])
    assert changes(compare(FALLBACK, differently)) == []


def test_a_fallback_and_nothing_at_all() -> None:
    gone: tuple[Facts, Lines] = ({}, [absent("gpu", "GPU", "no GPU here")])
    assert changes(compare(FALLBACK, gone)) == ["removed GPU.pcie.speed", "removed GPU.pcie.width"]
    late: tuple[Facts, Lines] = ({}, [failed("gpu", "GPU", "late")])
    assert changes(compare(FALLBACK, late)) == []


# ---- versions and older documents ----


def test_what_another_version_may_not_know_cannot_be_compared() -> None:
    facts: Facts = {"OS.release": {"k": 1}}
    newer: Facts = facts | {"OS.release-extra": {"k": 1}}
    there, back = both_ways(
        (facts, [ran("release", "OS", "release")]),
        (newer, [ran("release", "OS", "release", "release-extra")]),
        versions="12",
    )
    for result, side in (there, "before"), (back, "after"):
        assert changes(result) == []
        assert incomparable(result) == [("OS.release-extra", side, "not collected by version 1")]


OLD_UNITS: Facts = {"SystemD.docker.service": {"Restart": "always"}, "SystemD.kubelet.service": {"Restart": "no"}}


def test_an_older_document_does_not_say_what_it_did_not_read() -> None:
    new: tuple[Facts, Lines] = (
        OLD_UNITS | {"OS.cpu": {"model": "x"}},
        [ran("systemd", "SystemD", "docker.service", "kubelet.service"), ran("cpu", "OS", "cpu")],
    )
    for result in both_ways((OLD_UNITS, []), new, versions="01"):
        assert changes(result) == []
        assert [what for what, _, _ in incomparable(result)] == ["OS.cpu"]
        assert "does not say whether it was read" in incomparable(result)[0][2]


NET = "/proc/sys/net/ipv4/tcp_sack"
SYSCTL_READ = [ran("sysctl", "OS", "sysctl")]


def test_an_older_document_has_nothing_of_the_network_to_compare() -> None:
    old: Facts = {"OS.sysctl": {"/proc/sys/vm/swappiness": "60"}}
    new: Facts = {"OS.sysctl": {"/proc/sys/vm/swappiness": "10", NET: "1"}}
    reason = "/proc/sys/net/ is not in the snapshot, whose writer did not read it"
    there, back = both_ways((old, []), (new, SYSCTL_READ), versions="01")
    for result, side in (there, "before"), (back, "after"):
        assert changes(result) == ["changed OS.sysctl./proc/sys/vm/swappiness"]
        assert incomparable(result) == [("OS.sysctl", side, reason)]
        assert result.compared == 1


def test_the_network_is_compared_where_both_have_it() -> None:
    one: Facts = {"OS.sysctl": {NET: "1"}}
    other: Facts = {"OS.sysctl": {NET: "1", NET + "2": "1"}}
    for lines in ([], SYSCTL_READ):
        assert changes(compare((one, []), (other, lines))) == [f"added OS.sysctl.{NET}2"]
    nothing: Facts = {"OS.sysctl": {"/proc/sys/vm/swappiness": "60"}}
    for lines in ([], SYSCTL_READ):
        assert changes(compare((nothing, lines), (nothing | one, lines)))
    gone = [ran("sysctl", "OS"), absent("sysctl", "OS", "none", "sysctl")]
    assert changes(compare((one, []), ({}, gone))) == [f"removed OS.sysctl.{NET}"]


def test_an_older_document_against_a_unit_that_is_gone() -> None:
    new: tuple[Facts, Lines] = (
        {"SystemD.kubelet.service": {"Restart": "no"}},
        [
            ran("systemd", "SystemD", "kubelet.service"),
            absent("systemd", "SystemD", "not installed", "docker.service"),
        ],
    )
    assert changes(compare((OLD_UNITS, []), new, versions="01")) == ["removed SystemD.docker.service.Restart"]


def test_an_older_document_against_one_that_did_not_look() -> None:
    for lines, reason in (
        ([ran("release", "OS", "release")], "not collected"),
        ([ran("systemd", "SystemD")], "not collected by version 1"),
        ([failed("systemd", "SystemD", "hung")], "failed (timeout): hung"),
    ):
        result = compare((OLD_UNITS, []), ({}, lines), versions="01")
        assert changes(result) == []
        assert reason in {why for _, _, why in incomparable(result)}


def test_between_two_older_documents_a_missing_subtype_is_gone_and_a_missing_measurement_is_not() -> None:
    fewer: Facts = {"SystemD.kubelet.service": {"Restart": "no"}}
    there, back = both_ways((OLD_UNITS, []), (fewer, []))
    assert changes(there) == ["removed SystemD.docker.service.Restart"]
    assert changes(back) == ["added SystemD.docker.service.Restart"]
    none: Facts = {"OS.release": {"k": 1}}
    result = compare((OLD_UNITS | none, []), (none, []))
    assert changes(result) == []
    assert [what for what, _, _ in incomparable(result)] == ["SystemD.docker.service", "SystemD.kubelet.service"]


def test_subtypes_that_old_documents_give_twice_are_compared_each() -> None:
    before: Facts = {"GPU.smi": {"a": 1}, "GPU.smi#2": {"a": 2}}
    after: Facts = {"GPU.smi": {"a": 1}, "GPU.smi#2": {"a": 3}}
    assert changes(compare((before, []), (after, []))) == ["changed GPU.smi#2.a"]


def test_a_document_whose_collectors_list_nothing_is_judged_by_type() -> None:
    bare = CollectionEntry("systemd", MeasurementType.SYSTEMD, State.OK)
    assert changes(compare((UNIT, [bare]), ({}, [bare]))) == [
        "removed SystemD.docker.service.Restart",
        "removed SystemD.docker.service.User",
    ]
    assert changes(compare((UNIT, [bare]), ({}, [failed("systemd", "SystemD")]))) == []


def test_a_subtype_of_which_nothing_was_kept_is_read_all_the_same() -> None:
    """Such as one of volatile facts only: listed, but written only when asked for."""
    lines = [ran("gpu", "GPU", "clocks")]
    assert changes(compare(({"GPU.clocks": {"k": 1}}, lines), ({}, lines))) == ["removed GPU.clocks.k"]
    assert changes(compare(({}, lines), ({}, lines))) == []


# ---- patterns ----


@pytest.mark.parametrize(("pattern", "left"), [("GPU", 1), ("GPU.mig", 1), ("*", 0), ("OS.*", 2), ("GPU.mig.k", 2)])
def test_patterns_leave_out_what_cannot_be_compared(pattern: str, left: int) -> None:
    lines = [
        ran("gpu", "GPU"),
        failed("gpu", "GPU", "x", "mig"),
        ran("s", "SystemD"),
        failed("s", "SystemD", "y", "u"),
    ]
    assert len(compare(({}, lines), ({}, lines), pattern).incomparable) == left


def test_order_of_what_cannot_be_compared() -> None:
    lines = [ran("s", "SystemD"), failed("s", "SystemD", "y", "u"), ran("g", "GPU"), failed("g", "GPU", "x", "mig")]
    assert [what for what, _, _ in incomparable(compare(({}, lines), ({}, lines)))] == ["GPU.mig", "SystemD.u"]


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("/proc/sys/kernel/cad_pid", "/proc/sys/kernel/cad_pid"),
        ("/proc/sys/net/x", "/proc/sys/net/x/word"),
        ("/proc/sys/net/*", "/proc/sys/net/ipv4/ip_forward"),
        ("containerd", "containerd.config-digest"),
        ("3", "vbios[3]"),
    ],
)
def test_what_is_missing_of_an_unread_part_is_not_removed(part: str, key: str) -> None:
    before: tuple[Facts, Lines] = ({"OS.a": {key: "1", "other": "1", "gone": "1"}}, [ran("a", "OS", "a")])
    after: tuple[Facts, Lines] = (
        {"OS.a": {"other": "1"}},
        [ran("a", "OS", "a"), failed("a", "OS", "no", f"a[{part}]")],
    )
    for result, kind in zip(both_ways(before, after), ("removed", "added"), strict=True):
        assert changes(result) == [f"{kind} OS.a.gone"]
        assert [line[0] for line in incomparable(result)] == [f"OS.a[{part}]"]


def test_an_unread_part_covers_nothing_else() -> None:
    before: tuple[Facts, Lines] = ({"OS.a": {"containerd-shim": "1", "vbios[13]": "1"}}, [ran("a", "OS", "a")])
    lines = [ran("a", "OS", "a"), failed("a", "OS", "no", "a[containerd]"), failed("a", "OS", "no", "a[3]")]
    assert changes(compare(before, ({"OS.a": {"x": "1"}}, lines))) == [
        "removed OS.a.containerd-shim",
        "removed OS.a.vbios[13]",
        "added OS.a.x",
    ]
