"""Documents no local fleet gives, as a person sees them."""

import re

from msgspec.structs import replace

from aggregator.cluster_facts import Read, fold_cluster
from aggregator.ledger import Expected
from aggregator.names import NodeNames
from cli.fleet_text import fact_blocks, group_blocks, ledger, names, node_rows, outlier_blocks, overview
from cli.text import aligned
from common.fleet import (
    Differing,
    FleetMetadata,
    FleetSnapshot,
    FoldedEntry,
    FoldedMeasurement,
    FoldedSubtype,
    FoldedValue,
    Group,
    LedgerLine,
    NodeState,
    NodeTable,
    Outlier,
    OutlierFact,
    Summary,
)
from common.fleet_api import FactValue, FactView, NodeView
from common.model import Collected, Failed, FailureCode, MeasurementType, Ok, Outcome, State

TABLE = [NodeTable(".ec2.internal", ["ip-10-0-0-1", "ip-10-0-0-2", "ip-10-0-0-3"])]
OS, GPU = MeasurementType.OS, MeasurementType.GPU


def document() -> FleetSnapshot:
    """Three cloud nodes: two alike with GPUs, one without and with a dangerous value."""
    return FleetSnapshot(
        metadata=FleetMetadata("0.1.0", "r-1", "2026-01-01T00:00:00Z"),
        summary=Summary(4, 3, {"ok": 2, "stale": 1, "no-agent": 1}, 2, 1, 3, 1, 2),
        ledger=[
            LedgerLine(NodeState.OK, 2, "@0-1"),
            LedgerLine(NodeState.STALE, 1, "@2", "no answer\x1b[2J", "2026-01-01T00:00:00Z"),
            LedgerLine(NodeState.NO_AGENT, 1, "gpu-9", "no agent has connected"),
        ],
        groups=[Group(0, "aa", 2, "@0-1"), Group(1, "bb", 1, "@2")],
        outliers=[
            Outlier(1, 1, "@2", 0, [
                OutlierFact(GPU, "smi", value=False, expected=True),
                OutlierFact(OS, "release", "PRETTY_NAME", "x\ny", "Debian"),
            ])
        ],
        collection=[],
        measurements=[
            FoldedMeasurement(GPU, [FoldedSubtype("smi", 2, "0", {"driver": "570.86.15"})]),
            FoldedMeasurement(OS, [FoldedSubtype("release", 3, differs=[
                Differing("PRETTY_NAME", [FoldedValue(2, "Debian"), FoldedValue(1, "x\ny", "1")])
            ])]),
        ],
        node_table=TABLE,
    )  # fmt: skip


def test_overview() -> None:
    lines = list(overview(document(), colour=False))
    assert lines[0] == "Fleet snapshot of 4 nodes  2026-01-01T00:00:00Z  run r-1"
    assert lines[1] == (
        "2 groups, 1 outlier; 3 facts, 1 not the same everywhere, 2 with a value of its own on nearly every node"
    )
    assert "ip-10-0-0-1.ec2.internal,ip-10-0-0-2.ec2.internal (2)  group 0" in lines
    assert "  GPU.smi.driver          570.86.15" in lines
    assert "ip-10-0-0-3.ec2.internal (1)  group 1" not in lines  # it is among the outliers
    assert not any("\x1b" in line or "\n" in line for line in lines)


def test_the_cluster_in_a_few_lines() -> None:
    read: dict[str, Outcome] = {
        "server": Ok({"version": "v1.36.3", "platform": "linux/amd64"}),
        "image": Failed(FailureCode.API_FORBIDDEN, "list pods is forbidden\x1b[2J"),
        "policy": Ok({"driver.enabled": "true"}),
    }
    nodes = [Expected("gpu-1", labels={"a": "b", "c": "d"})]
    cluster = fold_cluster(Read(Collected.of(read), nodes), NodeNames(["gpu-1"]))
    lines = list(overview(replace(document(), cluster=cluster), colour=False))
    at = lines.index("CLUSTER")
    assert lines[at : at + 7] == [
        "CLUSTER",
        "  Kubernetes       v1.36.3 linux/amd64",
        "  policy settings  1",
        "  labels           2",
        "  nodes            1",
        "  taints           0",
        "  not read  K8s.image: list pods is forbidden\\x1b[2J",
    ]
    assert "CLUSTER" not in list(overview(document(), colour=False))


def test_all_groups_with_what_sets_the_odd_one_apart() -> None:
    blocks = "\n".join(group_blocks(document(), colour=False)).split("\n\n")
    assert blocks[1].splitlines()[1] == "ip-10-0-0-3.ec2.internal (1)  group 1"
    assert blocks[1].splitlines()[3:] == [
        "as group 0, but for:",
        "  GPU.smi                 not here",
        "  OS.release.PRETTY_NAME  x\\ny  instead of Debian",
    ]


