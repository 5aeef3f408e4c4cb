"""Every host's snapshot, byte for byte. `pytest tests/hosts --update-golden` rewrites them; read the diff."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from agent.collect import run, snapshot
from agent.collectors.base import Options
from agent.collectors.registry import collectors
from common.formats import Format, dump
from common.model import MeasurementType, Snapshot
from tests.hosts.archive import ArchivedHost, load, unpack

_HERE = Path(__file__).parent
_HOSTS = sorted(path.parent.name for path in _HERE.glob("*/tree.txt"))
_NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_MOST_BYTES = 150 << 10


def take(host: ArchivedHost, node: str) -> Snapshot:
    """The OS facts of a host; a GPU, systemd and a cluster are not in an archive."""
    chosen = [collector for collector in collectors() if collector.type is MeasurementType.OS]
    taken = snapshot(run(chosen, host, node, Options()), node, now=_NOW)
    # A new version of Eidos must not change every golden file.
    return msgspec.structs.replace(taken, metadata=msgspec.structs.replace(taken.metadata, version="golden"))


@pytest.mark.parametrize("name", _HOSTS)
def test_snapshot(name: str, tmp_path: Path, update_golden: bool) -> None:
    host = unpack(load(_HERE / name / "tree.txt"), tmp_path)
    written = dump(take(host, name), Format.YAML)
    golden = _HERE / name / "snapshot.yaml"
    if update_golden:
        golden.write_bytes(written)
    assert written.decode() == golden.read_text(encoding="utf-8")
    assert dump(take(host, name), Format.YAML) == written


def test_there_are_enough_hosts() -> None:
    assert len(_HOSTS) >= 7, _HOSTS


@pytest.mark.parametrize("name", _HOSTS)
def test_archives_stay_small(name: str) -> None:
    assert (_HERE / name / "tree.txt").stat().st_size <= _MOST_BYTES
