"""What is in a namespace that somebody would miss."""

from collections.abc import Callable, Mapping
from typing import Final

from common.kube.call import path_of
from common.kube.client import Kube
from common.kube.together import together
from common.kube.types import Metadata

CONTENTS: Final = {
    "jobs": "batch/v1",
    "pods": "v1",
    "serviceaccounts": "v1",
    "configmaps": "v1",
    "secrets": "v1",
    "services": "v1",
    "persistentvolumeclaims": "v1",
}
WORKLOADS: Final = {"deployments": "apps/v1", "daemonsets": "apps/v1", "statefulsets": "apps/v1"}
"""What may be there without a pod."""
_OF_ITSELF: Final = frozenset({("serviceaccounts", "default"), ("configmaps", "kube-root-ca.crt")})


async def first_content(
    kube: Kube,
    namespace: str,
    goes_anyway: Callable[[str, Metadata], bool],
    kinds: Mapping[str, str] = CONTENTS,
) -> str:
    """Something in the namespace that stays, such as `secrets regcred`; empty when there is none. Raises KubeError.

    What every namespace holds by itself does not count, nor what is being deleted, nor what `goes_anyway` says yes
    to. `kinds` are resources with their API versions.
    """

    async def content(resource: str, version: str) -> str:
        items, _ = await kube.list(path_of(version, resource, namespace), Metadata)
        names = [
            item.metadata.name
            for item in items
            if (resource, item.metadata.name) not in _OF_ITSELF
            and not item.metadata.deletion_timestamp
            and not goes_anyway(resource, item)
        ]
        return f"{resource} {names[0]}" if names else ""

    found = await together(content(*entry) for entry in kinds.items())
    return next(filter(None, found), "")
