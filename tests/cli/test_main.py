"""Overview, help, wrong use, interrupts: what holds for every command."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import click
import pytest

from cli import main as main_module
from cli.main import cli, run
from common.errors import Code, EidosError

EIDOS = str(Path(sys.executable).with_name("eidos"))


def eidos(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the installed command with a bounded time."""
    return subprocess.run([EIDOS, *arguments], capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload,no-any-return]  # options are Popen's own


def all_commands() -> list[str]:
    return cli.list_commands(click.Context(cli))


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], *([name, "--help"] for name in all_commands())])
def test_help_exits_zero_and_shows_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0
    assert "Usage: eidos" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["snapshot", "diff", "explain", "completion"])
def test_help_has_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert f"  eidos {name} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["snapsho"], "Did you mean 'snapshot'?"),
        (["--nonsense"], "No such option"),
        (["snapshot", "--outptu", "x"], "No such option"),
        (["snapshot", "--format", "xml"], "'xml' is not one of"),
        (["snapshot", "--timeout", "soon"], "soon"),
        (["snapshot", "--timeout", "-1s"], "-1s"),
        (["snapshot", "--collectors", ","], "names no collector"),
        (["snapshot", "--collectors", "gpus"], "there is no collector 'gpus'"),
        (["snapshot", "--max-nodes-per-entry", "-1"], "-1"),
        (["snapshot", "--host-root", "/nonexistent"], "not a directory"),
        (["diff", "only-one.yaml"], "Missing argument"),
        (["diff", "-", "-"], "Only one of A and B"),
        (["snapshot", "-o", "cm://eidos/eidos-fleet"], "is where the aggregator of a fleet publishes"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
        (["fleet", "node", ""], "no node is named"),
        (["fleet", "snapshot", "--nodes", ""], "--nodes names no node. Leave the flag out for all of them."),
        (["fleet", "snapshot", "--nodes", ","], "--nodes names no node"),
        (["fleet", "snapshot", "-l", " "], "--selector names no label"),
        (["fleet", "snapshot", "--sections", ""], "--sections names no section"),
        (["fleet", "nodes", "--state", ","], "--state names no state"),
        (["fleet", "install", "--dry-run", "--node-selector", ""], "--node-selector names no label"),
        (["fleet", "nodes", "--state", ""], "--state names no state"),
        (["fleet", "install", "--dry-run", "--overlay", ""], "--overlay names no overlay. Name one, or"),
        (["fleet", "snapshot", "--agent-image", ""], "--agent-image means nothing without --ephemeral"),
        (["fleet", "fact", "OS.\udcff"], "Invalid value for 'KEY': OS.\\xff is not text: it must be UTF-8"),
        (["fleet", "query", "a == '\udcc3'"], "is not text"),
        (["fleet", "node", "\udcff"], "\\xff is not text"),
        (["fleet", "snapshot", "--nodes", "\udcff"], "\\xff is not text"),
        (["fleet", "snapshot", "-l", "a=\udcff"], "a=\\xff is not text"),
        (["fleet", "nodes", "--state", "\udcff"], "\\xff is not text"),
        (["fleet", "status", "--server", "https://\udcff"], "https://\\xff is not text"),
        (["fleet", "fact", ""], "no fact is named"),
        (["explain", "nothing.at.all"], "names no measurement type"),
    ],
)
def test_wrong_use_is_one_clear_error_and_status_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_log_in_an_error_gets_no_full_stop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for hint, last in (("", "  and died"), ("Do that.", "Do that.")):
        error = EidosError(Code.CLUSTER_FAILED, "it failed. Its last words:\n  and died\n", hint)
        monkeypatch.setattr(cli, "main", Mock(side_effect=error))
        run([])
        assert capsys.readouterr().err.splitlines()[1:] == list(dict.fromkeys(("  and died", last)))


