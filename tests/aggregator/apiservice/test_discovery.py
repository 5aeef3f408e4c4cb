"""Discovery and OpenAPI say the same as the routes do; errors on the cluster's paths are Statuses."""

from pathlib import Path
from typing import Any

import pytest

from aggregator.apiservice import discovery, openapi
from aggregator.users import GROUP_PATH, Access, Credentials, User
from common.fleet_api import API_PATH
from tests.aggregator.apiservice.served import served

GROUP = "fleet.eidos.nvidia.com"


async def test_every_way_of_discovery_names_the_same(tmp_path: Path) -> None:
    async with served(tmp_path, join=0) as api:
        assert (await api.get("/apis"))["groups"] == [await api.get(f"/apis/{GROUP}")]
        listed = await api.get(GROUP_PATH)
        answer = await api.ask("/apis", headers={"Accept": f"{discovery.AGGREGATED},application/json"})
        assert answer.headers["Content-Type"] == discovery.AGGREGATED
        (version,) = answer.json["items"][0]["versions"]
        whole = {each["resource"]: each["verbs"] for each in version["resources"]}
        assert whole == {each["name"]: each["verbs"] for each in listed["resources"] if "/" not in each["name"]}
        (fleet,) = [each for each in version["resources"] if each["resource"] == "fleets"]
        assert [(each["subresource"], each["verbs"]) for each in fleet["subresources"]] == [
            ("api", ["create", "get"])
        ]


async def test_openapi_is_found_by_its_root_and_closed(tmp_path: Path) -> None:
    async with served(tmp_path, join=0) as api:
        (path,) = (await api.get("/openapi/v3"))["paths"].values()
        answer = await api.ask(path["serverRelativeURL"])
        assert "immutable" in answer.headers["Cache-Control"]
        document = answer.json
        schemas = document["components"]["schemas"]
        assert set(_refs(document)) <= {f"#/components/schemas/{name}" for name in schemas}
        for kind in ("NodeSnapshot", "FleetSnapshot", "Fleet"):
            schema = schemas[f"com.nvidia.eidos.fleet.v1alpha1.{kind}"]
            assert schema["x-kubernetes-group-version-kind"] == [
                {"group": GROUP, "version": "v1alpha1", "kind": kind}
            ]
            assert all("description" in _target(value, schemas) for value in schema["properties"].values())
        assert '"null"' not in openapi.group_document().decode(), "that is of OpenAPI 3.1"
        assert (await api.ask("/openapi/v2")).status == 404


def _target(schema: Any, schemas: Any) -> Any:
    """A field's schema, or the one it refers to: kubectl shows the description of either, one after the other."""
    (inner,) = schema.get("allOf", [schema])
    return schemas[inner["$ref"].rpartition("/")[2]] if "$ref" in inner else schema


def _refs(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for inner in value.values() for ref in _refs(inner)]
    return [ref for inner in value for ref in _refs(inner)] if isinstance(value, list) else []


class Recorder:
    """Lets nobody in, and notes what was wanted."""

    def __init__(self) -> None:
        self.wanted: list[str] = []
        self.known = True

    async def authenticate(self, credentials: Credentials) -> User | None:
        return User("somebody") if self.known else None

    async def refusal(self, user: User, access: Access) -> str:
        self.wanted.append(str(access))
        return "no rule"


@pytest.mark.parametrize(
    ("method", "path", "access"),
    [
        ("GET", f"{GROUP_PATH}/nodesnapshots", f"list nodesnapshots.{GROUP}"),
        ("GET", f"{GROUP_PATH}/nodesnapshots?watch=true", f"watch nodesnapshots.{GROUP}"),
        ("GET", f"{GROUP_PATH}/nodesnapshots?watch=t", f"watch nodesnapshots.{GROUP}"),
        ("GET", f"{GROUP_PATH}/nodesnapshots/n1", f"get nodesnapshots.{GROUP} n1"),
        ("GET", f"{GROUP_PATH}/nodesnapshots/n1?watch=true", f"get nodesnapshots.{GROUP} n1"),
        ("HEAD", f"{GROUP_PATH}/nodesnapshots/n1", f"get nodesnapshots.{GROUP} n1"),
        ("POST", f"{GROUP_PATH}/fleetsnapshots", f"create fleetsnapshots.{GROUP}"),
        ("GET", f"{API_PATH}/v1/nodes", f"get fleets/api.{GROUP} eidos"),
        ("GET", "/v1/nodes", f"get fleets/api.{GROUP} eidos"),
        ("GET", "/v1/facts/OS.release.ID", f"get fleets/api.{GROUP} eidos"),
        ("POST", "/v1/runs", f"create fleets/api.{GROUP} eidos"),
        ("GET", "/v1/query?expression=true", f"get fleets/api.{GROUP} eidos"),
        ("POST", "/v1/query", f"get fleets/api.{GROUP} eidos"),
        ("GET", "/metrics", "get /metrics"),
        ("GET", "/apis", "get /apis"),
        ("GET", "/nowhere", "get /nowhere"),
        # Ways to write a path that are not the path: nothing is served there, and no right to something else counts.
        ("GET", f"{GROUP_PATH}//nodesnapshots", f"get {GROUP_PATH}//nodesnapshots"),
        ("GET", f"{GROUP_PATH}/nodesnapshots%2Fn1", f"get {GROUP_PATH}/nodesnapshots/n1"),
        ("GET", "/V1/nodes", "get /V1/nodes"),
    ],
)
async def test_what_each_request_needs(tmp_path: Path, method: str, path: str, access: str) -> None:
    users = Recorder()
    async with served(tmp_path, join=0, users=users) as api:
        answer = await api.ask(path, method)
        assert (answer.status, users.wanted) == (403, [access])
        if method != "HEAD" and path.startswith("/apis") and not path.startswith(API_PATH):
            assert answer.json["reason"] == "Forbidden"
            assert answer.json["message"] == f"user 'somebody' may not {access}. no rule"
        users.known = False
        answer = await api.ask(path, method)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_probes_are_open(tmp_path: Path) -> None:
    users = Recorder()
    users.known = False
    async with served(tmp_path, join=0, users=users) as api:
        assert (await api.ask("/livez")).status == (await api.ask("/readyz")).status == 200
