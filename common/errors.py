"""Every error a caller of Eidos can meet.

    EidosError
    ├── UsageError       the request itself makes no sense (flag, reference, pattern)
    ├── InputError       a document given to us cannot be used
    ├── OutputError      a result could not be written
    ├── RequirementError what the caller required of the node is not so (--require-gpu)
    ├── ClusterError     Kubernetes refused, failed or could not be reached
    └── FleetError       the aggregator refused, failed or could not be reached

The code, never the text, says what happened. It fixes the exit status of the command and the HTTP status
of the API (RFC 9457 `status`). The message is one sentence: what failed and why; the hint says what to do.
"""

from enum import StrEnum
from typing import Final


class Code(StrEnum):
    """What went wrong, for programs. Values are stable: they appear in JSON and in problem+json `type`."""

    USAGE = "usage"
    INPUT_UNREADABLE = "input_unreadable"
    INPUT_TOO_LARGE = "input_too_large"
    INPUT_MALFORMED = "input_malformed"
    INPUT_WRONG_KIND = "input_wrong_kind"
    OUTPUT_UNWRITABLE = "output_unwritable"
    GPU_REQUIRED = "gpu_required"
    CLUSTER_UNREACHABLE = "cluster_unreachable"
    CLUSTER_UNAUTHORIZED = "cluster_unauthorized"
    CLUSTER_FORBIDDEN = "cluster_forbidden"
    CLUSTER_NOT_FOUND = "cluster_not_found"
    CLUSTER_CONFLICT = "cluster_conflict"
    CLUSTER_INVALID = "cluster_invalid"
    CLUSTER_THROTTLED = "cluster_throttled"
    CLUSTER_FAILED = "cluster_failed"
    FLEET_UNREACHABLE = "fleet_unreachable"
    FLEET_UNAUTHORIZED = "fleet_unauthorized"
    FLEET_FORBIDDEN = "fleet_forbidden"
    FLEET_NOT_FOUND = "fleet_not_found"
    FLEET_BUSY = "fleet_busy"
    FLEET_FAILED = "fleet_failed"
    DEADLINE = "deadline"
    INTERRUPTED = "interrupted"


_STATUS: Final[dict[Code, tuple[int, int]]] = {
    # code: (exit status, HTTP status)
    Code.USAGE: (2, 400),
    Code.INPUT_UNREADABLE: (2, 400),
    Code.INPUT_TOO_LARGE: (2, 413),
    Code.INPUT_MALFORMED: (2, 400),
    Code.INPUT_WRONG_KIND: (2, 422),
    Code.OUTPUT_UNWRITABLE: (2, 507),
    Code.GPU_REQUIRED: (3, 424),
    Code.CLUSTER_UNREACHABLE: (4, 502),
    Code.CLUSTER_UNAUTHORIZED: (4, 401),
    Code.CLUSTER_FORBIDDEN: (4, 403),
    Code.CLUSTER_NOT_FOUND: (4, 404),
    Code.CLUSTER_CONFLICT: (4, 409),
    Code.CLUSTER_INVALID: (4, 422),
    Code.CLUSTER_THROTTLED: (4, 503),
    Code.CLUSTER_FAILED: (4, 502),
    Code.FLEET_UNREACHABLE: (4, 502),
    Code.FLEET_UNAUTHORIZED: (4, 401),
    Code.FLEET_FORBIDDEN: (4, 403),
    Code.FLEET_NOT_FOUND: (4, 404),
    Code.FLEET_BUSY: (4, 429),
    Code.FLEET_FAILED: (4, 500),
    Code.DEADLINE: (5, 504),
    Code.INTERRUPTED: (130, 499),
}


class EidosError(Exception):
    """Base of all errors Eidos raises on purpose; anything else that escapes is a defect."""

    def __init__(self, code: Code, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    @property
    def exit_status(self) -> int:
        return _STATUS[self.code][0]

    @property
    def http_status(self) -> int:
        return _STATUS[self.code][1]

    def __str__(self) -> str:
        stop = "" if self.message.endswith("\n") else ". "  # what ends in lines of a log is no sentence
        return f"{self.message}{stop}{self.hint}" if self.hint else self.message


class UsageError(EidosError):
    """The request makes no sense as written."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(Code.USAGE, message, hint)


class InputError(EidosError):
    """A document given to us cannot be read, parsed, or is not what was asked for."""


class OutputError(EidosError):
    """A result could not be written where it was asked for. Nothing half-written is left behind."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(Code.OUTPUT_UNWRITABLE, message, hint)


class RequirementError(EidosError):
    """The node was read, but is not what the caller required."""


class ClusterError(EidosError):
    """Kubernetes refused, failed or could not be reached."""


class FleetError(EidosError):
    """The aggregator refused, failed or could not be reached."""
