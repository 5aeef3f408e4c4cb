"""`eidos fleet snapshot --ephemeral` without a cluster: what is told when the removal goes well, and when not."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from cli.main import run
from common.errors import ClusterError, Code
from common.fleet import FleetSnapshot
from tests.cli.test_fleet_text import document
from tests.fakes.kubeconfig import write_kubeconfig


async def too_late() -> None:
    raise ClusterError(Code.DEADLINE, "left behind: Namespace eidos", "Try again: eidos fleet uninstall.")


async def interrupted() -> None:
    signal.raise_signal(signal.SIGINT)
    await asyncio.Event().wait()


class Cluster:
    """What installs, asks and removes, and how the removal ends."""

    def __init__(self) -> None:
        self.removal: Callable[[], Awaitable[None]] | None = None
        self.run: BaseException | None = None
        self.installed = 0

    @asynccontextmanager
    async def install(self, *_: object) -> AsyncIterator[None]:
        self.installed += 1
        yield
        if self.removal is not None:
            await self.removal()

    async def take(self, *_: object) -> FleetSnapshot:
        if self.run is not None:
            raise self.run
        return document()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cluster:
    made = Cluster()
    monkeypatch.setenv("KUBECONFIG", write_kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1"))
    for name in ("EIDOS_SERVER", "EIDOS_TOKEN_FILE", "EIDOS_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("installer.temporary.installed", made.install)
    monkeypatch.setattr("cli.install_run.take_through_cluster", made.take)
    return made


def snapshot(path: Path, *flags: str) -> tuple[int, Any]:
    status = run(["fleet", "snapshot", "--ephemeral", "-o", str(path), *flags])
    return status, yaml.safe_load(path.read_text()) if path.exists() else None


def test_the_snapshot_is_written(cluster: Cluster, tmp_path: Path) -> None:
    assert snapshot(tmp_path / "fleet.yaml") == (0, msgspec.to_builtins(document()))


@pytest.mark.parametrize(
    ("trouble", "status", "said"),
    [(too_late, 5, "left behind: Namespace eidos"), (interrupted, 130, "interrupted")],
)
def test_it_is_written_whatever_becomes_of_the_removal(
    cluster: Cluster,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    trouble: Callable[[], Awaitable[None]],
    status: int,
    said: str,
) -> None:
    cluster.removal = trouble
    ended, written = snapshot(tmp_path / "fleet.yaml")
    assert written == msgspec.to_builtins(document())
    assert ended == status
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_neither_written_nor_removed_says_both(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "there" / "fleet.yaml"
    target.parent.mkdir()

    async def without_a_place_to_write_to() -> None:
        target.parent.rmdir()
        await too_late()

    cluster.removal = without_a_place_to_write_to
    assert snapshot(target) == (2, None)
    said = capsys.readouterr().err
    assert "left behind: Namespace eidos. Try again: eidos fleet uninstall.\n" in said
    assert "fleet.yaml cannot be written: " in said.splitlines()[-1]


def test_without_a_snapshot_nothing_is_written(cluster: Cluster, tmp_path: Path) -> None:
    cluster.run = ClusterError(Code.CLUSTER_FAILED, "no")
    assert snapshot(tmp_path / "fleet.yaml") == (4, None)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--nodes", "gpu-[1-99999999]"], "more than 100000 names"),
        (["-l", "a=b,,c"], "is not a label selector"),
        (["--deadline", "500s"], "the deadline must be more than 0 and at most 120 s"),
    ],
)
def test_what_the_aggregator_would_refuse_is_refused_before_one_is_installed(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert snapshot(tmp_path / "fleet.yaml", *flags) == (2, None)
    assert said in capsys.readouterr().err
    assert not cluster.installed
