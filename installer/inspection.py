"""How an installation is now: looked at once, nothing awaited."""

from typing import Any, NamedTuple

from common.errors import Code
from common.kube.call import path_of
from common.kube.client import Kube
from common.kube.errors import KubeError
from common.kube.types import ApiService, DaemonSet, Deployment, Event, Pod
from installer.objects import AGENT, AGGREGATOR, API_SERVICE
from installer.settings import NAMESPACE, PART_OF, PRODUCT
from installer.situation import Agents, Situation, Verdict, judge_agents, judge_aggregator, judge_api
from installer.workflow import locate


class Installation(NamedTuple):
    """What is there, and how it is getting on."""

    namespace: str
    aggregator: Verdict
    agents: Agents
    api: Verdict | None
    """None when we may not look at the APIService."""


async def inspect(kube: Kube) -> Installation | None:
    """The cluster's installation; None when there is none, or none that we may look at. Raises KubeError."""
    namespace = await locate(kube) or NAMESPACE
    situation = Situation()
    try:
        situation.deployment = await kube.get(path_of("apps/v1", "deployments", namespace, AGGREGATOR), Deployment)
        situation.daemon_set = await _found(kube, path_of("apps/v1", "daemonsets", namespace, AGENT), DaemonSet)
        selector = {"labelSelector": f"{PART_OF}={PRODUCT}"}
        pods, _ = await kube.list(path_of("v1", "pods", namespace), Pod, selector)
        events, _ = await kube.list(path_of("v1", "events", namespace), Event)
    except KubeError as error:
        if error.code in (Code.CLUSTER_NOT_FOUND, Code.CLUSTER_FORBIDDEN):
            return None
        raise
    path = path_of("apiregistration.k8s.io/v1", "apiservices", name=API_SERVICE)
    api = None
    try:
        situation.api_service = await _found(kube, path, ApiService)
        api = judge_api(situation)
    except KubeError as error:
        if error.code is not Code.CLUSTER_FORBIDDEN:
            raise
    situation.pods = {pod.metadata.uid: pod for pod in pods}
    for event in events:
        situation.take_event(event)
    return Installation(namespace, judge_aggregator(situation), judge_agents(situation), api)


async def _found(kube: Kube, path: str, kind: type[Any]) -> Any:
    """One object; None when it is not there."""
    try:
        return await kube.get(path, kind)
    except KubeError as error:
        if error.code is Code.CLUSTER_NOT_FOUND:
            return None
        raise
