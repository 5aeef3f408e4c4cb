"""What agent and aggregator say to each other: MessagePack frames over one WebSocket, dialled by the agent.

    agent to aggregator    Hello, Report, Blobs, Renew, Pong
    aggregator to agent    Collect, Want, Ping

A frame is one message: an array whose first element names its type, so that fields can be added at the end without
a new protocol version. Every field has a limit and every frame one over all; a peer that goes beyond is cut off for
a reason from `Closed`, which both sides count and log. Nothing here does I/O.

Content (see common/section.py) is named by digest. A Hello or Report carries digests only; the aggregator asks one
holder for each digest that it has never seen (Want) and gets the content once (Blobs).
"""

import re
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from common.canonical import DIGEST_SIZE
from common.model import MeasurementType

PROTOCOL: Final = 1
"""Raised when a peer that speaks the old version could misread the new one; adding fields does not raise it."""

OLDEST_PROTOCOL: Final = 1
"""The aggregator still understands agents back to this one, so agents may be upgraded after it."""

LINK_PATH: Final = "/v1/link"
AUDIENCE: Final = "eidos-aggregator"

MAX_CONTENT: Final = 1 << 20
"""Most bytes of one piece of content, uncompressed."""

MAX_FRAME: Final = MAX_CONTENT + (1 << 16)
"""Most bytes of one frame: the largest content, incompressible, still fits."""

MAX_DIGESTS: Final = 256
"""Most digests in one Want and blobs in one Blobs."""

Digest: TypeAlias = Annotated[bytes, Meta(min_length=DIGEST_SIZE, max_length=DIGEST_SIZE)]
RunId: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,40}\Z")]
Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=86_400)]
Sections: TypeAlias = Annotated[list[MeasurementType], Meta(max_length=len(MeasurementType))]


class Closed(StrEnum):
    """Why a link was closed or refused. Values label metrics and appear in the ledger; they are stable."""

    GOING_AWAY = "going-away"
    LOST = "lost"
    SILENT = "silent"
    SLOW_READER = "slow-reader"
    BAD_FRAME = "bad-frame"
    TOO_LARGE = "too-large"
    TOO_MANY_FRAMES = "too-many-frames"
    OUT_OF_TURN = "out-of-turn"
    WRONG_CONTENT = "wrong-content"
    PROTOCOL = "protocol"
    UNAUTHORIZED = "unauthorized"
    EXPIRED = "expired"
    OTHER_NODE = "other-node"
    DUPLICATE = "duplicate"
    REPLACED = "replaced"
    FULL = "full"


CLOSE_CODES: Final = {reason: 4000 + number for number, reason in enumerate(Closed)}
"""WebSocket close codes, from the range RFC 6455 leaves to applications. Peers of other versions know them by their
place: new reasons go to the end."""


