"""Takes an installation out of a cluster: everything it made, whatever of that is there, and nothing else."""

import time
from typing import Any, Final

from common.errors import ClusterError, Code, EidosError
from common.kube.call import path_of
from common.kube.client import Kube
from common.kube.configmaps import delete_document
from common.kube.errors import KubeError
from common.kube.namespaces import first_content
from common.kube.together import together
from common.kube.types import Metadata
from common.kube.watching import Watching
from common.refs import PUBLISHED
from installer import preflight
from installer.applying import Found
from installer.objects import ISSUED, WRITTEN, Item, every_item, is_created_by_us, is_ours
from installer.rendering import Manifest
from installer.settings import COMPONENT, NAME, PART_OF, PRODUCT
from installer.situation import Part
from installer.workflow import Observer, Phase

_OURS: Final = {"labelSelector": f"{PART_OF}={PRODUCT}"}
_AGENTS_END: Final = 15.0
"""Seconds without news after which agents that have not ended are on nodes that do not answer."""


async def uninstall(
    kube: Kube, namespace: str, observer: Observer, seconds: float, *, keep_namespace: bool = False
) -> list[str]:
    """Remove the installation and return what was removed, in words; an empty list when there was none.

    The workloads end first, so that nobody makes anew what is removed after them. Everything is tried whatever
    fails. Raises ClusterError naming what is left; and before anything is removed, when Helm made it. The namespace
    goes if the command made it and nothing else is in it; with `keep_namespace` not even then.
    """
    return await _Removal(kube, namespace, observer, time.monotonic() + seconds, keep_namespace).run()


