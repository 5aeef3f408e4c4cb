"""`eidos fleet demo`: what it shows, that it notices what it misses, and that nothing stays however it ends."""

import os
import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.host import Host
from agent.oneshot import Request, take
from cli import fleet_demo, local_fleet, replay_hosts
from cli.local_fleet import OWN_PROCESS, LocalNode, shares
from cli.main import run
from cli.replay_hosts import Cast, Seeded, cast
from common.errors import FleetError
from common.fleet import FleetMetadata, FleetSnapshot, Outlier, OutlierFact, Summary
from common.model import MeasurementType
from tests.cli.conftest import Demo, end, start_demo

TWO_SEEDED = [
    "  h100-8x-ib-3: OS.sysctl./proc/sys/vm/swappiness = 97",
    "  grace-arm64-3: OS.kmod.nouveau = true",
]


def test_it_says_what_runs_and_shows_what_was_found(demo: Demo) -> None:
    lines = demo.output.splitlines()
    assert lines[0].startswith("Local fleet of 7 nodes: one aggregator, each agent a process, TLS and signed tokens.")
    assert "replay the files of h100-8x-ib, grace-arm64, recorded or constructed, from tests/hosts" in lines[2]
    assert lines[3:6] == ["Seeded differences:", *TWO_SEEDED]
    assert "STATE  COUNT  REASON  NODES" in demo.output
    assert "h100-8x-ib-[1-2] (2)  group" in demo.output
    assert "h100-8x-ib-3 (1)  unlike h100-8x-ib-[1-2] (2)" in demo.output
    assert "Seeded differences found: 2 of 2." in lines
    assert "\x1b" not in demo.output


@pytest.mark.parametrize("columns", [80, 120])
def test_nothing_breaks_in_the_middle_of_a_word(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(fleet_demo, "is_terminal", lambda stream: True)
    nodes = [LocalNode("here"), *(LocalNode(f"n{number}", tmp_path) for number in range(99))]
    what = "replay what a snapshot of this machine says of its release, kernel settings, modules and command line"
    fleet_demo._introduce(Cast(nodes, [], what))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0].startswith("Local fleet of 100 nodes: one aggregator, its agents in ")
    assert " ".join(" ".join(lines).split()).endswith(
        f"here is this machine 99 others {what}; GPUs and systemd are not replayed No differences could be seeded."
    )


def test_every_agent_is_a_process_with_a_token_of_its_own(demo: Demo) -> None:
    lines = list(demo.children().values())
    assert sum(" -m agent.replay " in line for line in lines) == 6
    assert sum(" -m agent " in line for line in lines) == 1
    assert sum(" -m aggregator " in line for line in lines) == 1
    tokens = {path.read_text() for path in (demo.directory / "fleet" / "tokens").iterdir()}
    assert len(tokens) == 7


def test_its_files_are_its_owners_alone(demo: Demo) -> None:
    assert demo.directory.stat().st_mode & 0o077 == 0


def test_a_missed_difference_is_status_1(
    demo: Demo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = demo.directory / "fleet"
    running = SimpleNamespace(
        url=demo.environment["EIDOS_SERVER"], ca_file=home / "ca.crt", token_file=home / "user-token"
    )

    def one_too_many(count: int, here: str, directory: Path) -> Cast:
        real = cast(count, here, directory)
        return replace(real, seeded=[*real.seeded, Seeded("h100-8x-ib-1", real.seeded[0].change)])

    monkeypatch.setattr(replay_hosts, "cast", one_too_many)
    monkeypatch.setattr(local_fleet, "local_fleet", lambda directory, nodes: nullcontext(running))
    assert run(["fleet", "demo", "--nodes", "7"]) == 1
    printed = capsys.readouterr().out
    assert "Seeded differences found: 2 of 3.\n  missed on h100-8x-ib-1: OS.sysctl./proc/sys/vm/swappiness" in printed


@pytest.mark.parametrize(
    ("until", "number", "status"),
    [
        ("Ctrl-C ends it.", signal.SIGKILL, -signal.SIGKILL),
        ("Seeded differences:", signal.SIGTERM, -signal.SIGTERM),
        ("Seeded differences:", signal.SIGINT, 130),
    ],
)
def test_nothing_stays_however_it_ends(until: str, number: signal.Signals, status: int, tmp_path: Path) -> None:
    running = start_demo("--nodes", "4", "--keep", until=until)
    (sweeper,) = (line for line in running.children().values() if "rmtree" in line)
    directory = Path(sweeper.split()[-1])
    assert directory.is_dir()
    assert end(running, number) == status  # and its sweeper has ended, as all its processes
    assert not directory.exists()


def test_a_process_that_dies_is_told(tmp_path: Path) -> None:
    with local_fleet.local_fleet(tmp_path, [LocalNode("a", tmp_path), LocalNode("b", tmp_path)]) as fleet:
        fleet.check()
        assert fleet.lost() == []
        processes = {name: process for (name, _), process in fleet._processes.started.items()}
        processes["agent of a"].kill()
        processes["agent of a"].wait()
        (sentence,) = fleet.lost()
        assert sentence.startswith("the agent of a was killed by SIGKILL")
        assert "{" not in sentence
        assert fleet.lost() == [], "told once"
        processes["aggregator"].kill()
        processes["aggregator"].wait()
        with pytest.raises(FleetError, match="the aggregator was killed by SIGKILL"):
            fleet.lost()
    assert all(process.returncode is not None for process in processes.values())


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", ""),
        ('{"time": "t", "message": "old"}\n{"time": "t", "message": "link down", "detail": "refused"}\n',
         "link down: refused"),
        ("Traceback\nKeyError: 'x'\n", "KeyError: 'x'"),
        ("17", "17"),
        ('{"message": 3}', ""),
    ],
)  # fmt: skip
def test_of_a_log_the_last_message_is_told(log: str, said: str) -> None:
    assert local_fleet._last_message(log) == said


