"""Plain-text rendering of snapshots and diffs, with colour where the reader is a terminal."""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Final

import click

from cli.terminal import is_terminal
from common.model import CollectionEntry, Scalar, Snapshot, State

_WIDEST_KEY: Final = 48
WIDEST_REASON: Final = 100
"""Fits why a node did not answer, with the time of the facts there are; what collectors failed of can be longer."""

_COLOUR: Final = {State.OK: "green", State.PARTIAL: "yellow", State.ABSENT: "bright_black", State.FAILED: "red"}


def colour_wanted(stream: object = None) -> bool:
    """Whether to colour: a terminal, and NO_COLOR (https://no-color.org) not set."""
    stream = sys.stdout if stream is None else stream
    return not os.environ.get("NO_COLOR") and is_terminal(stream)


def style(text: str, enabled: bool, fg: str | None = None, bold: bool = False) -> str:
    """The text, coloured when enabled."""
    return click.style(text, fg=fg, bold=bold) if enabled else text


def visible(value: Scalar) -> str:
    """A value on one line; control characters are shown, never sent to the terminal. Booleans as in YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def snapshot_text(document: Snapshot, colour: bool = False) -> Iterator[str]:
    """A snapshot as lines: who and when, how each collector ended, then a block of facts per subtype."""
    meta = document.metadata
    yield style(f"Snapshot of {visible(meta.source_node)}", colour, bold=True) + f"  {visible(meta.timestamp)}"
    if document.collection:
        yield ""
        yield from aligned((_ending(entry, colour) for entry in document.collection), header=None)
    for measurement in document.measurements:
        for subtype in measurement.subtypes:
            yield ""
            yield style(f"{measurement.type.value}.{visible(subtype.subtype)}", colour, fg="cyan", bold=True)
            rows = ((f"  {visible(key)}", visible(value)) for key, value in subtype.data.items())
            yield from aligned(rows, header=None)


def failure_lines(document: Snapshot) -> list[str]:
    """What could not be read, a sentence each; what is absent is no failure."""
    return [
        f"{f'{e.type.value}.{e.subtype}' if e.subtype else f'collector {e.collector}'} failed ({e.code}): {e.reason}"
        for e in document.collection
        if e.state is State.FAILED and e.reason
    ]


def _ending(entry: CollectionEntry, colour: bool) -> tuple[str, ...]:
    name = f"{entry.type.value}.{visible(entry.subtype)}" if entry.subtype else entry.collector
    reason = f"{entry.code.value}: {entry.reason}" if entry.code else entry.reason
    return (
        f"  {'  ' if entry.subtype else ''}{name}",
        style(entry.state.value, colour, fg=_COLOUR[entry.state]),
        visible(reason),
    )


def changed_row(name: str, old: Scalar | None, new: Scalar | None, colour: bool) -> tuple[str, str]:
    """One difference for `aligned`: its sign and name, and its values. None: not there."""
    was, now = (None if value is None else visible(value) or '""' for value in (old, new))
    sign, fg = ("+", "green") if was is None else ("-", "red") if now is None else ("~", "yellow")
    values = " → ".join(value for value in (was, now) if value is not None)
    return f"  {style(sign, colour, fg=fg)} {visible(name)}", values


def aligned(
    rows: Iterable[tuple[str, ...]], header: tuple[str, ...] | None, widest: int = _WIDEST_KEY
) -> Iterator[str]:
    """Rows as columns two spaces apart.

    A cell longer than `widest` pushes only its own row out of line, and one that nothing follows needs no room:
    neither makes its column wider.
    """
    table = [header, *rows] if header else list(rows)
    if not table:
        return
    lengths = [[len(click.unstyle(cell)) for cell in row] for row in table]
    widths = [
        max((row[column] for row in lengths if row[column] <= widest and any(row[column + 1 :])), default=0)
        for column in range(len(table[0]) - 1)
    ]
    for row, taken in zip(table, lengths, strict=True):
        cells = [cell + " " * (width - used) for cell, width, used in zip(row, widths, taken, strict=False)]
        yield "  ".join([*cells, row[-1]]).rstrip()
