"""What is there under our names and is not ours to change."""

from typing import Final

from common.errors import ClusterError, Code
from installer.objects import Item, is_ours
from installer.rendering import Manifest
from installer.settings import MANAGED_BY, PRODUCT

_WORKLOADS: Final = ("Deployment", "DaemonSet")


def conflict(message: str, hint: str) -> ClusterError:
    """The error for what is in the way."""
    return ClusterError(Code.CLUSTER_CONFLICT, message, hint)


def is_helms(there: Manifest) -> bool:
    """Whether a release of Helm's made it."""
    return bool(there["metadata"].get("labels", {}).get(MANAGED_BY) == "Helm")


def refuse_foreign(item: Item, there: Manifest) -> None:
    """Raise ClusterError (CLUSTER_CONFLICT) when the object that is there is not ours to change."""
    if item.kind == "Namespace":
        if there["metadata"].get("deletionTimestamp"):
            raise conflict(f"{item} is being deleted, and nothing can be created in it",
                           "Wait until it is gone, or choose another --namespace.")  # fmt: skip
    elif not is_ours(there):
        raise conflict(f"{item} is there and is not part of an installation of Eidos", "Rename or delete it first.")
    elif is_helms(there):
        raise conflict(f"{item} was installed by Helm", "Use helm upgrade or helm uninstall.")
    elif item.kind in _WORKLOADS and there["metadata"]["labels"].get(MANAGED_BY) != PRODUCT:
        # What kubectl set and this does not would stay, such as a selector of nodes.
        raise conflict(f"{item} was not made by eidos fleet install",
                       "Use what made it, as kubectl apply -k; or first eidos fleet uninstall.")  # fmt: skip