class FrameError(ValueError):
    """A frame that breaks the protocol; `reason` is what the link is closed for."""

    def __init__(self, reason: Closed, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class SectionDigests(msgspec.Struct, array_like=True, frozen=True):
    """What one section of a node holds now."""

    kind: MeasurementType
    stable: Digest
    identity: Digest | None = None
    """None when the section has nothing that is the node's own."""


NodeSections: TypeAlias = Annotated[list[SectionDigests], Meta(max_length=len(MeasurementType))]


class Hello(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """First frame of an agent. With digests it restores at once what is unchanged since an earlier link."""

    protocol: Annotated[int, Meta(ge=0, le=1_000_000)]
    schema: Annotated[int, Meta(ge=1, le=999)]
    """common.version.SCHEMA of the agent: which domain its digests are in."""
    version: Annotated[str, Meta(max_length=64)]
    sections: NodeSections = []
    outcome: Digest | None = None
    age: Seconds = 0.0
    """Seconds since what the digests stand for was collected. Not a time: clocks differ and step."""


class _AnyHello(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """What a Hello begins with in every version of the protocol, so that each can name a version it cannot read."""

    protocol: int


class Report(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Answer to a Collect. Sections that are as this link last said are left out: a warm report is a few bytes."""

    run: RunId
    sections: NodeSections = []
    outcome: Digest | None = None
    """Digest of how the collectors ended; None when it is as last said."""
    seconds: Seconds = 0.0
    """How long collecting took."""
    stale: bool = False
    """The collection did not end in time; what this link last said is all there is."""


class Blob(msgspec.Struct, array_like=True, frozen=True):
    """Content under its digest, compressed with zstd into one frame that states its content size."""

    digest: Digest
    compressed: Annotated[bytes, Meta(max_length=MAX_FRAME)]


class Blobs(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Answer to a Want, in as many frames as it takes; digests no longer held are named as missing."""

    blobs: Annotated[list[Blob], Meta(max_length=MAX_DIGESTS)]
    missing: Annotated[list[Digest], Meta(max_length=MAX_DIGESTS)] = []


class Renew(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """A fresh token for the same node and pod, before the one the link was opened with expires."""

    token: Annotated[str, Meta(max_length=16_384)]


class Pong(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """Answer to a Ping."""

    number: Annotated[int, Meta(ge=0)]


class Collect(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Collect now and report. An empty list of sections means all of them."""

    run: RunId
    sections: Sections
    seconds: Annotated[float, Meta(gt=0, le=3600)]
    """How long the agent has; it reports what it has by then."""


class Want(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Send the content of these digests."""

    digests: Annotated[list[Digest], Meta(min_length=1, max_length=MAX_DIGESTS)]


class Ping(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Say that you are there. Also tells the agent that the aggregator is."""

    number: Annotated[int, Meta(ge=0)]


FromAgent: TypeAlias = Hello | Report | Blobs | Renew | Pong
FromAggregator: TypeAlias = Collect | Want | Ping

_encoder: Final = msgspec.msgpack.Encoder()
_from_agent: Final = msgspec.msgpack.Decoder(FromAgent)
_any_hello: Final = msgspec.msgpack.Decoder(_AnyHello)
_from_aggregator: Final = msgspec.msgpack.Decoder(FromAggregator)

_NODE_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


def encode(message: FromAgent | FromAggregator) -> bytes:
    """The frame of a message."""
    return _encoder.encode(message)


def from_agent(frame: bytes) -> FromAgent:
    """What an agent said. Raises FrameError."""
    if len(frame) > MAX_FRAME:
        raise FrameError(Closed.TOO_LARGE, f"a frame of {len(frame)} bytes")
    try:
        message: FromAgent = _from_agent.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _refuse_other_protocol(frame)
        raise FrameError(Closed.BAD_FRAME, str(error)) from error
    return message


def check_protocol(protocol: int) -> None:
    """Raises FrameError unless an aggregator understands agents of this version of the protocol."""
    if not OLDEST_PROTOCOL <= protocol <= PROTOCOL:
        ours = f"{OLDEST_PROTOCOL} to {PROTOCOL}" if OLDEST_PROTOCOL < PROTOCOL else f"{PROTOCOL}"
        raise FrameError(
            Closed.PROTOCOL, f"it speaks version {protocol} of the protocol, and this aggregator understands {ours}"
        )


def _refuse_other_protocol(frame: bytes) -> None:
    """Whether it is because of its version that a frame cannot be read. Raises FrameError if so."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        check_protocol(_any_hello.decode(frame).protocol)


def from_aggregator(frame: bytes) -> FromAggregator:
    """What the aggregator said. Raises FrameError."""
    if len(frame) > MAX_FRAME:
        raise FrameError(Closed.TOO_LARGE, f"a frame of {len(frame)} bytes")
    try:
        message: FromAggregator = _from_aggregator.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FrameError(Closed.BAD_FRAME, str(error)) from error
    return message


def is_node_name(text: str) -> bool:
    """Whether a text can name a node: a DNS subdomain, with the upper case and `_` of hosts outside Kubernetes."""
    return _NODE_NAME.fullmatch(text) is not None
