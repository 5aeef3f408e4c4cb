"""What the fake API server says of itself: its version, and which resources it has."""

from collections.abc import Sequence

from tests.fakes.objects import Json, Resource

# API servers up to 1.33 write out that a group was never made.
_UNDATED: Json = {"creationTimestamp": None}


def discovered(path: str, resources: Sequence[Resource], aggregated: bool) -> Json | None:
    """The document of a path; None where there is none. `aggregated` as servers since 1.27 answer whoever asks so."""
    groups = sorted({r.api_version for r in resources if "/" in r.api_version})
    if path == "/version":
        return {"gitVersion": "v1.36.3", "platform": "linux/amd64", "goVersion": "go1.26.0"}
    if path == "/api" and aggregated:
        core = {"metadata": _UNDATED, "versions": [{"version": "v1", "resources": _described("v1", resources)}]}
        return {"kind": "APIGroupDiscoveryList", "items": [core]}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis" and aggregated:
        items = [
            {
                "metadata": _UNDATED | {"name": group.split("/")[0]},
                "versions": [{"version": group.split("/")[1], "resources": _described(group, resources)}],
            }
            for group in groups
        ]
        return {"kind": "APIGroupDiscoveryList", "items": items}
    if path == "/apis":
        versions = [{"name": g.split("/")[0], "preferredVersion": {"groupVersion": g}} for g in groups]
        return {"kind": "APIGroupList", "groups": versions}
    group = "v1" if path == "/api/v1" else path.removeprefix("/apis/")
    if group not in ("v1", *groups):
        return None
    names = [
        {"name": r.plural, "kind": r.kind, "namespaced": r.namespaced, "verbs": list(r.verbs)}
        for r in resources
        if r.api_version == group
    ]
    return {"kind": "APIResourceList", "groupVersion": group, "resources": names}


def _described(group: str, resources: Sequence[Resource]) -> list[Json]:
    return [
        {
            "resource": r.plural,
            "responseKind": {"kind": r.kind},
            "scope": "Namespaced" if r.namespaced else "Cluster",
            "verbs": list(r.verbs),
        }
        for r in resources
        if r.api_version == group
    ]
