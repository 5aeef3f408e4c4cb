"""The one list of collectors. Adding one is one file and one line here."""

from agent.collectors.base import Collector
from agent.collectors.release import ReleaseCollector


def collectors() -> list[Collector]:
    """All collectors, in the order of `collection:` and of `--collectors` help."""
    return [
        ReleaseCollector(),
    ]
