"""NodeSnapshots: one for each expected node, named and labelled as the Node itself."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import NAMESPACE_DNS, uuid5

import msgspec
from msgspec import UNSET, Raw

from aggregator.apiservice.collection import Collection, Current, Stored
from aggregator.apiservice.facts import Shown, ShownFacts
from aggregator.apiservice.source import Column
from aggregator.apiservice.types import FLEET_API_VERSION, Item, NodeSnapshot, NodeSnapshotStatus, ObjectMeta
from aggregator.beside import beside
from aggregator.fleet import Fleet
from aggregator.ledger import Entry, Expected, timestamp
from aggregator.nodes import Known
from common.api_numbers import for_the_api
from common.fleet import FLEET_GROUP, Group

_FRESH: Final = 0.2
"""Seconds within which nobody looks again."""
_UNKNOWN: Final = "<unknown>"
_NONE: Final = "<none>"


class Told(NamedTuple):
    """What a status is made from."""

    expected: Expected
    entry: Entry | None
    known: Known | None
    known_at: float
    """Its time, which changes in place."""
    connected: bool
    group: Group | None

    def is_as(self, before: "Told") -> bool:
        """Whether nothing changed. By identity, which costs nothing; expected nodes may be made anew each time."""
        return all(now is then for now, then in zip(self[1:], before[1:], strict=True)) and (
            self.expected is before.expected or self.expected == before.expected
        )


class NodeSource:
    """A `Source`."""

    resource = "nodesnapshots"
    kind = "NodeSnapshot"
    fields = frozenset(("metadata.name", "status.state"))
    columns: Sequence[Column] = (
        Column("Node", "string", "The node's name."),
        Column("State", "string", "How it ended in the last snapshot of the whole fleet."),
        Column("Group", "string", "Number of its group of equal nodes."),
        Column("GPUs", "string", "How many NVIDIA GPUs it has."),
        Column("Driver", "string", "NVIDIA driver."),
        Column("Kernel", "string", "Kernel release."),
        Column("Age", "string", "How old the facts known of it are."),
        Column("Connected", "boolean", "Whether its agent has a link now.", first=False),
        Column("GPU Model", "string", "Model of its first GPU.", first=False),
        Column("CUDA", "string", "Newest CUDA its driver supports.", first=False),
        Column("OS", "string", "Distribution.", first=False),
        Column("Agent", "string", "Version of its agent.", first=False),
        Column("Reason", "string", "Why it ended so.", first=False),
    )

    def __init__(self, fleet: Fleet) -> None:
        self.collection: Collection[NodeSnapshotStatus] = Collection()
        self._fleet = fleet
        self._facts = ShownFacts(fleet.catalog)
        self._made: dict[str, tuple[Told, Current[NodeSnapshotStatus]]] = {}
        self._ledger: tuple[Sequence[Entry], dict[str, Entry]] = ((), {})
        self._looked_at = -_FRESH
        self._uids: dict[str, str] = {}

    async def look(self) -> bool:
        """See Source."""
        if time.monotonic() - self._looked_at < _FRESH:
            return False
        fleet = self._fleet
        expected = fleet.expected()
        known = {
            node.node: seen.known for node in expected if (seen := fleet.hub.nodes.get(node.node)) and seen.known
        }
        wanted = {of.facts for of in known.values()}
        if any(self._facts.get(facts) is None for facts in wanted):
            with fleet.reading_content():
                await beside(self._facts.learn, wanted)
        changed = self.collection.update(self._current(expected, known))
        self._looked_at = time.monotonic()
        return changed

    def _current(
        self, expected: Sequence[Expected], known: Mapping[str, Known]
    ) -> dict[str, Current[NodeSnapshotStatus]]:
        fleet = self._fleet
        entries = fleet.latest.entries if fleet.latest else ()
        if self._ledger[0] is not entries:
            self._ledger = entries, {entry.node: entry for entry in entries}
        ledger, groups = self._ledger[1], fleet.latest.group_of() if fleet.latest else {}
        made: dict[str, tuple[Told, Current[NodeSnapshotStatus]]] = {}
        for node in expected:
            name, seen, of = node.node, fleet.hub.nodes.get(node.node), known.get(node.node)
            connected = bool(seen and seen.link)
            told = Told(node, ledger.get(name), of, of.at if of else 0.0, connected, groups.get(name))
            before = self._made.get(name)
            made[name] = before if before is not None and told.is_as(before[0]) else (told, self._make(told))
        self._made = made
        return {name: current for name, (_, current) in made.items()}

    def _make(self, told: Told) -> Current[NodeSnapshotStatus]:
        expected, entry, known, known_at, connected, group = told
        shown = (self._facts.get(known.facts) if known else None) or Shown()
        status = NodeSnapshotStatus(
            connected=connected,
            state=entry.state.value if entry else "",
            reason=entry.reason if entry else "",
            collected_at=timestamp(known_at) if known else "",
            group=group.group if group else UNSET,
            group_id=group.id if group else "",
            gpus=shown.gpus,
            gpu_model=shown.gpu_model,
            driver=shown.driver,
            cuda=shown.cuda,
            kernel=shown.kernel,
            os=shown.os,
            agent_version=known.version if known else "",
        )
        return Current(expected.labels, status)

    def item(self, stored: Stored[NodeSnapshotStatus]) -> NodeSnapshot:
        """See Source."""
        return NodeSnapshot(
            api_version=FLEET_API_VERSION,
            kind=self.kind,
            metadata=ObjectMeta(
                name=stored.name,
                uid=self._uid(stored.name),
                resource_version=str(stored.version),
                labels=dict(stored.labels),
            ),
            status=stored.value,
        )

    def _uid(self, name: str) -> str:
        """The same for a name for ever: what is known of a node outlives the aggregator that knows it."""
        uid = self._uids.get(name)
        if uid is None:
            if len(self._uids) > 2 * len(self._made) + 100:
                self._uids.clear()
            uid = self._uids[name] = str(uuid5(NAMESPACE_DNS, f"{name}.{self.resource}.{FLEET_GROUP}"))
        return uid

    async def wholes(self, stored: Sequence[Stored[NodeSnapshotStatus]], alone: bool = False) -> list[Item]:
        """See Source. The snapshots are the last known ones at this moment."""
        with self._fleet.reading_content():
            known = [
                (each, node.known if (node := self._fleet.hub.nodes.get(each.name)) else None) for each in stored
            ]
            return await beside(lambda: [self._whole(each, of, alone) for each, of in known])

    def _whole(self, stored: Stored[NodeSnapshotStatus], known: Known | None, alone: bool) -> NodeSnapshot:
        item = self.item(stored)
        if known is None:
            return item
        snapshot = self._fleet.assemble(stored.name, known, alone)
        return msgspec.structs.replace(item, snapshot=Raw(msgspec.json.encode(for_the_api(snapshot))))

    def cells(self, stored: Stored[NodeSnapshotStatus]) -> list[Any]:
        """See Source."""
        status = stored.value
        return [
            stored.name,
            status.state or _UNKNOWN,
            _NONE if status.group is UNSET else str(status.group),
            _NONE if status.gpus is UNSET else str(status.gpus),
            status.driver or _NONE,
            status.kernel or _NONE,
            self._age(stored.name),
            status.connected,
            status.gpu_model or _NONE,
            status.cuda or _NONE,
            status.os or _NONE,
            status.agent_version or _NONE,
            status.reason or _NONE,
        ]

    def _age(self, name: str) -> str:
        node = self._fleet.hub.nodes.get(name)
        return _UNKNOWN if node is None or node.known is None else human_duration(time.time() - node.known.at)

    def field(self, stored: Stored[NodeSnapshotStatus], name: str) -> str:
        """See Source."""
        return stored.name if name == "metadata.name" else stored.value.state


def human_duration(seconds: float) -> str:
    """As kubectl writes ages: two units while they matter."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if minutes < 2:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d"
