"""The error tree: every code has its statuses, every name is there, and messages are sentences."""

import http
import inspect
import re

import pytest

from common import errors
from common.errors import (
    ClusterError,
    Code,
    EidosError,
    InputError,
    OutputError,
    RequirementError,
    UsageError,
)


@pytest.mark.parametrize("code", Code)
def test_every_code_has_statuses(code: Code) -> None:
    error = EidosError(code, "it failed")
    assert error.exit_status in {2, 3, 4, 5, 130}
    assert 400 <= error.http_status < 600
    assert error.http_status == 499 or error.http_status in set(http.HTTPStatus)


def test_no_status_is_left_without_a_code() -> None:
    assert list(errors._STATUS) == list(Code)


def test_codes_are_what_programs_match() -> None:
    assert all(code.value == code.name.lower() for code in Code)


@pytest.mark.parametrize(
    ("code", "exit_status", "http_status"),
    [
        (Code.USAGE, 2, 400),
        (Code.INPUT_TOO_LARGE, 2, 413),
        (Code.OUTPUT_UNWRITABLE, 2, 507),
        (Code.GPU_REQUIRED, 3, 424),
        (Code.CLUSTER_UNREACHABLE, 4, 502),
        (Code.CLUSTER_FORBIDDEN, 4, 403),
        (Code.DEADLINE, 5, 504),
        (Code.INTERRUPTED, 130, 499),
    ],
)
def test_documented_statuses(code: Code, exit_status: int, http_status: int) -> None:
    error = EidosError(code, "it failed")
    assert (error.exit_status, error.http_status) == (exit_status, http_status)


def test_the_tree_is_as_drawn_at_the_top() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"^ +(?:[├└]── )?([A-Za-z]+Error)\b", errors.__doc__, re.MULTILINE)
    found = dict(inspect.getmembers(errors, lambda member: inspect.isclass(member) and issubclass(member, Exception)))
    assert sorted(drawn) == sorted(found)
    assert drawn[0] == "EidosError"
    assert all(found[name].__bases__ == (EidosError,) for name in drawn[1:])


def test_message_and_hint_make_sentences() -> None:
    assert str(EidosError(Code.USAGE, "it failed")) == "it failed"
    assert str(EidosError(Code.USAGE, "it failed", "Do that.")) == "it failed. Do that."


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("m", "h"), Code.USAGE),
        (OutputError("m", "h"), Code.OUTPUT_UNWRITABLE),
        (InputError(Code.INPUT_MALFORMED, "m", "h"), Code.INPUT_MALFORMED),
        (RequirementError(Code.GPU_REQUIRED, "m", "h"), Code.GPU_REQUIRED),
        (ClusterError(Code.CLUSTER_FAILED, "m", "h"), Code.CLUSTER_FAILED),
    ],
)
def test_every_error_carries_code_message_and_hint(error: EidosError, code: Code) -> None:
    assert (error.code, error.message, error.hint) == (code, "m", "h")
    assert isinstance(error, EidosError)
    assert error.args == ("m",)
