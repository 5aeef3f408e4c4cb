"""Logs of services: one JSON object a line, whatever is logged."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from common.logs import log_as_json


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    log_as_json("info", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def read(lines: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_fields_stand_beside_the_message(lines: io.StringIO) -> None:
    logging.getLogger("agent.link").warning("link down after %d s", 3, extra={"again_in": 1.5, "path": io})
    (line,) = read(lines)
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line.pop("path").startswith("<module")
    assert line == {"level": "warning", "logger": "agent.link", "message": "link down after 3 s", "again_in": 1.5}


def test_a_line_is_a_line(lines: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("a").exception("failed\nbadly \x1b[2J")
    (line,) = read(lines)
    assert line["message"] == "failed\nbadly \x1b[2J"
    assert "ValueError: two" in line["exception"]
    assert "\x1b" not in lines.getvalue()


def test_what_is_below_the_level_is_not_logged(lines: io.StringIO) -> None:
    logging.getLogger("a").debug("nobody asked")
    assert lines.getvalue() == ""