class _Removal:
    def __init__(self, kube: Kube, namespace: str, observer: Observer, deadline: float, keep_namespace: bool) -> None:
        self._kube = kube
        self._namespace = namespace
        self._observer = observer
        self._deadline = deadline
        self._keep_namespace = keep_namespace
        self._removed: list[str] = []
        self._failures: list[tuple[str, EidosError]] = []
        self._stuck = ""

    async def run(self) -> list[str]:
        self._observer.phase(Phase.REMOVAL)
        items = every_item(self._namespace)
        found = await preflight.look(self._kube, items, strictly=True)
        preflight.refuse_helms(items, found)
        ours = [item for item in items if item.path in found and is_ours(found[item.path])]
        elsewhere = preflight.installed_in(found)
        if elsewhere not in ("", self._namespace):  # what belongs to no namespace is that one's
            ours = [item for item in ours if item.namespace == self._namespace]
        # First what kube-apiserver would ask in vain: it could delete no namespace meanwhile.
        await self._delete_all(self._of(ours, "APIService"), found)
        await self._delete_all(self._of(ours, "Deployment", "DaemonSet"), found)
        try:
            await self._pods_gone()
        except EidosError as error:
            self._failures.append(("pods", error))
        await together(self._delete_written(*entry) for entry in WRITTEN)
        if ours or self._removed:  # else somebody wrote a document of this name into a namespace without a fleet
            await self._delete_published()
        rest = [i for i in ours if i.kind not in ("APIService", "Deployment", "DaemonSet", "Namespace")]
        await self._delete_all(rest, found)
        await together(self._delete_written(*entry) for entry in ISSUED)
        for item in items:
            if item.kind == "Namespace" and item.path in found:
                await self._leave_namespace(item, found[item.path])
        if self._failures:
            raise self._left()
        return self._removed

    @staticmethod
    def _of(items: list[Item], *kinds: str) -> list[Item]:
        return [item for item in items if item.kind in kinds]

    async def _delete_all(self, items: list[Item], found: Found) -> None:
        await together(self._delete(item.path, found[item.path], str(item)) for item in items)

    async def _delete(self, path: str, there: Manifest, what: str) -> None:
        """By its UID: what somebody else has made in its place since stays."""
        try:
            if await self._kube.delete(path, preconditions={"uid": there["metadata"]["uid"]}):
                self._removed.append(what)
        except EidosError as error:
            self._failures.append((what, error))

    async def _pods_gone(self) -> None:
        """Wait until no pod of ours is left; not for agents on nodes that are lost, which go with their node."""
        left = await self._gone(path_of("v1", "pods", self._namespace), _OURS, "pods")
        if left:
            self._stuck = f"{len(left)} pods end only when their nodes answer: {', '.join(sorted(left)[:3])}"
            self._observer.note(self._stuck)

    async def _gone(self, path: str, params: dict[str, str], what: str) -> list[str]:
        """Wait until nothing of the collection is left, or only what waits for agents that do not end; the names."""
        there: dict[str, Metadata] = {}
        watching = Watching(self._kube)

        def take(item: Metadata, gone: bool) -> None:
            if gone:
                there.pop(item.metadata.uid, None)
            else:
                there[item.metadata.uid] = item

        watching.add(path, Metadata, take, params)
        async with watching.running():
            await watching.changed.wait()
            while there and watching.trouble is None and time.monotonic() < self._deadline:
                watching.changed.clear()
                self._observer.detail(f"waiting for {len(there)} {what} to end")
                # The aggregator would write again what is removed next; an agent writes nothing.
                only_agents = all(i.metadata.labels.get(COMPONENT) == Part.AGENT.value for i in there.values())
                in_vain = only_agents or bool(self._stuck)
                left = self._deadline - time.monotonic()
                await watching.wait(min(left, _AGENTS_END) if in_vain else left)
                if in_vain and not watching.changed.is_set():
                    break
        if watching.trouble is not None and not (there and watching.trouble.code is Code.DEADLINE):
            raise watching.trouble
        return [item.metadata.name for item in there.values()]

    async def _delete_written(self, api_version: str, resource: str, name: str) -> None:
        path = path_of(api_version, resource, self._namespace, name)
        try:
            there: Manifest = await self._kube.get(path, dict[str, Any])
        except KubeError as error:
            if error.code is not Code.CLUSTER_NOT_FOUND:
                self._failures.append((f"{resource} {name}", error))
            return
        if there["metadata"].get("labels", {}).get(NAME) == PRODUCT:
            await self._delete(path, there, f"{resource} {self._namespace}/{name}")
        else:
            self._observer.note(f"{resource} {name} stays, because it is not labelled as ours")

    async def _delete_published(self) -> None:
        try:
            if await delete_document(self._kube, self._namespace, PUBLISHED):
                self._removed.append(f"configmaps {self._namespace}/{PUBLISHED}")
        except EidosError as error:
            self._failures.append((f"configmaps {PUBLISHED}", error))

    async def _leave_namespace(self, item: Item, there: Manifest) -> None:
        """Delete it if we made it and it is empty; else take out of it only what we put in."""
        bare = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": item.name}}
        try:
            if not (is_ours(there) and is_created_by_us(there)):
                await self._kube.apply(item.path, bare, Metadata)
                if self._removed and not self._keep_namespace:
                    self._observer.note(f"namespace {item.name} stays, because eidos fleet install did not make it")
                return
            if self._keep_namespace:
                return
            content = await first_content(self._kube, item.name, _goes_anyway)
            if content:
                self._observer.note(f"namespace {item.name} stays, because {content} is in it")
                return
            await self._delete(item.path, there, str(item))
            named = {"fieldSelector": f"metadata.name={item.name}"}
            if await self._gone(path_of("v1", "namespaces"), named, "namespaces"):
                why = self._stuck or "it is still being deleted"
                raise ClusterError(Code.DEADLINE, why)
        except EidosError as error:
            self._failures.append((str(item), error))

    def _left(self) -> ClusterError:
        left = ", ".join(what for what, _ in self._failures)
        error = self._failures[0][1]
        return ClusterError(
            error.code, f"left behind: {left}, because {error.message}", "Try again: eidos fleet uninstall."
        )


def _goes_anyway(resource: str, item: Metadata) -> bool:
    return item.metadata.labels.get(PART_OF) == PRODUCT
