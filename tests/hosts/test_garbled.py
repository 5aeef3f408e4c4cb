"""Hosts whose files say anything: no collector breaks, and what it returns can be written and compared."""

import random
from pathlib import Path

import pytest

from agent.collect import run
from agent.collectors.base import Options
from agent.collectors.registry import collectors
from agent.host import DEFAULT_LIMIT
from common.canonical import canonical_bytes
from common.formats import Format, dump, load_snapshot
from common.model import Failed, FailureCode, MeasurementType, Ok
from tests.hosts.archive import ArchivedHost, load, unpack
from tests.hosts.test_hosts import take

_HERE = Path(__file__).parent
_GARBAGE = (
    b"", b"\0", b"\xff\xfe\n", b"-1\n", b"0x\n", b"9" * 400, b"[", b"[]", b": : :\n", b"= = =\n", b"a|b|c\n",
    b"0-4294967295\n", b"processor\t: 18446744073709551616\n", "\u2028\ud7ff\n".encode(), b"\n" * 50, b"{" * 50,
)  # fmt: skip


class _GarbledHost(ArchivedHost):
    """Answers some reads with something else, the same every time."""

    seed = 0

    def read_bytes(self, path: str, limit: int = DEFAULT_LIMIT) -> bytes:
        content = super().read_bytes(path, limit)
        chance = random.Random(f"{self.seed}{path}")  # noqa: S311 - repeatable, not secret
        match chance.randrange(6):
            case 0:
                return chance.choice(_GARBAGE)
            case 1:
                return content[: chance.randrange(len(content) + 1)]
            case 2:
                return content.translate(bytes(chance.randrange(256) if n % 7 == 0 else n for n in range(256)))
            case _:
                return content


@pytest.mark.parametrize("name", ["cloud-vm", "cpu-only", "grace-arm64"])
def test_no_collector_breaks(name: str, tmp_path: Path) -> None:
    chosen = [collector for collector in collectors() if collector.type is MeasurementType.OS]
    tree = load(_HERE / name / "tree.txt")
    unpack(tree, tmp_path)
    clean = take(ArchivedHost(tmp_path, tree), name)
    host = _GarbledHost(tmp_path, tree)
    for host.seed in range(12):
        for answer in run(chosen, host, name, Options(include_volatile=True), seconds=100):
            for subtype, outcome in answer.collected.subtypes.items():
                assert not isinstance(outcome, Failed) or outcome.code is not FailureCode.INTERNAL, outcome
                if isinstance(outcome, Ok):
                    canonical_bytes(outcome.data)
                    assert all(isinstance(key, str) and key for key in outcome.data), subtype
            assert answer.collected.ending is None, answer.collected.ending
        taken = take(host, name)
        assert taken != clean
        assert load_snapshot(dump(taken, Format.YAML), "garbled").facts() == taken.facts()
