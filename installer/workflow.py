"""An installation from permissions to the first answer of the cluster's API, with its steps told."""

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec

from common.errors import ClusterError, Code
from common.kube.client import Kube
from installer import preflight
from installer.applying import Change, Effect, Found, apply_all
from installer.follow import Follower
from installer.objects import AGGREGATOR, Item, build, every_item, is_made_by_us, is_ours
from installer.settings import SETTINGS_ANNOTATION, Settings
from installer.situation import Agents

_WORKLOADS: Final = ("Deployment", "DaemonSet")


class Phase(StrEnum):
    """The steps, in their order. The last is the caller's: the installer does not speak to the aggregator."""

    PERMISSIONS = "permissions"
    NAMESPACE = "namespace"
    RBAC = "RBAC"
    AGGREGATOR = "aggregator"
    AGENTS = "agents"
    API = "API"
    FIRST_RUN = "first run"
    REMOVAL = "removal"


class Observer:
    """Hears how it goes. The methods do nothing; whoever shows progress overrides them."""

    def phase(self, phase: Phase) -> None:
        """A step begins, and the one before has ended well."""

    def detail(self, text: str) -> None:
        """What is being waited for, in the cluster's words."""

    def note(self, text: str) -> None:
        """Something the user should know although nothing is wrong."""


@dataclass(slots=True)
class Report:
    """What came of an installation."""

    namespace: str
    changes: list[Change] = field(default_factory=list)
    agents: Agents = field(default_factory=lambda: Agents(0, 0, {}, []))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be applied, after it has become clear that it may be."""

    settings: Settings
    items: list[Item]
    found: Found

    def of(self, *kinds: str) -> list[Item]:
        return [item for item in self.items if item.kind in kinds]

    def without(self, *kinds: str) -> list[Item]:
        return [item for item in self.items if item.kind not in kinds]


async def install(kube: Kube, settings: Settings, observer: Observer, seconds: float) -> Report:
    """Bring the cluster to what `settings` say and wait until it works. May be repeated at any time.

    Raises ClusterError; what has been applied by then stays, and a repetition goes on from there.
    """
    deadline = time.monotonic() + seconds
    return await carry_out(kube, await prepare(kube, settings, observer), observer, deadline)


async def prepare(kube: Kube, settings: Settings, observer: Observer, *, temporary: bool = False) -> Plan:
    """Find out whether all can be applied; nothing is changed. Raises ClusterError, saying why not.

    `temporary` refuses where anything of an installation, or of what one leaves, is there, and asks for the right to
    remove all again.
    """
    observer.phase(Phase.PERMISSIONS)
    items = build(settings)
    found = await preflight.look(kube, items)
    preflight.refuse_foreign(items, found)
    there = [item for item in items if item.kind != "Namespace" and item.path in found]
    if temporary and there:
        raise in_the_way(str(there[0]))
    await preflight.check_types(kube, items)
    await preflight.check_permissions(kube, items, found, removing=temporary)
    if temporary and (left := await preflight.written_in(kube, items, found)):
        raise in_the_way(left)
    await preflight.rehearse(kube, items, found)
    return Plan(settings, items, found)


async def carry_out(kube: Kube, plan: Plan, observer: Observer, deadline: float) -> Report:
    """Apply and wait, until the time.monotonic() `deadline`. Raises ClusterError."""
    namespace, found = plan.settings.namespace, plan.found
    report = Report(namespace)
    follower = Follower(kube, namespace, observer.detail)

    observer.phase(Phase.NAMESPACE)
    report.changes += await apply_all(kube, plan.of("Namespace"), found)
    observer.phase(Phase.RBAC)
    report.changes += await apply_all(kube, plan.without("Namespace", *_WORKLOADS), found)
    report.changes += await _prune(kube, plan.items)
    async with follower.following():
        observer.phase(Phase.AGGREGATOR)
        (change,) = await apply_all(kube, plan.of("Deployment"), found)
        report.changes.append(change)
        await follower.aggregator(change.generation, deadline)
        # Agents mount what the aggregator writes, and dial it at once; they also follow it when versions change.
        observer.phase(Phase.AGENTS)
        (change,) = await apply_all(kube, plan.of("DaemonSet"), found)
        report.changes.append(change)
        report.agents = await follower.agents(change.generation, deadline)
        if plan.of("APIService"):
            observer.phase(Phase.API)
            await follower.api(deadline)
    return report


async def remembered(kube: Kube, namespace: str) -> Settings:
    """The settings of the installation that is there.

    Raises ClusterError: CLUSTER_NOT_FOUND when there is none, CLUSTER_FORBIDDEN when the user may not look.
    """
    items = [item for item in every_item(namespace) if item.kind == "Deployment"]
    found = await preflight.look(kube, items, strictly=True)
    for item in items:
        there = found.get(item.path)
        if item.name == AGGREGATOR and there is not None and is_ours(there):
            text = there["metadata"].get("annotations", {}).get(SETTINGS_ANNOTATION)
            if text is None:
                raise ClusterError(
                    Code.CLUSTER_CONFLICT,
                    f"{item} was not made by eidos fleet install, so its settings are not known",
                    "Use what made it, such as helm upgrade or kubectl apply -k; or first eidos fleet uninstall.",
                )
            try:
                return msgspec.structs.replace(msgspec.json.decode(text, type=Settings), namespace=namespace)
            except msgspec.MsgspecError as error:
                raise ClusterError(
                    Code.CLUSTER_FAILED,
                    f"the annotation {SETTINGS_ANNOTATION} of {item} cannot be read",
                    "Say all settings again: eidos fleet install.",
                ) from error
    raise ClusterError(
        Code.CLUSTER_NOT_FOUND, f"there is no installation in namespace {namespace}", "Use eidos fleet install."
    )


async def locate(kube: Kube) -> str:
    """The namespace of the cluster's installation, or of what is left of one; empty when there is none."""
    bindings = [item for item in every_item("eidos") if item.kind == "ClusterRoleBinding"]
    return preflight.installed_in(await preflight.look(kube, bindings)) or await preflight.left_in(kube)


def in_the_way(what: str) -> ClusterError:
    """The error for what a temporary installation would remove."""
    return ClusterError(
        Code.CLUSTER_CONFLICT,
        f"{what} is there already, and --ephemeral would remove it",
        "Use eidos fleet snapshot without --ephemeral, or remove what is left: eidos fleet uninstall. What is in a "
        "namespace is not in the way of another --namespace.",
    )


async def _prune(kube: Kube, items: list[Item]) -> list[Change]:
    """Remove what an earlier choice of overlays made and this one does not want."""
    here = next(item.name for item in items if item.kind == "Namespace")
    wanted = {item.path for item in items}
    left = [item for item in every_item(here) if item.path not in wanted]
    changes: list[Change] = []
    for item in left:
        there = (await preflight.look(kube, [item])).get(item.path)
        if there is not None and is_ours(there) and is_made_by_us(there):
            await kube.delete(item.path, preconditions={"uid": there["metadata"]["uid"]})
            changes.append(Change(str(item), Effect.REMOVED))
    return changes
