"""Plain counters of one process, read by /metrics. Never one per node: reasons and states are the only labels."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Totals since the start."""

    closed: Counter[str] = field(default_factory=Counter)
    """Links closed, by reason."""
    refused: Counter[str] = field(default_factory=Counter)
    """Links refused before they were one, by reason."""
    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    contents: int = 0
    """Pieces of content received and verified."""
    contents_refused: int = 0
    """Pieces for which there was no room."""
    late_reports: int = 0
    """Reports that came after their run had ended."""
    runs: Counter[str] = field(default_factory=Counter)
    """Runs by how they ended: done, joined, refused, failed."""
    http_dropped: Counter[str] = field(default_factory=Counter)
    """HTTP connections dropped, by reason."""
    http_answers: Counter[str] = field(default_factory=Counter)
    """HTTP requests answered, by status; what was no request among them."""

    @property
    def turnover(self) -> int:
        """How much has come to an end so far: links, connections, requests, runs."""
        ended = self.closed, self.refused, self.runs, self.http_dropped, self.http_answers
        return sum(counter.total() for counter in ended)
