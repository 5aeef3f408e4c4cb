"""docs/cli.md says what the command says."""

from pathlib import Path

from tools.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_reference_is_not_stale() -> None:
    assert PAGE.read_text() == reference(), "docs/cli.md is stale: run `make docs`"
