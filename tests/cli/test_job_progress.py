"""How Jobs are shown to be getting on, on a terminal and elsewhere."""

import asyncio
import io
import re
import sys
from collections.abc import Callable

import pytest
from rich.console import Console

from agent.job.workflow import Phase, Report
from cli import job_progress
from cli.job_progress import Progress, shown


class Terminal(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.drawn = asyncio.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.drawn.set()
        return super().write(text)


def _terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """For the test itself to call: pytest sets standard error anew between a fixture and its test."""
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setattr(job_progress, "_PATIENCE", 0)
    monkeypatch.setattr(job_progress, "_DRAWN_EVERY", 0.001)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    return made


def _drawn(what: object) -> list[str]:
    console = Console(file=io.StringIO(), width=60)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return [re.sub(r"\d\.\d s", "N s", line.rstrip()) for line in console.file.getvalue().splitlines()]


def _at(phase: Phase, title: str = "prod/gpu-operator") -> Progress:
    progress = Progress(title, debug=False)
    for each in Phase:
        progress.phase(each)
        if each is phase:
            break
    return progress


def test_one_run_shows_all_its_steps() -> None:
    progress = _at(Phase.POD)
    progress.detail("the pod starts on node gpu-1")
    assert _drawn(job_progress._steps(progress)) == [
        "permissions  N s",
        "rbac         N s",
        "job          N s",
        "pod          N s  the pod starts on node gpu-1",
        "collect",
        "retrieve",
        "cleanup",
    ]


def test_several_runs_are_a_line_each() -> None:
    one, two = _at(Phase.POD, "a/x"), _at(Phase.CLEANUP, "b/x")
    one.detail("waits")
    two.end("failed")
    assert _drawn(job_progress._rows([one, two])) == ["a/x  4/7 pod  N s  waits", "b/x  failed   N s"]


@pytest.mark.parametrize("draw", [job_progress._steps, lambda run: job_progress._rows([run])], ids=["one", "many"])
def test_what_a_cluster_says_is_neither_obeyed_nor_wrapped(draw: Callable[[Progress], object]) -> None:
    """It may look like rich's markup, hold escape sequences, or be longer than the terminal is wide."""
    progress = _at(Phase.COLLECT)
    before = len(_drawn(draw(progress)))
    progress.log("[/red] \x1b[2J " + "long " * 40)
    lines = _drawn(draw(progress))
    assert len(lines) == before
    (line,) = (line for line in lines if "collect" in line)
    assert "[/red] \\x1b[2J long" in line
    assert line.endswith("…")


async def test_what_is_said_meanwhile_stands_above(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    progress = _at(Phase.RBAC)
    async with shown([progress]):
        await terminal.drawn.wait()
        progress.note("another run is using [the] Job's name")
    assert "Note: prod/gpu-operator: another run is using [the] Job's name\n" in terminal.getvalue()
    progress.note("later")  # what was drawn is gone
    assert terminal.getvalue().endswith("\x1b[2KNote: prod/gpu-operator: later\n")


async def test_elsewhere_only_notes_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    progress = _at(Phase.POD)
    async with shown([progress]):
        progress.detail("the pod starts on node gpu-1")
        progress.log("a line")
        progress.note("a note")
        progress.done(Report(node="gpu-1"), "snap.yaml")
    assert capsys.readouterr().err == "Note: prod/gpu-operator: a note\n"


def test_debug_says_every_word(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("prod/gpu-operator", debug=True)
    progress.phase(Phase.COLLECT)
    progress.detail("the pod runs on node gpu-1")
    progress.log("gpu: ok")
    progress.done(Report(node="gpu-1", seconds={Phase.COLLECT: 1.5}), "snap.yaml")
    assert capsys.readouterr().err.splitlines() == [
        "prod/gpu-operator: collect",
        "prod/gpu-operator: the pod runs on node gpu-1",
        "prod/gpu-operator: log: gpu: ok",
        "prod/gpu-operator: snapshot of gpu-1 written to snap.yaml (collect 1.50 s)",
    ]
