"""What one kind of objects is made of. Types only."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from aggregator.apiservice.collection import Collection, Stored
from aggregator.apiservice.types import Item

T = TypeVar("T")


class Column(NamedTuple):
    """One column of a table. Those that are not `first` are for `-o wide`."""

    name: str
    type: str
    description: str
    first: bool = True


class Source(Protocol[T]):
    """Gives the objects of one kind."""

    resource: str
    kind: str
    columns: Sequence[Column]
    fields: frozenset[str]
    """By which can be selected."""
    collection: Collection[T]

    async def look(self) -> bool:
        """Bring the collection up to what is; whether anything changed."""

    def item(self, stored: Stored[T]) -> Item:
        """The object as lists show it."""

    async def wholes(self, stored: Sequence[Stored[T]], alone: bool = False) -> list[Item]:
        """Objects with everything, in the same order. `alone`: also with what would be the same in all of them."""

    def cells(self, stored: Stored[T]) -> list[Any]:
        """Its row, in the order of the columns."""

    def field(self, stored: Stored[T], name: str) -> str:
        """The value of one of the fields."""
