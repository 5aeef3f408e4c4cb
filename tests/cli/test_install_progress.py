"""What an installation shows of its steps."""

import asyncio
import io
import re

import pytest

from cli.install_progress import Progress
from installer.workflow import Phase


async def _steps(progress: Progress) -> None:
    async with progress.shown():
        progress.phase(Phase.AGGREGATOR)
        progress.detail("the pod starts")
        progress.phase(Phase.AGENTS)
        progress.detail("1/3")  # changes with every pod: a line every ten seconds at most
        progress.note("a tenth at a time")
        progress.detail("2/3, the image x cannot be pulled")
        progress.finish()
        progress.finish()


def test_a_line_for_each_step_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(_steps(Progress()))
    said = capsys.readouterr()
    assert said.out == ""
    assert re.sub(r"[0-9.]+ s", "0 s", said.err).splitlines() == [
        "aggregator: the pod starts",
        "aggregator: done (0 s)",
        "Note: a tenth at a time",
        "agents: done (0 s): 2/3, the image x cannot be pulled",
    ]


def test_on_a_terminal_the_steps_stay_with_their_times(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    asyncio.run(_steps(Progress()))
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    last = drawn.replace("\r", "").splitlines()[-2:]
    aggregator, agents = (re.sub(r"[0-9.]+ s *", "0 s", line) for line in last)
    assert aggregator.endswith("✓  aggregator  0 s")  # after what it was drawn over
    assert agents == "✓  agents      0 s"
    assert "Note: a tenth at a time" in drawn
