"""Follows an installation by watch until it is up, or it is clear that it will not be."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from common.errors import ClusterError, Code
from common.kube.call import path_of
from common.kube.client import Kube
from common.kube.types import ApiService, DaemonSet, Deployment, Event, Node, Pod
from common.kube.watching import Watching
from installer.objects import AGENT, AGGREGATOR, API_SERVICE
from installer.settings import PART_OF, PRODUCT
from installer.situation import (
    Agents,
    Part,
    Situation,
    Verdict,
    is_lost,
    judge_agents,
    judge_aggregator,
    judge_api,
)

_OURS: Final = {"labelSelector": f"{PART_OF}={PRODUCT}"}
_PAUSE: Final = 0.05
"""Seconds between looks at thousands of pods, each of which changes several times."""
_SETTLES: Final = 10.0
"""Seconds for which all agents that are not ready must be in trouble before nobody waits for them any more."""


class Follower:
    """Keeps a Situation up to date and waits for what it should become."""

    def __init__(self, kube: Kube, namespace: str, on_change: Callable[[str], None]) -> None:
        """`on_change` hears each new explanation of how it is getting on."""
        self.situation = Situation()
        self._on_change = on_change
        self._explanation = ""
        self._watching = watching = Watching(kube)
        deployments, daemon_sets = (path_of("apps/v1", plural, namespace) for plural in ("deployments", "daemonsets"))
        watching.add(deployments, Deployment, self._take_deployment, _named(AGGREGATOR))
        watching.add(daemon_sets, DaemonSet, self._take_daemon_set, _named(AGENT))
        watching.add(path_of("v1", "pods", namespace), Pod, self._take_pod, _OURS)
        services = path_of("apiregistration.k8s.io/v1", "apiservices")
        watching.add(services, ApiService, self._take_api_service, _named(API_SERVICE))
        # These two only explain; without the right to watch them the rest goes on.
        watching.add(path_of("v1", "events", namespace), Event, self._take_event, needed=False)
        watching.add(path_of("v1", "nodes"), Node, self._take_node, needed=False)

    @asynccontextmanager
    async def following(self) -> AsyncIterator["Follower"]:
        """Watch while the block runs."""
        async with self._watching.running():
            yield self

    async def aggregator(self, generation: int, deadline: float) -> None:
        """Wait until one leads, of the Deployment as it was applied.

        Raises ClusterError, saying why it will not or has not by the deadline.
        """
        self.situation.generations[Part.AGGREGATOR] = generation
        await self._until(lambda: judge_aggregator(self.situation), deadline, "the aggregator does not come up: ")

    async def api(self, deadline: float) -> None:
        """Wait until the cluster's API serves the fleet. Raises ClusterError (DEADLINE)."""
        await self._until(lambda: judge_api(self.situation), deadline)

    async def agents(self, generation: int, deadline: float) -> Agents:
        """Wait until all are ready, or only those that will not be are left; of the DaemonSet as it was applied.

        Raises ClusterError when none comes up although there should be some.
        """
        self.situation.generations[Part.AGENT] = generation
        stuck_since: float | None = None
        while True:
            self._watching.changed.clear()
            agents, now = judge_agents(self.situation), time.monotonic()
            if agents.counted:
                self._say(f"{agents.ready}/{agents.desired}" + "".join(f", {why}" for why in _whys(agents)[:1]))
            if (trouble := self._watching.trouble) is not None and trouble.code is not Code.DEADLINE:
                raise trouble
            stuck_since = (stuck_since or now) if agents.stuck else None
            settled = stuck_since is not None and now - stuck_since >= _SETTLES
            if agents.done or settled or now >= deadline or self._watching.trouble is not None:
                break
            await self._watching.wait(min(deadline, (stuck_since or deadline) + _SETTLES) - now)
            await asyncio.sleep(_PAUSE)
        if agents.ready or (not agents.desired and not agents.refused):
            return agents
        why = next(iter(_whys(agents)), "they do not get ready")
        code = Code.CLUSTER_FAILED if settled else Code.DEADLINE
        raise ClusterError(code, f"none of {agents.desired} agents comes up: {why}", agents.hint)

    async def _until(self, judge: Callable[[], Verdict], deadline: float, trouble_with: str = "") -> None:
        troubled_since: float | None = None
        while True:
            self._watching.changed.clear()
            verdict, now = judge(), time.monotonic()
            if verdict.done:
                return
            self._say(verdict.explanation)
            trouble = self._watching.trouble
            if trouble is not None and trouble.code is not Code.DEADLINE:
                raise trouble
            troubled_since = (troubled_since or now) if verdict.patience is not None else None
            given_up = deadline if troubled_since is None else troubled_since + (verdict.patience or 0.0)
            if now >= given_up and troubled_since is not None:
                raise ClusterError(Code.CLUSTER_FAILED, trouble_with + verdict.explanation, verdict.hint)
            if now >= deadline or trouble is not None:
                raise ClusterError(Code.DEADLINE, f"out of time: {trouble_with}{verdict.explanation}", verdict.hint)
            await self._watching.wait(min(deadline, given_up) - now)

    def _say(self, explanation: str) -> None:
        if explanation != self._explanation:
            self._explanation = explanation
            self._on_change(explanation)

    # ---- what the watches bring ----

    def _take_deployment(self, found: Deployment, gone: bool) -> None:
        self.situation.deployment = None if gone else found

    def _take_daemon_set(self, found: DaemonSet, gone: bool) -> None:
        self.situation.daemon_set = None if gone else found

    def _take_api_service(self, found: ApiService, gone: bool) -> None:
        self.situation.api_service = None if gone else found

    def _take_pod(self, found: Pod, gone: bool) -> None:
        if gone:
            self.situation.pods.pop(found.metadata.uid, None)
        else:
            self.situation.pods[found.metadata.uid] = found

    def _take_event(self, found: Event, gone: bool) -> None:
        self.situation.take_event(found, gone)

    def _take_node(self, found: Node, gone: bool) -> None:
        name = found.metadata.name
        (self.situation.lost_nodes.add if is_lost(found) and not gone else self.situation.lost_nodes.discard)(name)


def _named(name: str) -> dict[str, str]:
    return {"fieldSelector": f"metadata.name={name}"}


def _whys(agents: Agents) -> list[str]:
    return [agents.refused] if agents.refused else list(agents.troubled)
