"""The main promise, from the command line: nothing changed, nothing shown; something changed, exactly that shown."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.main import run
from tests.agent.test_steady import LOAD
from tests.conftest import cannot_run_here
from tests.hosts.archive import load, unpack

pytestmark = pytest.mark.usefixtures("clean_environment")

EIDOS = str(Path(sys.executable).with_name("eidos"))
HOSTS = Path(__file__).parents[1] / "hosts"
SNAPSHOTS = 50


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Processes starting, files opening, memory moving, all the while."""
    load_process = subprocess.Popen([sys.executable, "-c", LOAD], stdout=subprocess.PIPE)
    try:
        assert load_process.stdout is not None
        assert load_process.stdout.readline() == b"busy\n"
        yield
    finally:
        load_process.kill()
        load_process.communicate()


def changes(before: Path, after: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """What `eidos diff` says has changed."""
    capsys.readouterr()
    assert run(["diff", str(before), str(after), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["changes"]
    assert isinstance(found, list)
    return found


def test_fifty_snapshots_in_a_row_differ_in_their_timestamp_alone(
    busy_machine: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All collectors, in processes of their own, on the machine the tests run on."""
    files = [tmp_path / f"{number}.yaml" for number in range(SNAPSHOTS)]
    for file in files:
        assert run(["snapshot", "--output", str(file)]) == 0
    texts = [file.read_text().splitlines() for file in files]
    others = [[line for line in text if not line.startswith("  timestamp: ")] for text in texts]
    assert all(len(other) == len(text) - 1 for other, text in zip(others, texts, strict=True))
    assert all(other == others[0] for other in others)
    assert changes(files[0], files[-1], capsys) == []
    assert run(["diff", str(files[1]), str(files[SNAPSHOTS // 2]), "--fail-on-drift"]) == 0


def test_one_sysctl_changed_on_a_real_kernel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a network namespace of its own, so that nothing but the test sees the change."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        cannot_run_here("a network namespace needs root and unshare(1)")
    before, after = tmp_path / "before.yaml", tmp_path / "after.yaml"
    take = f"{EIDOS} snapshot --collectors os --output"
    script = f"{take} {before} && echo 123 > /proc/sys/net/ipv4/ip_default_ttl && {take} {after}"
    subprocess.run(["unshare", "--net", "sh", "-c", script], check=True, timeout=60, capture_output=True)
    assert changes(before, after, capsys) == [
        {
            "change": "changed",
            "type": "OS",
            "subtype": "sysctl",
            "key": "/proc/sys/net/ipv4/ip_default_ttl",
            "old": "64",
            "new": "123",
        }
    ]


@pytest.mark.parametrize(
    ("path", "content", "subtype", "key", "old", "new"),
    [
        ("/proc/sys/vm/swappiness", "1\n", "sysctl", "/proc/sys/vm/swappiness", "10", "1"),
        (
            "/sys/module/nvidia_drm/parameters/modeset",
            "Y\n",
            "module-parameters",
            "nvidia_drm.modeset",
            "N",
            "Y",
        ),
    ],
)
def test_one_thing_changed_on_an_h100_server(
    path: str, content: str, subtype: str, key: str, old: str, new: str,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    root, before, after = tmp_path / "host", tmp_path / "before.yaml", tmp_path / "after.yaml"
    unpack(load(HOSTS / "h100-8x-ib" / "tree.txt"), root)
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(old + "\n")
    arguments = ["snapshot", "--host-root", str(root), "--collectors", "os", "--output"]
    assert run([*arguments, str(before)]) == 0
    place.write_text(content)
    assert run([*arguments, str(after)]) == 0
    found = changes(before, after, capsys)
    assert [(change["subtype"], change["key"], change.get("old"), change.get("new")) for change in found] == [
        (subtype, key, old, new)
    ]
