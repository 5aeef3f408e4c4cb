"""What becomes of a failure to read a cluster: an outcome, in words that stay the same."""

from collections.abc import Mapping
from typing import Final

from common.errors import Code, EidosError
from common.model import Collected, Failed, FailureCode, Outcome

_CODES: Final = {
    Code.CLUSTER_UNREACHABLE: FailureCode.API_UNREACHABLE,
    Code.CLUSTER_FORBIDDEN: FailureCode.API_FORBIDDEN,
    Code.CLUSTER_UNAUTHORIZED: FailureCode.API_FORBIDDEN,
    Code.DEADLINE: FailureCode.TIMEOUT,
    Code.INPUT_UNREADABLE: FailureCode.UNREADABLE,
    Code.INPUT_MALFORMED: FailureCode.MALFORMED,
}
_EVERYWHERE: Final = (FailureCode.API_UNREACHABLE, FailureCode.TIMEOUT)
"""Failures that say nothing about a single subtype."""


def code_of(error: EidosError) -> FailureCode:
    """How a failure to read a cluster is written in a snapshot."""
    return _CODES.get(error.code, FailureCode.API_ERROR)


def failure(error: EidosError) -> Failed:
    """The outcome of a subtype whose reading raised."""
    return Failed(code_of(error), error.message)


def together(outcomes: Mapping[str, Outcome]) -> Collected:
    """One ending for all where the cluster could not be asked at all, instead of a line for each subtype."""
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, Failed)]
    if len(failures) == len(outcomes) and all(one.code in _EVERYWHERE for one in failures):
        return Collected.failed(failures[0].code, failures[0].reason)
    return Collected.of(outcomes)
