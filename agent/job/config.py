"""What a user may choose about the Job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from common.version import VERSION

DEFAULT_IMAGE: Final = "ghcr.io/nvidia/eidos:latest"
DEFAULT_NAMESPACE: Final = "gpu-operator"
DEFAULT_NAME: Final = "eidos"

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
RUN_ANNOTATION: Final = "eidos.nvidia.com/run"
"""On a Job: the run it belongs to. On RBAC objects: the run that will delete them when it ends. On a namespace: that
a run made it for a while, and the last such run in it deletes it."""

LABELS: Final = {
    "app.kubernetes.io/name": "eidos",
    "app.kubernetes.io/component": "snapshot",
    "app.kubernetes.io/version": VERSION,
    MANAGED_BY: "eidos",
}

_KNOWN_BY: Final = ("app.kubernetes.io/name", "app.kubernetes.io/component")
"""Labels that the manifests bear too (manifests/job), and nothing else of Eidos does."""

PRIVILEGED_REQUESTS: Final = {"cpu": "100m", "memory": "128Mi"}
PRIVILEGED_LIMITS: Final = {"cpu": "1", "memory": "512Mi"}
RESTRICTED_REQUESTS: Final = {"cpu": "50m", "memory": "64Mi"}
RESTRICTED_LIMITS: Final = {"cpu": "500m", "memory": "256Mi"}


def belongs(labels: Mapping[str, str]) -> bool:
    """Whether an object with these labels is of Job mode, made by a run or from the manifests."""
    return all(labels.get(name) == LABELS[name] for name in _KNOWN_BY)


@dataclass(frozen=True, slots=True)
class Toleration:
    """core/v1 Toleration. Without a key and with operator Exists it tolerates everything."""

    key: str = ""
    operator: str = "Exists"
    value: str = ""
    effect: str = ""

    def manifest(self) -> dict[str, str]:
        fields = {"key": self.key, "operator": self.operator, "value": self.value, "effect": self.effect}
        return {name: text for name, text in fields.items() if text}


@dataclass(frozen=True, slots=True)
class Config:
    """Configuration of one deployment; the defaults are the documented ones."""

    namespace: str = DEFAULT_NAMESPACE
    service_account_name: str = DEFAULT_NAME
    job_name: str = DEFAULT_NAME
    unique_name: bool = False
    """Add a random ending to the Job's name, so that no other run can be in the way."""
    image: str = DEFAULT_IMAGE
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = (Toleration(),)
    output: str = ""
    """`cm://namespace/name` the Job writes to and that stays; empty for one of its own that cleanup removes."""
    debug: bool = False
    privileged: bool = True
    """Root with the host's files at /host, which GPU and systemd need; otherwise fit for PSS restricted."""
    require_gpu: bool = False
    """Ask for one nvidia.com/gpu (unless limits name it), and fail where no GPU can be read."""
    runtime_class_name: str = ""
    """Also sets NVIDIA_VISIBLE_DEVICES=all: the alternative to require_gpu."""
    max_nodes_per_entry: int = 0
    os: str = ""
    """Operating system of the nodes. Nothing depends on it: on Talos, which has no systemd, its facts are absent."""
    requests: dict[str, str] | None = None
    """Replaces single container requests; None keeps the defaults."""
    limits: dict[str, str] | None = None
    cleanup_rbac: bool = False
    """The RBAC objects this run makes are for it alone and go when it ends."""
    seconds: float = 300
    """Kubernetes ends the Job after so long, also when nobody waits any more."""
    extra_arguments: tuple[str, ...] = ()
    """Passed on to `eidos snapshot` in the pod: collectors, units, volatile facts."""


@dataclass(frozen=True, slots=True)
class CleanupOptions:
    """What cleanup removes."""

    enabled: bool = True
    """False leaves everything for debugging."""
    rbac: bool = False
    """Also the RBAC objects that Eidos made; never what was there before."""
