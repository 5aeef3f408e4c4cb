"""What changed after a version, and what was: as it was, or refused, and never nearly right."""

import pytest

from aggregator.apiservice import collection
from aggregator.apiservice.collection import Collection, Current, ExpiredError


def of(**values: int) -> dict[str, Current[int]]:
    return {name: Current({}, value) for name, value in values.items()}


def changed(known: Collection[int], version: int) -> list[tuple[str, int | None]]:
    return [
        (stored.name, each.after.value if each.after else None)
        for each in known.since(version)
        if (stored := each.after or each.before)
    ]


def test_what_changed_after_a_version() -> None:
    known = Collection[int]()
    known.update(of(a=1, b=2))
    began = known.version
    known.update(of(a=1, c=3))
    assert changed(known, began) == [("b", None), ("c", 3)]
    assert changed(known, known.version) == []


@pytest.mark.parametrize("ahead", [1, 10**15])
def test_a_version_that_has_not_been_is_refused(ahead: int) -> None:
    """One of another leader, say: whoever waits there would miss all until then."""
    known = Collection[int]()
    known.update(of(a=1))
    with pytest.raises(ExpiredError, match="are not known"):
        known.since(known.version + ahead)


def test_a_version_from_before_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "_FEWEST_EVENTS", 2)
    known = Collection[int]()
    known.update(of(a=1))
    began = known.version
    with pytest.raises(ExpiredError):
        known.since(began - 2)
    for value in range(20):
        known.update(of(a=value + 2))
    with pytest.raises(ExpiredError):
        known.since(began)
    assert changed(known, known.version - 3) == [("a", 19), ("a", 20), ("a", 21)]


def test_lists_are_kept_as_they_were_for_as_long_as_there_are_few() -> None:
    known = Collection[int]()
    known.update(of(a=1))
    began = known.version
    known.keep_list(began)
    for value in range(collection._LISTS):
        assert [stored.value for stored in known.list_at(began)] == [1]
        known.update(of(a=value + 2))
        known.keep_list(known.version)
    with pytest.raises(ExpiredError, match="is no longer kept"):
        known.list_at(began)
