"""docs/snapshot-format.md says what the code does."""

import re
from pathlib import Path

import msgspec
import pytest

from common import document
from common.diff import Change, Diff, Incomparable
from common.formats import Format, dump, load_snapshot
from common.model import (
    READABLE_API_VERSIONS,
    CollectionEntry,
    FailureCode,
    MeasurementType,
    Snapshot,
    State,
)
from common.stability import Stability

TEXT = (Path(__file__).parents[2] / "docs" / "snapshot-format.md").read_text(encoding="utf-8")


def example() -> str:
    match = re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert match is not None
    return match[1]


def test_the_example_is_written_as_it_stands() -> None:
    assert dump(load_snapshot(example().encode(), "x"), Format.YAML).decode() == example()


@pytest.mark.parametrize("names", [FailureCode, State, Stability])
def test_tables_list_every_member_and_no_other(names: type[FailureCode] | type[State] | type[Stability]) -> None:
    heading = {FailureCode: "code", State: "state", Stability: "class"}[names]
    match = re.search(rf"^\| {heading} \| \|\n\|---\|---\|\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    assert match is not None
    assert re.findall(r"^\| `([a-z_]+)` \|", match[1], re.MULTILINE) == [name.value for name in names]


def test_names_are_those_of_the_code() -> None:
    names = [
        *READABLE_API_VERSIONS,
        *(kind.value for kind in MeasurementType),
        *(field.encode_name for kind in (CollectionEntry, Diff, Change) for field in msgspec.structs.fields(kind)),
        *(field.encode_name for field in msgspec.structs.fields(Incomparable)),
        *(field.encode_name for field in msgspec.structs.fields(Snapshot)),
    ]
    assert [name for name in names if f"`{name}" not in TEXT] == []


def test_limits_are_those_of_the_code() -> None:
    limits = f"{document.MOST_BYTES >> 20} MiB, {document.MOST_VALUES:,} values or {document.MOST_LEVELS} levels"
    assert limits in TEXT.replace("\n", " ")