def test_how_a_process_ended() -> None:
    assert local_fleet._fate(3) == "ended with status 3"
    assert local_fleet._fate(-signal.SIGTERM) == "was killed by SIGTERM"
    assert local_fleet._fate(-(signal.SIGRTMIN + 2)) == f"was killed by signal {signal.SIGRTMIN + 2}"


def test_a_demo_whose_reader_has_gone_ends_quietly() -> None:
    running = start_demo("--nodes", "4", until="Seeded differences:")
    directory = Path(next(line for line in running.children().values() if "rmtree" in line).split()[-1])
    assert running.process.stdout is not None
    running.process.stdout.close()
    assert end(running, signal.SIGCONT) == 141
    assert not directory.exists()


def test_a_kept_demo_goes_on_without_an_agent() -> None:
    running = start_demo("--nodes", "4", "--keep")
    os.kill(running.child("h100-8x-ib-1="), signal.SIGKILL)
    assert running.process.stdout is not None
    line = running.process.stdout.readline()
    assert line.startswith("The agent of h100-8x-ib-1 was killed by SIGKILL")
    assert line.endswith("The rest goes on.\n")
    os.kill(running.child(" -m aggregator "), signal.SIGKILL)
    assert "the aggregator was killed by SIGKILL" in running.process.stdout.readline()
    assert end(running, signal.SIGCONT) == 4


def test_a_fleet_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "fleet").write_text("in the way")
    with (
        pytest.raises(
            FleetError, match="the aggregator ended with status 2; its log ends with: eidos-aggregator: cannot serve"
        ),
        local_fleet.local_fleet(tmp_path, [LocalNode("a", tmp_path)]),
    ):
        pytest.fail("it started")


def test_without_a_checkout_this_machine_is_varied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None
) -> None:
    members = cast(8, "here", tmp_path / "hosts", checkout=tmp_path / "installed")
    assert [node.name for node in members.nodes] == ["here", *(f"copy-{number}" for number in range(1, 8))]
    assert "what a snapshot of this machine says" in members.source
    assert [seeded.node for seeded in members.seeded] == [
        f"copy-{8 - left}" for left in range(len(members.seeded), 0, -1)
    ]
    assert len({seeded.change for seeded in members.seeded}) == len(members.seeded) >= 2
    here = take(Request(("OS",)), Host("/"), {"NODE_NAME": "x"}).facts()
    copy = take(Request(("OS",)), Host(str(members.nodes[1].root)), {"NODE_NAME": "x"}).facts()
    for kind, subtype, key in (("OS", "sysctl", "/proc/sys/vm/swappiness"), ("OS", "release", "ID")):
        assert copy[kind, subtype, key] == here[kind, subtype, key]
    for seeded in members.seeded:
        (root,) = (node.root for node in members.nodes if node.name == seeded.node)
        odd = take(Request(("OS",)), Host(str(root)), {"NODE_NAME": "x"}).facts()
        differing = {fact for fact in odd.keys() | copy.keys() if odd.get(fact) != copy.get(fact)}
        assert differing == {seeded.change.fact}
        assert odd[seeded.change.fact] == seeded.change.value


@pytest.mark.parametrize(("count", "processes"), [(3, 3), (OWN_PROCESS, OWN_PROCESS), (OWN_PROCESS + 1, 8), (99, 8)])
def test_many_nodes_share_a_few_processes(count: int, processes: int) -> None:
    nodes = [LocalNode(f"n{number}", Path("/x")) for number in range(count)]
    divided = shares(nodes)
    assert len(divided) == processes
    assert sorted(node.name for share in divided for node in share) == sorted(node.name for node in nodes)


def outlier(nodes: str, *facts: OutlierFact) -> FleetSnapshot:
    summary = Summary(3, 3, {"ok": 3}, 2, 1, 9, 1, 0)
    found = Outlier(1, 1, nodes, 0, list(facts))
    return FleetSnapshot(
        metadata=FleetMetadata("0", "r", "t"), summary=summary, ledger=[], groups=[], outliers=[found],
        collection=[], measurements=[],
    )  # fmt: skip


def test_found_means_this_node_and_this_fact_alone() -> None:
    change = replay_hosts._CHANGES[0]
    fact = OutlierFact(MeasurementType.OS, "sysctl", "/proc/sys/vm/swappiness", "97", "60")
    other = OutlierFact(MeasurementType.OS, "sysctl", "/proc/sys/vm/dirty_ratio", "97", "60")
    assert fleet_demo._is_found(outlier("n1", fact), Seeded("n1", change))
    assert not fleet_demo._is_found(outlier("n2", fact), Seeded("n1", change))
    assert not fleet_demo._is_found(outlier("n[1-2]", fact), Seeded("n1", change))
    assert not fleet_demo._is_found(outlier("n1", fact, other), Seeded("n1", change))
    assert not fleet_demo._is_found(outlier("n1", other), Seeded("n1", change))
