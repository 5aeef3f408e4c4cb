"""Which resources the group has, in both ways that kube-apiserver and kubectl ask: by group, and all at once."""

from typing import Any, Final

from common.fleet import FLEET_API_VERSION, FLEET_GROUP, FLEET_VERSION

RESOURCES: Final = (
    {
        "name": "fleets",
        "singularName": "fleet",
        "namespaced": False,
        "kind": "Fleet",
        "verbs": ["get", "list", "watch"],
        "categories": ["eidos"],
    },
    {"name": "fleets/api", "singularName": "", "namespaced": False, "kind": "Fleet", "verbs": ["create", "get"]},
    {
        "name": "fleetsnapshots",
        "singularName": "fleetsnapshot",
        "namespaced": False,
        "kind": "FleetSnapshot",
        "verbs": ["create", "get", "list", "watch"],
        "shortNames": ["fsnap"],
        "categories": ["eidos"],
    },
    {
        "name": "nodesnapshots",
        "singularName": "nodesnapshot",
        "namespaced": False,
        "kind": "NodeSnapshot",
        "verbs": ["get", "list", "watch"],
        "shortNames": ["nsnap"],
        "categories": ["eidos"],
    },
)
"""No verb to delete: the garbage collector and namespaces' ends look only at what has one."""

AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_VERSION: Final = {"groupVersion": FLEET_API_VERSION, "version": FLEET_VERSION}


def api_group() -> dict[str, Any]:
    """/apis/GROUP."""
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": FLEET_GROUP,
        "versions": [_VERSION],
        "preferredVersion": _VERSION,
    }


def api_groups() -> dict[str, Any]:
    """/apis."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [api_group()]}


def api_resources() -> dict[str, Any]:
    """/apis/GROUP/VERSION."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": FLEET_API_VERSION,
        "resources": list(RESOURCES),
    }


def is_aggregated_wanted(accept: str) -> bool:
    """Whether a request for /apis wants all groups with their resources at once."""
    wanted = {"g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"}
    return any(wanted <= {text.strip() for text in part.split(";")} for part in accept.split(",")[:32])


def aggregated() -> dict[str, Any]:
    """/apis for those who want that."""
    resources = [_discovered(resource) for resource in RESOURCES if "/" not in str(resource["name"])]
    version = {"version": FLEET_VERSION, "resources": resources, "freshness": "Current"}
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [{"metadata": {"name": FLEET_GROUP, "creationTimestamp": None}, "versions": [version]}],
    }


def _discovered(resource: dict[str, Any]) -> dict[str, Any]:
    below = [each for each in RESOURCES if str(each["name"]).startswith(f"{resource['name']}/")]
    return {
        "resource": resource["name"],
        "responseKind": _kind(resource),
        "scope": "Cluster",
        "singularResource": resource["singularName"],
        "verbs": resource["verbs"],
        "categories": resource.get("categories", []),
        "shortNames": resource.get("shortNames", []),
        "subresources": [
            {"subresource": str(each["name"]).partition("/")[2], "responseKind": _kind(each), "verbs": each["verbs"]}
            for each in below
        ],
    }


def _kind(resource: dict[str, Any]) -> dict[str, Any]:
    return {"group": FLEET_GROUP, "version": FLEET_VERSION, "kind": resource["kind"]}
