"""FleetSnapshots: the runs that are under way and the last that have ended. Creating one starts a run.

A run that was not started through here is shown under its id. Objects are not kept longer than their runs. Of those
of an earlier leader only the last over the whole fleet is known, under its id: from ConfigMap eidos-fleet.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import NAMESPACE_DNS, uuid5

from msgspec import UNSET

from aggregator.apiservice.collection import Collection, Current, Stored
from aggregator.apiservice.nodes import human_duration
from aggregator.apiservice.source import Column
from aggregator.apiservice.status import StatusError
from aggregator.apiservice.types import (
    FLEET_API_VERSION,
    FleetSnapshot,
    FleetSnapshotSpec,
    FleetSnapshotStatus,
    Item,
    ObjectMeta,
)
from aggregator.fleet import Fleet
from aggregator.ledger import timestamp
from aggregator.run import Run, RunRequest
from aggregator.selector import Selector
from common.fleet import FLEET_GROUP
from common.fleet_api import API_PATH
from common.model import MeasurementType

_NONE: Final = "<none>"
_SUFFIX: Final = 5
_MOST_NAMES: Final = 32
"""Names of one run: each is an object of its own, with all that its maker wrote into it."""


class Named(NamedTuple):
    """A run under the name that somebody gave it."""

    run: Run
    spec: FleetSnapshotSpec
    metadata: ObjectMeta


class Shown(NamedTuple):
    """What is shown of a run."""

    spec: FleetSnapshotSpec
    status: FleetSnapshotStatus
    created_at: str
    annotations: Mapping[str, str]


class RunSource:
    """A `Source`."""

    resource = "fleetsnapshots"
    kind = "FleetSnapshot"
    fields = frozenset(("metadata.name", "status.phase"))
    columns: Sequence[Column] = (
        Column("Name", "string", "The name it was given, or the run's id."),
        Column("Phase", "string", "Queued, Collecting, Folding, Done or Failed."),
        Column("Nodes", "integer", "Nodes it is about."),
        Column("Answered", "integer", "Nodes that have answered."),
        Column("Groups", "string", "Groups of equal nodes in its document."),
        Column("Outliers", "string", "Outliers in its document."),
        Column("Took", "string", "How long it took."),
        Column("Age", "string", "Since when it was asked for."),
        Column("Run", "string", "The run's id.", first=False),
        Column("States", "string", "Nodes by state.", first=False),
        Column("Message", "string", "Why it failed.", first=False),
        Column("Document", "string", "Where its document is.", first=False),
    )

    def __init__(self, fleet: Fleet) -> None:
        self.collection: Collection[Shown] = Collection()
        self._fleet = fleet
        self._named: dict[str, Named] = {}

    async def look(self) -> bool:
        """See Source."""
        runs = self._fleet.runs.remembered()
        known = {run.id for run in runs}
        self._named = {name: named for name, named in self._named.items() if named.run.id in known}
        named_runs = {named.run.id for named in self._named.values()}
        shown = {name: self._show(*named) for name, named in self._named.items()}
        for run in runs:
            if run.id not in named_runs:
                shown[run.id] = self._show(run, _spec_of(run.request), ObjectMeta())
        return self.collection.update(shown)

    def _show(self, run: Run, spec: FleetSnapshotSpec, metadata: ObjectMeta) -> Current[Shown]:
        return Current(
            metadata.labels,
            Shown(
                spec,
                _status(run),
                metadata.creation_timestamp or timestamp(run.created_at),
                metadata.annotations,
            ),
        )

    def start(self, metadata: ObjectMeta, spec: FleetSnapshotSpec) -> str:
        """Start a run under a name, or join one that asks the same; the name.

        Raises StatusError when the name is taken or the run has too many, FleetError when the fleet is busy,
        UsageError for what makes no sense.
        """
        name = self.free_name(metadata)
        run = self._fleet.runs.start(self._request(spec))
        if sum(named.run is run for named in self._named.values()) >= _MOST_NAMES:
            raise StatusError(429, f"run {run.id}, which is the same, has {_MOST_NAMES} names: wait for its end")
        made = ObjectMeta(
            creation_timestamp=timestamp(time.time()), labels=metadata.labels, annotations=metadata.annotations
        )
        self._named[name] = Named(run, spec, made)
        return name

    def check(self, spec: FleetSnapshotSpec) -> None:
        """Raises UsageError for what makes no sense."""
        self._request(spec).selector.select(())

    def free_name(self, metadata: ObjectMeta) -> str:
        """The name given, or made up as wished. Raises StatusError."""
        name = metadata.name
        if not name:
            name = metadata.generate_name + secrets.token_hex(_SUFFIX)[:_SUFFIX]
        if name in self._named or self._fleet.runs.find(name) is not None:
            raise StatusError(409, f'{self.resource}.{FLEET_GROUP} "{name}" already exists', name, self.resource)
        return name

    def _request(self, spec: FleetSnapshotSpec) -> RunRequest:
        return RunRequest(
            Selector(spec.nodes, spec.selector),
            tuple(kind for kind in MeasurementType if kind.value in spec.sections),
            self._fleet.settings.run.seconds if spec.seconds is UNSET else spec.seconds,
        )

    def item(self, stored: Stored[Shown]) -> FleetSnapshot:
        """See Source."""
        shown = stored.value
        return FleetSnapshot(
            api_version=FLEET_API_VERSION,
            kind=self.kind,
            metadata=ObjectMeta(
                name=stored.name,
                uid=str(uuid5(NAMESPACE_DNS, f"{shown.created_at}.{stored.name}.{self.resource}.{FLEET_GROUP}")),
                resource_version=str(stored.version),
                creation_timestamp=shown.created_at,
                labels=dict(stored.labels),
                annotations=dict(shown.annotations),
            ),
            spec=shown.spec,
            status=shown.status,
        )

    async def wholes(self, stored: Sequence[Stored[Shown]], alone: bool = False) -> list[Item]:
        """See Source."""
        return [self.item(each) for each in stored]

    def cells(self, stored: Stored[Shown]) -> list[Any]:
        """See Source."""
        status = stored.value.status
        return [
            stored.name,
            status.phase,
            status.expected,
            status.answered,
            _NONE if status.groups is UNSET else str(status.groups),
            _NONE if status.outliers is UNSET else str(status.outliers),
            _NONE if status.seconds is UNSET else f"{status.seconds:.1f}s",
            human_duration(time.time() - datetime.fromisoformat(stored.value.created_at).timestamp()),
            status.run,
            ",".join(f"{state}={count}" for state, count in status.states.items()) or _NONE,
            status.message or _NONE,
            status.document or _NONE,
        ]

    def field(self, stored: Stored[Shown], name: str) -> str:
        """See Source."""
        return stored.name if name == "metadata.name" else stored.value.status.phase


def _spec_of(request: RunRequest) -> FleetSnapshotSpec:
    return FleetSnapshotSpec(
        request.selector.nodes,
        request.selector.labels,
        [kind.value for kind in request.sections],
        request.seconds or UNSET,
    )


def _status(run: Run) -> FleetSnapshotStatus:
    progress, summary = run.progress(), run.summary
    return FleetSnapshotStatus(
        phase=run.state.value.capitalize(),
        run=run.id,
        started_at=timestamp(run.created_at),
        expected=progress.expected,
        answered=progress.answered,
        states=progress.states,
        seconds=round(run.took, 3) if run.took else UNSET,
        groups=summary.groups if summary else UNSET,
        outliers=summary.outliers if summary else UNSET,
        message=run.failure,
        document=f"{API_PATH}/v1/runs/{run.id}/snapshot" if run.document else "",
    )
