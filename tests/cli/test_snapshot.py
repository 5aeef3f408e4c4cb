"""`eidos snapshot`, in this process, against a small host of files."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import run
from common.formats import load_snapshot

pytestmark = pytest.mark.usefixtures("clean_environment")

EIDOS = str(Path(sys.executable).with_name("eidos"))


@pytest.fixture
def host(tmp_path: Path) -> str:
    root = tmp_path / "host"
    for path, content in {
        "etc/os-release": 'ID=ubuntu\nVERSION_ID="24.04"\n',
        "proc/sys/kernel/hostname": "gpu-001\n",
        "proc/sys/vm/swappiness": "60\n",
        "proc/cmdline": "BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    (root / "sys").mkdir()
    return str(root)


def test_yaml_on_standard_output(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["snapshot", "--host-root", host, "--collectors", "os"]) == 0
    document = load_snapshot(capsys.readouterr().out.encode(), "-")
    facts = document.facts()
    assert document.metadata.source_node == "gpu-001"
    assert facts["OS", "release", "VERSION_ID"] == "24.04"
    assert facts["OS", "sysctl", "/proc/sys/vm/swappiness"] == "60"
    assert facts["OS", "grub", "quiet"] == ""
    assert ("OS", "grub", "root") not in facts


def test_node_name_from_the_environment(
    host: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTNAME", "pod-x")
    monkeypatch.setenv("NODE_NAME", "node-7")
    assert run(["snapshot", "--host-root", host, "--collectors", "release", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["metadata"]["source-node"] == "node-7"


@pytest.mark.parametrize(("name", "start"), [("a.yaml", "kind: Snapshot"), ("a.json", "{"), ("a", "kind: Snapshot")])
def test_the_file_name_chooses_the_format(host: str, tmp_path: Path, name: str, start: str) -> None:
    target = tmp_path / name
    assert run(["snapshot", "--host-root", host, "--collectors", "release", "-o", str(target)]) == 0
    assert target.read_text().startswith(start)
    assert load_snapshot(target.read_bytes(), name).metadata.source_node == "gpu-001"


def test_table_is_for_people(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["snapshot", "--host-root", host, "--collectors", "release", "--format", "table"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Snapshot of gpu-001")
    assert "OS.release" in lines
    assert any(line.split() == ["VERSION_ID", "24.04"] for line in lines)


def test_control_characters_do_not_reach_the_terminal(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(host, "etc/os-release").write_text("ID=evil\x1b[2Jname\n")
    assert run(["snapshot", "--host-root", host, "--collectors", "release", "--format", "table"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "evil\\x1b[2Jname" in out


def test_template(host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    template = tmp_path / "t.j2"
    template.write_text("{{ metadata['source-node'] }} runs {{ facts.OS.release.ID }}\n")
    assert run(["snapshot", "--host-root", host, "--collectors", "release", "--template", str(template)]) == 0
    assert capsys.readouterr().out == "gpu-001 runs ubuntu\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{{ facts.OS.release.NOPE }}", "NOPE"),
        ("line\n{% if %}", "line 2"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% include '/etc/passwd' %}", "does not work"),
        ("{% for i in range(100000000) %}x{% endfor %}", "Range too big"),
    ],
)
def test_a_template_that_does_not_work_writes_nothing(
    host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, sentence: str
) -> None:
    template, target = tmp_path / "t.j2", tmp_path / "out"
    template.write_text(text)
    arguments = ["snapshot", "--host-root", host, "--collectors", "release", "--template", str(template)]
    assert run([*arguments, "-o", str(target)]) == 2
    assert sentence in capsys.readouterr().err
    assert not target.exists()


def test_a_template_without_end_is_stopped(
    host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.template._SECONDS", 0.3)
    template = tmp_path / "t.j2"
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    template.write_text(loop)
    assert run(["snapshot", "--host-root", host, "--collectors", "release", "--template", str(template)]) == 2
    assert "is not done after 0.3 s" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"x" * (1 << 20) + b"x"])
def test_a_template_that_cannot_be_read(
    host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    template = tmp_path / "t.j2"
    if content is not None:
        template.write_bytes(content)
    assert run(["snapshot", "--host-root", host, "--template", str(template)]) == 2
    assert f"template {template}" in capsys.readouterr().err


def test_template_and_format_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["snapshot", "--template", str(tmp_path / "t"), "--format", "json"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_outputs_that_cannot_be_written(host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for target in ("folder", "missing/deeper/x.yaml", "file/x.yaml"):
        arguments = ["snapshot", "--host-root", host, "--collectors", "release", "-o", str(tmp_path / target)]
        assert run(arguments) == 2, target
        error = capsys.readouterr().err
        assert error.startswith("Error: ")
        assert str(tmp_path / target) in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "host"]


def test_a_full_disk_leaves_the_old_file_whole(host: str, tmp_path: Path) -> None:
    target = tmp_path / "snapshot.yaml"
    target.write_text("precious\n")

    def only_a_few_bytes() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))  # writes past it fail, as on a full disk

    done = subprocess.run(
        [EIDOS, "snapshot", "--host-root", host, "--collectors", "release", "-o", str(target)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=only_a_few_bytes,
    )
    assert done.returncode == 2
    assert str(target) in done.stderr
    assert "Traceback" not in done.stderr
    assert target.read_text() == "precious\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["host", "snapshot.yaml"]


def test_dev_full(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["snapshot", "--host-root", host, "--collectors", "release", "-o", "/dev/full"]) == 2
    assert "no space left" in capsys.readouterr().err


def test_an_existing_file_keeps_its_mode(host: str, tmp_path: Path) -> None:
    target = tmp_path / "snapshot.yaml"
    target.write_text("old")
    target.chmod(0o600)
    assert run(["snapshot", "--host-root", host, "--collectors", "release", "-o", str(target)]) == 0
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.read_text().startswith("kind: Snapshot")


def test_require_gpu_writes_what_was_read_and_fails(
    host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "snapshot.yaml"
    assert run(["snapshot", "--host-root", host, "--require-gpu", "-o", str(target)]) == 3
    assert "a GPU is required, but on node gpu-001 there is none" in capsys.readouterr().err
    assert load_snapshot(target.read_bytes(), "x").facts()["GPU", "smi", "gpu-count"] == 0


def test_require_gpu_without_its_collector(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["snapshot", "--host-root", host, "--collectors", "os", "--require-gpu"]) == 3
    assert "--collectors" in capsys.readouterr().err


def test_what_fails_is_also_said_on_standard_error(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    release = Path(host, "etc/os-release")
    release.write_bytes(b"A=" + b"b" * (2 << 20))
    assert run(["snapshot", "--host-root", host, "--collectors", "release"]) == 0
    captured = capsys.readouterr()
    assert "Warning: OS.release failed (too_large): /etc/os-release" in captured.err
    entry = next(e for e in load_snapshot(captured.out.encode(), "-").collection if e.subtype == "release")
    assert entry.state == "failed"
    assert entry.code == "too_large"


def test_debug_says_how_long_each_took(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["snapshot", "--host-root", host, "--collectors", "release", "--debug"]) == 0
    assert "release: ok in 0." in capsys.readouterr().err


def test_no_progress_where_there_is_no_terminal(host: str) -> None:
    done = subprocess.run([EIDOS, "snapshot", "--host-root", host], capture_output=True, timeout=60, check=True)
    assert done.stderr == b""


def test_timeout_is_kept_and_told(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    os.remove(Path(host, "etc/os-release"))
    os.mkfifo(Path(host, "etc/os-release"))  # must neither hang nor pass for an empty file
    assert run(["snapshot", "--host-root", host, "--collectors", "release", "--timeout", "5s"]) == 0
    assert "OS.release failed" in capsys.readouterr().err
