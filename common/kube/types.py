"""The fields of Kubernetes objects that Eidos reads; everything else in an object is skipped while decoding.

Names and meanings are those of the Kubernetes API reference; what is absent there has its default here.
"""

from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


class _Object(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    pass


class ManagedFields(_Object, frozen=True):
    """Who last set fields, and how: `Apply` or `Update`."""

    manager: str = ""
    operation: str = ""


class OwnerReference(_Object, frozen=True):
    uid: str = ""
    name: str = ""
    kind: str = ""


class ObjectMeta(_Object, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []
    managed_fields: list[ManagedFields] = []


class Metadata(_Object, frozen=True):
    """Any object, its metadata only."""

    metadata: ObjectMeta = ObjectMeta()


class Specified(_Object, frozen=True):
    """Any object with a spec."""

    metadata: ObjectMeta = ObjectMeta()
    spec: dict[str, Any] = {}


class ListMeta(_Object, frozen=True):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")
    remaining_item_count: int = 0


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list."""

    items: list[T] | None = None  # what Go makes of an empty list
    metadata: ListMeta = ListMeta()


class StatusDetails(_Object, frozen=True):
    name: str = ""
    group: str = ""
    kind: str = ""
    retry_after_seconds: int = 0


class Status(_Object, frozen=True):
    """meta/v1 Status: how the API server words a refusal."""

    kind: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0
    details: StatusDetails | None = None


class VersionInfo(_Object, frozen=True):
    """/version."""

    git_version: str = ""
    platform: str = ""
    go_version: str = ""


class Taint(_Object, frozen=True):
    key: str
    effect: str = ""
    value: str = ""


class NodeSpec(_Object, frozen=True):
    provider_id: str = msgspec.field(default="", name="providerID")
    taints: list[Taint] = []
    unschedulable: bool = False


class NodeInfo(_Object, frozen=True):
    container_runtime_version: str = ""
    kubelet_version: str = ""
    kernel_version: str = ""
    operating_system: str = ""
    os_image: str = ""


class Condition(_Object, frozen=True):
    """Of a node, pod or job."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class NodeStatus(_Object, frozen=True):
    node_info: NodeInfo = NodeInfo()
    conditions: list[Condition] = []


class Node(_Object, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class LabelledMeta(_Object, frozen=True):
    name: str = ""
    labels: dict[str, str] = {}


class TaintedSpec(_Object, frozen=True):
    taints: list[Taint] = []


class LabelledNode(_Object, frozen=True):
    """A node's labels and taints alone, for reading thousands."""

    metadata: LabelledMeta = LabelledMeta()
    spec: TaintedSpec = TaintedSpec()


class Container(_Object, frozen=True):
    name: str = ""
    image: str = ""


class PodSpec(_Object, frozen=True):
    node_name: str = ""
    containers: list[Container] = []
    init_containers: list[Container] = []
    ephemeral_containers: list[Container] = []


class ContainerWaiting(_Object, frozen=True):
    reason: str = ""
    message: str = ""


class ContainerTerminated(_Object, frozen=True):
    exit_code: int = 0
    reason: str = ""
    message: str = ""


class ContainerState(_Object, frozen=True):
    waiting: ContainerWaiting | None = None
    running: dict[str, object] | None = None
    terminated: ContainerTerminated | None = None


class ContainerStatus(_Object, frozen=True):
    name: str = ""
    image: str = ""
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodStatus(_Object, frozen=True):
    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: list[Condition] = []
    container_statuses: list[ContainerStatus] = []
    init_container_statuses: list[ContainerStatus] = []


class Pod(_Object, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class PodImages(_Object, frozen=True):
    """A pod's images alone, for reading thousands."""

    spec: PodSpec = PodSpec()


class JobStatus(_Object, frozen=True):
    conditions: list[Condition] = []
    active: int = 0
    succeeded: int = 0
    failed: int = 0


class Job(_Object, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    status: JobStatus = JobStatus()


class DeploymentSpec(_Object, frozen=True):
    replicas: int = 1


class DeploymentStatus(_Object, frozen=True):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0


class Deployment(_Object, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


class DaemonSetStatus(_Object, frozen=True):
    observed_generation: int = 0
    desired_number_scheduled: int = 0


class DaemonSet(_Object, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    status: DaemonSetStatus = DaemonSetStatus()


class ApiServiceStatus(_Object, frozen=True):
    conditions: list[Condition] = []


class ApiService(_Object, frozen=True):
    """apiregistration.k8s.io/v1 APIService."""

    metadata: ObjectMeta = ObjectMeta()
    status: ApiServiceStatus = ApiServiceStatus()


class ObjectReference(_Object, frozen=True):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class Event(_Object, frozen=True):
    """core/v1 Event."""

    metadata: ObjectMeta = ObjectMeta()
    involved_object: ObjectReference = ObjectReference()
    type: str = ""
    reason: str = ""
    message: str = ""
    count: int | None = None
    event_time: str | None = None
    last_timestamp: str | None = None


class ConfigMap(_Object, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    data: dict[str, str] = {}
    binary_data: dict[str, bytes] = {}


class WatchEvent(_Object, frozen=True):
    """One line of a watch; the object is decoded by whoever knows its type."""

    type: str
    object: msgspec.Raw
