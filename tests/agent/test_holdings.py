"""What the agent holds between collections."""

from collections.abc import Sequence

import zstandard

from agent.holdings import Holdings
from common.canonical import Domain, content_digest
from common.model import CollectionEntry, MeasurementType, Metadata, Snapshot, State, Subtype, in_order
from common.section import read_manifest, read_outcome
from common.wire import MAX_CONTENT, MAX_FRAME, encode

ORDER = ["release", "sysctl", "gpu", "systemd"]
OS, GPU = MeasurementType.OS, MeasurementType.GPU


def snapshot_of(
    subtypes: Sequence[tuple[MeasurementType, Subtype]], entries: Sequence[CollectionEntry] = ()
) -> Snapshot:
    return Snapshot(
        metadata=Metadata("1", "n1", "2026-01-01T00:00:00Z"),
        collection=list(entries),
        measurements=in_order(subtypes),
    )


def content(holdings: Holdings, digest: bytes) -> bytes:
    (blobs,) = holdings.answer([digest])
    (blob,) = blobs.blobs
    return zstandard.decompress(blob.compressed)


def test_a_collection_of_one_type_leaves_the_others_as_they_were() -> None:
    holdings = Holdings(ORDER)
    ok = [CollectionEntry("gpu", GPU, State.OK), CollectionEntry("release", OS, State.OK)]
    holdings.take(snapshot_of([(OS, Subtype("release", {"a": 1})), (GPU, Subtype("smi", {"b": 1}))], ok), {OS, GPU})
    before = dict(holdings.sections)
    failed = CollectionEntry("gpu", GPU, State.FAILED, reason="gone")
    holdings.take(snapshot_of([], [failed]), {GPU})
    assert holdings.sections[OS] == before[OS]
    assert holdings.sections[GPU] != before[GPU]
    assert read_manifest(content(holdings, holdings.sections[GPU].stable)).subtypes == {}
    assert holdings.outcome is not None
    outcome = read_outcome(content(holdings, holdings.outcome))
    assert [(entry.collector, entry.state) for entry in outcome] == [("release", State.OK), ("gpu", State.FAILED)]


def test_everything_named_is_held_and_nothing_else() -> None:
    holdings = Holdings(ORDER)
    first = snapshot_of([(OS, Subtype("release", {"a": 1}, {"note": "x"}))])
    holdings.take(first, {OS})
    old = holdings.sections[OS]
    assert old.identity is not None
    for digest in (old.stable, old.identity, *read_manifest(content(holdings, old.stable)).subtypes.values()):
        held = content(holdings, digest)
        assert digest in {content_digest(domain, held) for domain in Domain}
    holdings.take(snapshot_of([(OS, Subtype("release", {"a": 2}))]), {OS})
    (answer,) = holdings.answer([old.stable, old.identity])
    assert (answer.blobs, answer.missing) == ([], [old.stable, old.identity])


def test_large_content_goes_in_several_frames_within_the_limit() -> None:
    holdings = Holdings(ORDER)
    noise = [content_digest(Domain.GROUP, str(n).encode()).hex() for n in range(30_000)]
    subtypes = [
        (OS, Subtype(f"large{part}", {f"{n}": noise[part * 5000 + n] for n in range(5000)})) for part in range(6)
    ]
    holdings.take(snapshot_of(subtypes), {OS})
    digests = list(read_manifest(content(holdings, holdings.sections[OS].stable)).subtypes.values())
    frames = list(holdings.answer(digests))
    assert len(frames) > 1
    assert [blob.digest for frame in frames for blob in frame.blobs] == digests
    assert all(len(encode(frame)) <= MAX_FRAME for frame in frames)
    assert MAX_CONTENT < MAX_FRAME


def test_age_counts_from_the_last_collection() -> None:
    now = [100.0]
    holdings = Holdings(ORDER, clock=lambda: now[0])
    holdings.take(snapshot_of([]), {OS})
    now[0] += 42
    assert holdings.age == 42
