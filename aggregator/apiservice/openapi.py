"""OpenAPI v3 of the group, made from the types: what `kubectl explain` shows and `kubectl create` checks by."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from aggregator.apiservice.types import Fleet, FleetSnapshot, NodeSnapshot
from common.fleet import FLEET_API_VERSION, FLEET_GROUP, FLEET_VERSION
from common.model import Snapshot
from common.version import VERSION

GROUP_DOCUMENT: Final = f"/openapi/v3/apis/{FLEET_API_VERSION}"
_PREFIX: Final = f"com.nvidia.eidos.fleet.{FLEET_VERSION}"
_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1"
_KINDS: Final = {"fleets": "Fleet", "fleetsnapshots": "FleetSnapshot", "nodesnapshots": "NodeSnapshot"}
_REF: Final = "#/components/schemas/"


def root(document: bytes) -> dict[str, Any]:
    """/openapi/v3: where the group's document is, under a name that changes with it."""
    digest = hashlib.sha256(document).hexdigest().upper()
    return {"paths": {f"apis/{FLEET_API_VERSION}": {"serverRelativeURL": f"{GROUP_DOCUMENT}?hash={digest}"}}}


def group_document() -> bytes:
    """The group's document."""
    return msgspec.json.encode(
        {
            "openapi": "3.0.0",
            "info": {"title": "Eidos", "version": VERSION},
            "paths": _paths(),
            "components": {"schemas": _schemas()},
        }
    )


def _schemas() -> dict[str, Any]:
    kinds = [NodeSnapshot, FleetSnapshot, Fleet, Snapshot]
    _, components = msgspec.json.schema_components(kinds, ref_template="{name}")
    components["NodeSnapshot"]["properties"]["snapshot"]["$ref"] = "Snapshot"
    schemas = {_name(title): _plain(schema) for title, schema in components.items()}
    for kind in _KINDS.values():
        schemas[_name(kind)]["x-kubernetes-group-version-kind"] = [_gvk(kind)]
        schemas[_name(f"{kind}List")] = {
            "type": "object",
            "description": f"A list of {kind}.",
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object", "description": "resourceVersion, and continue where there is more."},
                "items": {"type": "array", "items": {"$ref": _REF + _name(kind)}},
            },
            "required": ["items"],
            "x-kubernetes-group-version-kind": [_gvk(f"{kind}List")],
        }
    return schemas


def _name(title: str) -> str:
    return f"{_META if title == 'ObjectMeta' else _PREFIX}.{title}"


def _plain(schema: Any) -> Any:
    """JSON Schema 2020-12 as msgspec writes it, in the words of OpenAPI 3.0."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    plain = {key: _plain(value) for key, value in schema.items() if key != "title" and value != []}
    if isinstance(text := plain.get("description"), str):
        plain["description"] = " ".join(text.split())
    if isinstance(name := plain.get("$ref"), str):
        rest = {key: value for key, value in plain.items() if key != "$ref"}
        target = {"$ref": _REF + _name(name)}
        plain = {**rest, "allOf": [target]} if rest else target
    if isinstance(bound := plain.get("exclusiveMinimum"), int):
        plain |= {"minimum": bound, "exclusiveMinimum": True}
    choices = plain.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        del plain["anyOf"]
        plain.pop("default", None)
        plain |= {"allOf": [choice for choice in choices if choice != {"type": "null"}], "nullable": True}
    return plain


def _gvk(kind: str) -> dict[str, str]:
    return {"group": FLEET_GROUP, "version": FLEET_VERSION, "kind": kind}


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for resource, kind in _KINDS.items():
        collection = f"/apis/{FLEET_API_VERSION}/{resource}"
        selecting = ("labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "watch", "include")
        paths[collection] = {"get": _operation("list", kind, f"{kind}List", selecting)}
        paths[f"{collection}/{{name}}"] = {
            "get": _operation("get", kind, kind),
            "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
        }
    create = _operation("post", "FleetSnapshot", "FleetSnapshot", ("dryRun", "fieldManager", "fieldValidation"))
    body = {"application/json": {"schema": {"$ref": _REF + _name("FleetSnapshot")}}}
    create["requestBody"] = {"content": body, "required": True}
    create["responses"]["201"] = create["responses"].pop("200")
    paths[f"/apis/{FLEET_API_VERSION}/fleetsnapshots"]["post"] = create
    # Nothing can be changed. kubectl looks here, and only here, for whether a server checks fields itself; where it
    # finds nothing it asks for all CustomResourceDefinitions, which few users may see.
    patch = _operation("patch", "FleetSnapshot", "FleetSnapshot", ("dryRun", "fieldManager", "fieldValidation"))
    patch["responses"] = {"405": {"description": "A FleetSnapshot cannot be changed."}}
    paths[f"/apis/{FLEET_API_VERSION}/fleetsnapshots/{{name}}"]["patch"] = patch
    return paths


def _operation(action: str, kind: str, answer: str, query: tuple[str, ...] = ()) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": _REF + _name(answer)}}}
    return {
        "tags": ["fleetEidos_v1alpha1"],
        "operationId": f"{action}{answer}",
        "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in query],
        "responses": {"200": {"description": "OK", "content": content}, "401": {"description": "Unauthorized"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _gvk(kind),
    }
