"""`eidos fleet` on a terminal: progress, colour, interrupts; with one agent that does not answer."""

import codecs
import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence

import pytest

from tests.cli.conftest import EIDOS, Demo

SGR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A command on a terminal of its own, 100 columns wide: what it shows on it, standard output perhaps apart."""

    def __init__(self, arguments: Sequence[str], stdout: int | None = None, **environment: str) -> None:
        self._ours, theirs = os.openpty()
        self.shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # a piece may end in the middle of a character
        self.process = subprocess.Popen(
            [EIDOS, "fleet", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environment},
            start_new_session=True,
        )
        os.close(theirs)

    def read(self, until: str = "") -> str:
        """All that is shown up to a text, or to the end."""
        while not until or until not in self.shown:
            assert select.select([self._ours], [], [], 60)[0], self.shown
            try:
                piece = os.read(self._ours, 65536)
            except OSError:  # EIO: nobody has the other end any more
                assert not until, self.shown
                break
            self.shown += self._decoder.decode(piece)
        return self.shown

    def status(self) -> int:
        """How it ended."""
        self.read()
        return self.process.wait(60)

    def close(self) -> None:
        """End it, should it still run."""
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def frozen(fleet: Demo) -> Iterator[str]:
    """A node whose agent does not answer."""
    node = "h100-8x-ib-2"
    process = fleet.child(f"{node}=")
    os.kill(process, signal.SIGSTOP)
    yield node
    os.kill(process, signal.SIGCONT)


def test_progress_on_the_terminal_and_the_document_in_the_pipe(frozen: str) -> None:
    reading, writing = os.pipe()
    terminal = Terminal(["snapshot", "--deadline", "8s", "--format", "json"], stdout=writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        document = pipe.read()
    assert terminal.status() == 0
    assert "6/7 nodes answered" in SGR.sub("", terminal.shown)
    assert f"slowest: {frozen}" in SGR.sub("", terminal.shown)
    assert f"Warning: {frozen} (1): timeout: no answer within 8 s" in terminal.shown
    assert "\x1b" not in document
    assert document.startswith("{")
    terminal.close()


def test_interrupted_in_the_middle_of_a_run(frozen: str) -> None:
    terminal = Terminal(["snapshot", "--deadline", "100s"])
    terminal.read("slowest")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.status() == 130
    assert "interrupted" in terminal.shown
    assert "Traceback" not in terminal.shown
    terminal.close()


def test_a_table_in_colour(fleet: Demo) -> None:
    terminal = Terminal(["snapshot"])
    assert terminal.status() == 0
    assert "Fleet snapshot of 7 nodes" in terminal.shown
    assert re.search(r"\x1b\[32m(\x1b\[22m)?ok\x1b\[0m", terminal.shown)
    assert "OUTLIERS" in terminal.shown
    terminal.close()


def test_no_colour_where_it_is_not_wanted(fleet: Demo) -> None:
    terminal = Terminal(["snapshot"], NO_COLOR="1")
    assert terminal.status() == 0
    assert "Fleet snapshot of 7 nodes" in terminal.shown
    coloured = [code for code in SGR.findall(terminal.shown) if any(30 <= int(n or 0) < 108 for n in _numbers(code))]
    assert coloured == []
    terminal.close()


def _numbers(code: str) -> list[str]:
    return code.removeprefix("\x1b[").removesuffix("m").split(";")


@pytest.mark.parametrize("command", ["status", "nodes", "groups", "outliers"])
def test_nothing_but_text_in_a_pipe(fleet: Demo, command: str) -> None:
    done = subprocess.run([EIDOS, "fleet", command], capture_output=True, timeout=60, check=True)
    assert done.stderr == b""
    assert b"\x1b" not in done.stdout
    assert b"\r" not in done.stdout
