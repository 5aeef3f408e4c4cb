"""What the aggregator can be told. Values are seconds and bytes unless said otherwise."""

from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UsageError


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Limits and times of agents' links."""

    ping_every: float = 30.0
    silent_after: float = 75.0
    """A link on which nothing was heard for so long is closed: the peer is frozen, or packets are lost."""
    hello_within: float = 10.0
    """From the TLS connection to the agent's Hello."""
    challenge: float = 2.0
    """How long an agent has to prove itself alive when a second one claims its node."""
    most_frames: int = 500
    most_bytes: int = 32 << 20
    """Frames and bytes one agent may send per `ping_every`."""
    most_unread: int = 1 << 20
    """Bytes that may wait for an agent that does not read."""
    most_unfinished: int = 256 << 20
    """Bytes of unfinished messages on all links together."""
    most_nodes: int = 20_000
    """Nodes remembered, and links, beyond which no new ones are let in."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Limits of runs."""

    seconds: float = 10.0
    """Deadline unless the request says otherwise."""
    longest: float = 120.0
    at_once: int = 4
    queued: int = 16
    kept: int = 16
    """Finished runs whose end can still be asked for."""
    documents: int = 2
    """The last of them, whose documents can: of thousands of all-different nodes one is a hundred megabytes."""
    warming: float = 10.0
    """After a start, how long runs wait for agents that have not come back yet."""

    def check_deadline(self, seconds: float) -> None:
        """Raise UsageError for a deadline that no run may have."""
        if not 0 < seconds <= self.longest:
            raise UsageError(f"the deadline must be more than 0 and at most {self.longest:g} s")


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Limits of the HTTP API."""

    most_connections: int = 512
    headers_within: float = 10.0
    body_within: float = 10.0
    most_body: int = 64 << 10
    most_waiting: int = 256
    """Requests that may wait for runs at the same time."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything."""

    directory: Path
    """Where content beyond memory goes, and in a local fleet keys, tokens and what is published."""
    link_address: str = "0.0.0.0"  # noqa: S104  # agents come from every node
    link_port: int = 8443
    api_address: str = "127.0.0.1"
    api_port: int = 8444
    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    """What agents and users call the server: the names in its certificate."""
    memory: int = 64 << 20
    """Bytes of compressed content kept in memory."""
    disk: int = 4 << 30
    link: LinkSettings = field(default_factory=LinkSettings)
    run: RunSettings = field(default_factory=RunSettings)
    api: ApiSettings = field(default_factory=ApiSettings)
