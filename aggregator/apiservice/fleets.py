"""Fleets: there is one, `eidos`, in numbers. Its subresource `api` is the HTTP API (aggregator/api)."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import NAMESPACE_DNS, uuid5

from msgspec import UNSET

from aggregator.apiservice.collection import Collection, Current, Stored
from aggregator.apiservice.source import Column
from aggregator.apiservice.types import FLEET, FLEET_API_VERSION, FleetStatus, Item, ObjectMeta
from aggregator.apiservice.types import Fleet as FleetObject
from aggregator.fleet import Fleet
from common.fleet import FLEET_GROUP

_UID: Final = str(uuid5(NAMESPACE_DNS, f"{FLEET}.fleets.{FLEET_GROUP}"))
_NONE: Final = "<none>"


class FleetSource:
    """A `Source`."""

    resource = "fleets"
    kind = "Fleet"
    fields = frozenset(("metadata.name",))
    columns: Sequence[Column] = (
        Column("Name", "string", "The fleet's name."),
        Column("Nodes", "integer", "Nodes that should be there."),
        Column("Connected", "integer", "Nodes whose agent has a link now."),
        Column("Groups", "string", "Groups of equal nodes in the last snapshot."),
        Column("Outliers", "string", "Outliers in it."),
        Column("Snapshot", "string", "When it was taken."),
        Column("States", "string", "Nodes by state in it.", first=False),
    )

    def __init__(self, fleet: Fleet) -> None:
        self.collection: Collection[FleetStatus] = Collection()
        self._fleet = fleet

    async def look(self) -> bool:
        """See Source."""
        fleet = self._fleet
        expected = fleet.expected()
        document = fleet.latest.document if fleet.latest else None
        status = FleetStatus(
            nodes=len(expected),
            connected=sum(bool((node := fleet.hub.nodes.get(each.node)) and node.link) for each in expected),
            states=document.summary.states if document else {},
            groups=document.summary.groups if document else UNSET,
            outliers=document.summary.outliers if document else UNSET,
            snapshot_at=document.metadata.timestamp if document else "",
            run=document.metadata.run if document else "",
        )
        return self.collection.update({FLEET: Current({}, status)})

    def item(self, stored: Stored[FleetStatus]) -> FleetObject:
        """See Source."""
        return FleetObject(
            api_version=FLEET_API_VERSION,
            kind=self.kind,
            metadata=ObjectMeta(name=stored.name, uid=_UID, resource_version=str(stored.version)),
            status=stored.value,
        )

    async def wholes(self, stored: Sequence[Stored[FleetStatus]], alone: bool = False) -> list[Item]:
        """See Source."""
        return [self.item(each) for each in stored]

    def cells(self, stored: Stored[FleetStatus]) -> list[Any]:
        """See Source."""
        status = stored.value
        return [
            stored.name,
            status.nodes,
            status.connected,
            _NONE if status.groups is UNSET else str(status.groups),
            _NONE if status.outliers is UNSET else str(status.outliers),
            status.snapshot_at or _NONE,
            ",".join(f"{state}={count}" for state, count in status.states.items()) or _NONE,
        ]

    def field(self, stored: Stored[FleetStatus], name: str) -> str:
        """See Source."""
        return stored.name