def test_every_error_code_ends_the_program_with_its_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for code in Code:
        error = EidosError(code, f"this is {code}", "Do that.")

        def fail(*_: object, error: EidosError = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(cli, "main", fail)
        assert run([]) == error.exit_status
        assert f"Error: this is {code}. Do that." in capsys.readouterr().err


def test_a_defect_is_one_sentence_unless_debugging(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(main_module.cli, "main", fail)
    monkeypatch.delenv("EIDOS_DEBUG", raising=False)
    assert run([]) == 70
    error = capsys.readouterr().err
    assert "internal error: ZeroDivisionError: oops" in error
    assert "Traceback" not in error
    monkeypatch.setenv("EIDOS_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run([])


def test_help_imports_nothing_heavy() -> None:
    script = "import sys; from cli.main import run; run(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    heavy = {"yaml", "rich", "jinja2", "psutil", "asyncio", "kubernetes_asyncio", "pynvml", "pystemd", "msgspec"}
    assert loaded & heavy == set()


def test_version_agrees_with_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    plain = capsys.readouterr().out.split()[1]
    assert run(["version"]) == 0
    assert capsys.readouterr().out.split()[1] == plain
    assert run(["version", "--format", "json"]) == 0
    assert f'"version": "{plain}"' in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_knows_the_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_EIDOS_COMPLETE" in script
    assert "eidos" in script


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("eidos sna", ["plain,snapshot"]),
        ("eidos snapshot --collectors gpu,sys", ["plain,gpu,sysctl", "plain,gpu,systemd"]),
        ("eidos snapshot -o sna", ["file,sna"]),
        ("eidos diff a.y", ["file,a.y"]),
        ("eidos snapshot --context st", ["plain,staging"]),
        ("eidos fleet nodes --context ", ["plain,prod", "plain,staging"]),
        ("eidos fleet nodes --kubeconfig /nonexistent --context st", []),
        ("eidos fleet install --overlay ha,re", ["plain,ha,restricted"]),
    ],
)
def test_completion_offers(words: str, offered: list[str], tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        "contexts: [{name: prod, context: {cluster: a}}, {name: staging, context: {cluster: b}}]\n"
        "clusters: [{name: a, cluster: {server: 'https://a'}}, {name: b, cluster: {server: 'https://b'}}]\n"
    )
    environment = {**os.environ, "_EIDOS_COMPLETE": "bash_complete", "COMP_WORDS": words,
                   "COMP_CWORD": str(words.count(" ")), "KUBECONFIG": str(kubeconfig)}  # fmt: skip
    assert eidos(env=environment).stdout.split() == offered


@pytest.mark.parametrize(
    "arguments", [["snapshot", "--collectors", "os"], ["--help"], ["fleet", "--help"], ["version"]]
)
def test_a_reader_that_goes_away_is_no_error(arguments: list[str]) -> None:
    child = subprocess.Popen([EIDOS, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    error = child.stderr.read()
    child.stderr.close()
    assert child.wait(timeout=60) == 141
    assert error == b""


@pytest.mark.parametrize(("message", "shown"), [("Is it?", "Is it?"), ("It is.", "It is."), ("It is", "It is.")])
def test_an_error_ends_with_one_mark(message: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    main_module._say(message)
    assert capsys.readouterr().err == f"Error: {shown}\n"


def test_interrupt_ends_at_once_with_130(tmp_path: Path) -> None:
    fifo = tmp_path / "a.yaml"
    os.mkfifo(fifo)
    child = subprocess.Popen([EIDOS, "diff", str(fifo), str(tmp_path / "b.yaml")], stderr=subprocess.PIPE)
    with fifo.open("wb"):  # returns once the command has opened it too, and now waits for what never comes
        child.send_signal(signal.SIGINT)
        _, error = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"interrupted" in error


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["completion", "bash"], ["snapshot"]])
def test_a_full_disk_behind_standard_output_is_said(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [EIDOS, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 2
    assert "there is no space left on its file system. Make room or choose another place." in done.stderr
    assert "internal error" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["snapshot", "--collectors", "release"], 2, "Error: standard output cannot be written: it is closed"),
        (["fleet", "nodes", "--server", "https://127.0.0.1:1"], 4, "connection refused"),
        (["fleet", "watch", "--server", "https://127.0.0.1:1"], 2, "it is closed. Redirect it to a file"),
        (["fleet", "demo"], 2, "it is closed. Redirect it to a file"),
        (["--help"], 0, ""),
    ],
)
def test_without_standard_output(arguments: list[str], status: int, said: str) -> None:
    """As from cron, or with `>&-`."""
    command = ["sh", "-c", 'exec "$@" >&-', "sh", EIDOS, *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, "internal error" in done.stderr) == (status, False), done.stderr
    assert said in done.stderr


def test_ctrl_c_while_python_imports_leaves_no_traceback() -> None:
    """The first thing imported stands still until the signal has come."""
    stuck = (
        "import builtins, os, signal, sys, time\n"
        "real = builtins.__import__\n"
        "def slow(name, *rest):\n"
        "    if name == 'cli.main':\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(20)\n"
        "    return real(name, *rest)\n"
        "from cli.entry import main\n"
        "builtins.__import__ = slow\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", stuck], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("no_color", ["", "1"])
def test_errors_are_coloured_on_a_terminal_only_and_not_with_no_color(no_color: str) -> None:
    ours, theirs = os.openpty()
    environment = {**os.environ, "NO_COLOR": no_color, "TERM": "xterm"}
    child = subprocess.Popen([EIDOS, "diff", "/nope", "/nope"], stdin=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    text = b""
    with contextlib.suppress(OSError):  # EIO: all is read, and nobody has the other end any more
        while piece := os.read(ours, 65536):
            text += piece
    os.close(ours)
    child.wait(timeout=60)
    assert b"does not exist" in text
    assert (b"\x1b[" in text) is (no_color == "")
