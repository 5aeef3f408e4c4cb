"""How a collector ended, as lines of `collection:`. Pure."""

from collections.abc import Iterator

from common.model import Absent, Collected, CollectionEntry, Failed, FailureCode, MeasurementType, Ok, State


def collection_lines(collector: str, kind: MeasurementType, collected: Collected) -> Iterator[CollectionEntry]:
    """One line for the collector and what it read, then one for each of its subtypes that was not read."""
    code, reason = _why(collected.ending)
    read = tuple(sorted(name for name, outcome in collected.subtypes.items() if isinstance(outcome, Ok)))
    yield CollectionEntry(collector, kind, collected.state, code=code, reason=reason, subtypes=read)
    for name, outcome in sorted(collected.subtypes.items()):
        if not isinstance(outcome, Ok):
            code, reason = _why(outcome)
            state = State.FAILED if isinstance(outcome, Failed) else State.ABSENT
            yield CollectionEntry(collector, kind, state, name, code, reason)


def _why(ending: Absent | Failed | None) -> tuple[FailureCode | None, str]:
    if isinstance(ending, Failed):
        return ending.code, ending.reason
    return None, ending.reason if ending else ""
