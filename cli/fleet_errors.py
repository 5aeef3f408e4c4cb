"""What an aggregator's refusals and broken connections mean: every one of them an EidosError, mapped in one place."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from cli.text import visible
from common.errors import Code, EidosError, FleetError, UsageError
from common.fleet_api import PROBLEM_TYPE, Problem

_LONGEST_TEXT: Final = 400
"""Of what an aggregator says, in a message of ours."""

_NO_SUCH_ADDRESS: Final = f"{PROBLEM_TYPE}not_found"
"""Not that a node or a fact is not there, which is fleet_not_found."""

_CODE_OF_STATUS: Final[Mapping[int, Code]] = {
    400: Code.USAGE,
    401: Code.FLEET_UNAUTHORIZED,
    403: Code.FLEET_UNAUTHORIZED,
    404: Code.FLEET_NOT_FOUND,
    408: Code.DEADLINE,
    413: Code.INPUT_TOO_LARGE,
    429: Code.FLEET_BUSY,
    503: Code.FLEET_BUSY,
    504: Code.DEADLINE,
}
_VERSIONS: Final = "Aggregator and eidos may be of versions that do not go together."
_BY_OTHERS: Final = frozenset((401, 403, 408, 429, 503, 504))
"""What a proxy on the way may say, too."""


def refusal(
    who: str,
    address: str,
    has_token: bool,
    status: int,
    content_type: str,
    problem: Problem | None,
    retry_after: str,
) -> EidosError:
    """What an answer that is not the one asked for means.

    `who` is the aggregator, in words; `address` is empty where a cluster leads to it, and no --server.
    """
    if problem is None and status not in _BY_OTHERS:
        return FleetError(
            Code.FLEET_FAILED,
            f"{address or who} answers with HTTP status {status} and {told(content_type)}, "
            "as the API of an aggregator does not",
            "Check --server: agents dial another port than users." if address else _VERSIONS,
        )
    if problem is not None and problem.type == _NO_SUCH_ADDRESS:
        return FleetError(
            Code.FLEET_NOT_FOUND,
            f"{who} does not know what is asked",
            "Check --server: its address has no path." if urlsplit(address).path else _VERSIONS,
        )
    code = _code(problem, status)
    detail = told(
        (problem.detail or problem.title) if problem else f"{address or who} answers with HTTP status {status}"
    )
    hint = told(problem.hint) if problem else "Try again; the aggregator, or a proxy before it, may be starting anew."
    if code is Code.FLEET_UNAUTHORIZED:
        given = "The token given is not accepted." if has_token else "Give one with --token-file."
        return FleetError(code, f"{who} wants a user's token", given)
    if code is Code.FLEET_BUSY and retry_after.isdigit() and len(retry_after) < 6:
        hint = f"Try again in {retry_after} s."
    if code is Code.FLEET_NOT_FOUND:
        hint = hint or "eidos fleet nodes lists what there is."
    if code is Code.INPUT_TOO_LARGE:
        detail, hint = (
            "what is asked is more than the aggregator takes",
            "Name fewer nodes, or fold them: gpu-[001-512].",
        )
    if code is Code.FLEET_FAILED:
        detail = f"{who} failed: {detail}"
    return FleetError(code, detail.rstrip("."), hint)


def broke_off(error: EidosError) -> bool:
    """Whether the connection was lost in the middle: whoever is asked may have just been replaced."""
    import aiohttp

    # What comes through a cluster hides its cause, which has the request's headers.
    cause = error.__cause__ or error.__context__
    return isinstance(cause, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError)


@contextmanager
def translated(url: str) -> Iterator[None]:
    """What goes wrong below HTTP, as errors of ours."""
    import aiohttp
    from aiohttp.http import HttpProcessingError

    try:
        yield
    except TimeoutError as error:  # aiohttp's own timeouts are among them
        raise FleetError(
            Code.DEADLINE, f"the aggregator at {url} does not answer in time", "Is it running, and reachable?"
        ) from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise FleetError(
            Code.FLEET_UNREACHABLE,
            f"the certificate of {url} is not to be trusted: {_inside(_certificate_fault(error))}",
            "Give the CA of the aggregator with --ca, and the name its certificate is for in --server.",
        ) from error
    except aiohttp.ClientSSLError as error:
        raise FleetError(Code.FLEET_UNREACHABLE, f"{url} does not speak TLS: {_tls_fault(error)}") from error
    except aiohttp.ClientConnectorError as error:
        raise FleetError(
            Code.FLEET_UNREACHABLE,
            f"the aggregator at {url} cannot be reached: {_why(error)}",
            "Check --server, and that it runs.",
        ) from error
    except aiohttp.InvalidURL as error:
        raise UsageError(f"{url!r} is no address", "Write it as https://host:port.") from error
    except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
        raise FleetError(
            Code.FLEET_FAILED,
            f"the connection to {url} broke: {_broken(error)}",
            "The aggregator may be starting anew; try again.",
        ) from error


def _broken(error: Exception) -> str:
    import aiohttp
    from aiohttp.http import HttpProcessingError

    if isinstance(error, aiohttp.ClientPayloadError):
        return "its answer ends in the middle"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it was closed before an answer"
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
        return "its answer is no HTTP"
    if isinstance(error, OSError) and error.errno:
        return _why(error)
    return _inside(str(error)) or type(error).__name__


def _code(problem: Problem | None, status: int) -> Code:
    name = problem.type.removeprefix(PROBLEM_TYPE) if problem else ""
    if name in set(Code):
        return Code(name)
    return _CODE_OF_STATUS.get(status, Code.FLEET_FAILED)


def _certificate_fault(error: Any) -> str:
    cause = error.certificate_error
    return getattr(cause, "verify_message", "") or str(cause)


def _tls_fault(error: Any) -> str:
    """OpenSSL's reason, which is a name: WRONG_VERSION_NUMBER."""
    reason = getattr(error.os_error, "reason", None) or "the handshake failed"
    return told(reason).replace("_", " ").lower()


def _why(error: OSError) -> str:
    """The system's words where it has any: asyncio's name the address a second time."""
    if error.errno is not None and error.errno > 0:  # name look-ups have negative ones, and words of their own
        return _inside(os.strerror(error.errno))
    return _inside(error.strerror or "the connection failed")


def _inside(text: str) -> str:
    """What others write as a sentence, as a part of one."""
    shown = told(text).rstrip(".")
    return shown if shown[:2].isupper() else shown[:1].lower() + shown[1:]


def told(text: str) -> str:
    """Text of an aggregator, fit for a terminal."""
    shown = visible(" ".join(text.split()))
    return shown if len(shown) <= _LONGEST_TEXT else shown[:_LONGEST_TEXT] + " …"