def test_groups_that_look_alike_say_what_tells_them_apart() -> None:
    """Half of the fleet has changed: neither half is odd, and both have the same GPUs and the same kernel."""
    release = FoldedSubtype("release", 4, data={"PRETTY_NAME": "Debian"})
    sysctl = FoldedSubtype("sysctl", 4, differs=[Differing("swap", [FoldedValue(2, "60"), FoldedValue(2, "1", "1")])])
    halved = replace(
        document(),
        groups=[Group(0, "aa", 2, "n[1-2]"), Group(1, "bb", 2, "n[3-4]"), Group(2, "cc", 2, "n[5-6]")],
        outliers=[],
        collection=[FoldedEntry("nvml", GPU, State.FAILED, 2, reason="hung\x1b[2J", groups="2")],
        measurements=[FoldedMeasurement(OS, [release, sysctl])],
    )
    first, changed, failed = "\n".join(group_blocks(halved, colour=False)).split("\n\n")
    assert first.splitlines()[3:] == ["  OS.release.PRETTY_NAME  Debian"]
    assert changed.splitlines()[3:] == ["as group 0, but for:", "  OS.sysctl.swap  1  instead of 60"]
    assert failed.splitlines()[3:] == [
        "the same facts as group 0, as far as they were read",
        "  nvml  failed  hung\\x1b[2J",
    ]


def test_a_group_that_was_asked_for_less_says_so() -> None:
    """Half of the nodes were asked for some types, before they were lost."""
    unit = FoldedSubtype("kubelet.service", 2, "0", {"ActiveState": "active"})
    halved = replace(
        document(),
        groups=[Group(0, "aa", 2, "n[1-2]"), Group(1, "bb", 2, "n[3-4]")],
        outliers=[],
        measurements=[
            FoldedMeasurement(OS, [FoldedSubtype("release", 4, data={"PRETTY_NAME": "Debian"})]),
            FoldedMeasurement(MeasurementType.SYSTEMD, [unit]),
        ],
    )
    _, less = "\n".join(group_blocks(halved, colour=False)).split("\n\n")
    assert less.splitlines()[3:] == [
        "the same facts as group 0, as far as they were read",
        "  SystemD  not asked for",
    ]


def test_a_group_of_which_next_to_nothing_is_known_says_so() -> None:
    lone = replace(document(), groups=[Group(0, "aa", 1, "n1")], outliers=[], measurements=[])
    assert list(group_blocks(lone, colour=False))[3:] == ["neither its GPUs nor its system are known"]


def test_nothing_known_and_nothing_odd_is_said() -> None:
    empty = replace(document(), groups=[], outliers=[])
    assert list(group_blocks(empty, colour=False)) == ["No facts of any node are known."]
    assert list(outlier_blocks(empty, colour=False)) == [
        "No outliers: no small group differs in few facts from a larger one."
    ]


def test_ledger_tells_the_age_of_old_facts() -> None:
    lines = list(ledger(document().ledger, TABLE, colour=False))
    assert "no answer\\x1b[2J  (facts of 2026-01-01T00:00:00Z)  " in lines[2]
    assert re.split("  +", lines[3]) == ["no-agent", "1", "no agent has connected", "gpu-9"]


def test_ledger_keeps_its_columns_for_all_reasons_but_very_long_ones() -> None:
    wrong = "link down: the agent sent content that does not match its digest"
    rows = [
        LedgerLine(NodeState.OK, 2, "a[1-2]"),
        LedgerLine(NodeState.UNREACHABLE, 1, "b", wrong, "2026-01-01T00:00:00Z"),
        LedgerLine(NodeState.PARTIAL, 1, "c", "could not read " + "x" * 100),
    ]
    header, ok, unreachable, partial = ledger(rows, (), colour=False)
    assert header.index("NODES") == ok.index("a[1-2]") == unreachable.rindex("  b") + 2
    assert partial.endswith("xx  c")


def test_a_cell_that_nothing_follows_needs_no_room() -> None:
    assert list(aligned([("b", "gpu-[1-9]", ""), ("a", "login", "why")], header=("X", "N", "R"))) == [
        "X  N      R",
        "b  gpu-[1-9]",
        "a  login  why",
    ]


def test_very_long_sets_are_cut_between_names() -> None:
    whole = ",".join(f"ip-10-0-0-{n}.us-west-2.compute.internal" for n in range(100))
    shown = names(whole)
    assert len(shown) <= 202
    assert shown.endswith(".internal,…")
    assert names("gpu-[001-512]") == "gpu-[001-512]"


def test_nodes_before_the_first_snapshot() -> None:
    lines = list(node_rows([NodeView("a", connected=False), NodeView("b", connected=True)], colour=False))
    assert [line.split() for line in lines[1:]] == [["a", "-", "no", "-", "-"], ["b", "-", "yes", "-", "-"]]


def test_values_that_are_missing_or_empty() -> None:
    view = FactView(OS, "grub", "quiet", [FactValue(2, "a[1-2]", ""), FactValue(1, "b")], unknown="c[1-2]")
    assert list(fact_blocks(view, colour=False))[2:] == [
        "a[1-2] (2)", "-" * 15, '""', "-" * 15, "b (1)", "-" * 15, "(not there)",
        "-" * 15, "c[1-2] (2)", "-" * 15, "(not known)",
    ]  # fmt: skip
