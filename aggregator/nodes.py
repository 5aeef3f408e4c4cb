"""What the aggregator remembers of each node: its link, what it last said, and its last complete facts."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aggregator.fold import NodeFacts
from common.canonical import Domain
from common.model import MeasurementType
from common.wire import Closed, SectionDigests

if TYPE_CHECKING:
    from aggregator.link import Link


class Known:
    """The facts of a node as they were when all their content was here."""

    __slots__ = ("at", "facts", "identities", "version")

    def __init__(self, facts: NodeFacts, identities: tuple[bytes, ...], version: str, at: float) -> None:
        self.facts = facts
        self.identities = identities
        """Digests of what is the node's own, one for each section that has such."""
        self.version = version
        self.at = at
        """When they were collected: POSIX seconds of the aggregator's clock."""


class Node:
    """One node. Outlives its links."""

    __slots__ = ("closed", "failures", "known", "link", "name", "outcome", "pending", "sections", "token_issued_at")

    def __init__(self, name: str) -> None:
        self.name = name
        self.link: Link | None = None
        self.closed: Closed | None = None
        """Why its last link ended; None when it never had one."""
        self.token_issued_at = 0.0
        """Of the newest token seen: older ones open nothing any more."""
        self.sections: dict[MeasurementType, SectionDigests] = {}
        """What its link last said; content may still be on its way."""
        self.outcome: bytes | None = None
        self.known: Known | None = None
        self.failures = ""
        self.pending: Pending | None = None

    def digests(self) -> Iterator[tuple[Domain, bytes]]:
        """Everything that what it said refers to."""
        for section in self.sections.values():
            yield Domain.SECTION, section.stable
            if section.identity is not None:
                yield Domain.IDENTITY, section.identity
        if self.outcome is not None:
            yield Domain.OUTCOME, self.outcome


class Pending:
    """What a node reported and whose content is on its way."""

    __slots__ = ("at", "runs", "version")

    def __init__(self, at: float, version: str) -> None:
        self.at = at
        self.version = version
        self.runs: dict[str, None] = {}
        """Runs that wait for it."""
