"""FleetSnapshots: creating one starts a run, and what is refused starts none."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from common.fleet_api import API_PATH
from tests.aggregator.apiservice.served import TABLE, Asked, Served, served
from tests.fleet.scene import until

BODY = {"apiVersion": "fleet.eidos.nvidia.com/v1alpha1", "kind": "FleetSnapshot"}


def body(name: str = "mine", **spec: Any) -> dict[str, Any]:
    return {**BODY, "metadata": {"name": name, "labels": {"why": "test"}}, "spec": spec}


def bearing(**metadata: Any) -> dict[str, Any]:
    return {**BODY, "metadata": {"name": "mine", **metadata}}


async def create(api: Served, document: object, **query: str) -> Asked:
    return await api.ask("fleetsnapshots", "POST", json=document, params=query)


async def done(api: Served, name: str) -> Any:
    item: Any = {}
    for _ in range(2000):
        item = await api.get(f"fleetsnapshots/{name}")
        if item["status"]["phase"] in ("Done", "Failed"):
            return item
        await asyncio.sleep(0.02)
    raise AssertionError(item)


async def test_creating_starts_a_run_over_what_the_spec_says(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        answer = await create(api, body(nodes="n[1-2],n5", sections=["GPU"], seconds=3))
        assert answer.status == 201
        assert answer.json["metadata"]["name"] == "mine"
        assert answer.json["status"]["phase"] in ("Collecting", "Folding", "Done")
        item = await done(api, "mine")
        assert item["spec"] == {"nodes": "n[1-2],n5", "sections": ["GPU"], "seconds": 3.0}
        assert item["metadata"]["labels"] == {"why": "test"}
        assert item["status"]["states"] == {"ok": 2, "no-agent": 1}
        assert item["status"]["document"].startswith(f"{API_PATH}/v1/runs/")
        document = await api.get(item["status"]["document"])
        assert [measurement["type"] for measurement in document["measurements"]] == ["GPU"]
        listed = await api.get("fleetsnapshots", params={"labelSelector": "why=test"})
        assert [each["metadata"]["name"] for each in listed["items"]] == ["mine"], "a run is shown once"


async def test_runs_started_otherwise_are_shown_under_their_ids(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        _, run = await api.scene.run()
        listed = await api.get("fleetsnapshots")
        assert [item["metadata"]["name"] for item in listed["items"]] == [run.id]
        table = await api.get("fleetsnapshots", headers={"Accept": TABLE})
        assert table["rows"][0]["cells"][:4] == [run.id, "Done", 5, 3]


async def test_a_run_keeps_its_numbers_longer_than_its_document(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        _, first = await api.scene.run()
        took = first.progress().seconds
        before = (await api.get(f"fleetsnapshots/{first.id}"))["status"]
        for _ in range(4):
            await api.scene.run()
        await asyncio.sleep(0.01)
        after = (await api.get(f"fleetsnapshots/{first.id}"))["status"]
        assert before.pop("document")
        assert after == before
        assert (after["groups"], after["seconds"]) == (3, took)
        assert first.progress().seconds == took, "how long it took, not how long ago it began"


async def test_a_name_is_made_up_where_one_is_wanted(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        answer = await create(api, {**BODY, "metadata": {"generateName": "nightly-"}})
        name = answer.json["metadata"]["name"]
        assert name.startswith("nightly-")
        assert len(name) == len("nightly-") + 5


async def test_equal_requests_share_a_run(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        for agent in [await api.scene.join("n4", 3)]:
            agent.answers_collect = False
        one, two = await create(api, body("one", seconds=2)), await create(api, body("two", seconds=2))
        assert one.json["status"]["run"] == two.json["status"]["run"]
        assert (await done(api, "one"))["status"]["states"] == (await done(api, "two"))["status"]["states"]


@pytest.mark.parametrize(
    ("document", "query", "code", "reason"),
    [
        (body(selectr="x"), {"fieldValidation": "Strict"}, 400, "BadRequest"),
        ({**body(), "kind": "NodeSnapshot"}, {}, 400, "BadRequest"),
        ([], {}, 400, "BadRequest"),
        (body(selector="a=b=c"), {}, 400, "BadRequest"),
        (body(selector="a=b=c"), {"dryRun": "All"}, 400, "BadRequest"),
        (body(nodes="n[1-"), {}, 400, "BadRequest"),
        (body(sections=["GPUS"]), {}, 422, "Invalid"),
        (body(seconds="long"), {}, 422, "Invalid"),
        (body(seconds=0), {}, 422, "Invalid"),
        (body(seconds=3000), {}, 400, "BadRequest"),
        (body("Not A Name"), {}, 422, "Invalid"),
        ({**BODY, "metadata": {}}, {}, 422, "Invalid"),
        ({**BODY, "metadata": [], "spec": 1}, {}, 422, "Invalid"),
        (body(), {"dryRun": "Foo"}, 422, "Invalid"),
        (bearing(labels={"bad label!": "x"}), {}, 422, "Invalid"),
        (bearing(labels={"why": "x \x1b[31m"}), {}, 422, "Invalid"),
        (bearing(labels={"Not A Prefix/why": "x"}), {}, 422, "Invalid"),
        (bearing(labels={"/why": "x"}), {}, 422, "Invalid"),
        (bearing(labels={"x" * 64: "x"}), {"dryRun": "All"}, 422, "Invalid"),
        (bearing(annotations={"": "x"}), {}, 422, "Invalid"),
        (bearing(annotations={"why": "x" * 20_000}), {}, 422, "Invalid"),
    ],
)
async def test_what_makes_no_sense_starts_nothing(
    tmp_path: Path, document: object, query: dict[str, str], code: int, reason: str
) -> None:
    async with served(tmp_path, join=0) as api:
        await api.status("fleetsnapshots", code, reason, method="POST", json=document, params=query)
        assert api.scene.fleet.runs.remembered() == []


@pytest.mark.parametrize(
    ("document", "field", "why"),
    [
        (body(seconds=-1), "spec.seconds", "Expected float > 0.0"),
        (body(nodes=5), "spec.nodes", "Expected str, got int"),
        (body(sections=["GPUS"]), "spec.sections", "'GPUS' is none of K8s"),
        (body(sections=[1]), "spec.sections[0]", "Expected str, got int"),
        ({**body(), "spec": 1}, "spec", "Expected object, got int"),
        (body("Not A Name"), "metadata.name", "is no name of an object"),
    ],
)
async def test_of_an_invalid_object_kubectl_is_told_the_field(
    tmp_path: Path, document: object, field: str, why: str
) -> None:
    async with served(tmp_path, join=0) as api:
        (cause,) = (await create(api, document)).json["details"]["causes"]
        assert (cause["field"], cause["reason"]) == (field, "FieldValueInvalid")
        assert why in cause["message"]


async def test_a_dry_run_and_a_warning(tmp_path: Path) -> None:
    async with served(tmp_path, join=0) as api:
        answer = await create(api, body(sections=["OS"]), dryRun="All")
        assert (answer.status, answer.json["spec"]) == (201, {"sections": ["OS"]})
        assert api.scene.fleet.runs.remembered() == []
        answer = await create(api, body(selectr="x"))
        assert (answer.status, answer.headers["Warning"]) == (201, '299 - "unknown field \\"spec.selectr\\""')


async def test_labels_and_annotations_are_kept_as_given(tmp_path: Path) -> None:
    async with served(tmp_path, join=0) as api:
        labels = {"why": "", "app.kubernetes.io/name": "A_b.c-1", "x" * 63: "y" * 63}
        annotations = {"example.com/Note": "any text: \u00e9 \n"}
        answer = await create(api, bearing(labels=labels, annotations=annotations))
        assert answer.status == 201
        assert (answer.json["metadata"]["labels"], answer.json["metadata"]["annotations"]) == (labels, annotations)


async def test_null_is_what_is_not_set(tmp_path: Path) -> None:
    """As kube-apiserver has it, and as clients made of Go's types send it."""
    unset = dict.fromkeys(("creationTimestamp", "labels", "annotations", "generateName", "uid", "resourceVersion"))
    spec = {"nodes": "n1", **dict.fromkeys(("selector", "sections", "seconds"))}
    async with served(tmp_path, join=1) as api:
        answer = await create(api, {**bearing(**unset), "spec": spec, "status": None}, fieldValidation="Strict")
        assert answer.status == 201, answer.body
        assert answer.json["spec"] == {"nodes": "n1"}
        answer = await create(api, {**BODY, "metadata": {**unset, "name": "other"}, "spec": None})
        assert answer.status == 201, answer.body


async def test_a_body_of_another_type(tmp_path: Path) -> None:
    async with served(tmp_path, join=0) as api:
        headers = {"Content-Type": "application/yaml"}
        await api.status("fleetsnapshots", 415, "UnsupportedMediaType", method="POST", data=b"{}", headers=headers)


async def test_warnings_have_an_end(tmp_path: Path) -> None:
    async with served(tmp_path, join=0) as api:
        answer = await create(api, {**body(), **{f"k{number}": 1 for number in range(3000)}})
        assert (answer.status, len(answer.headers.getall("Warning"))) == (201, 10)


async def test_only_so_many_names_for_one_run(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        (await api.scene.join("n4", 3)).answers_collect = False
        told = [await create(api, body(f"x{number}", seconds=60)) for number in range(40)]
        assert [answer.status for answer in told] == [201] * 32 + [429] * 8
        assert told[-1].json["reason"] == "TooManyRequests"
        assert (await create(api, body("other", nodes="n1"))).status == 201, "other runs have names of their own"
        assert len((await api.get("fleetsnapshots"))["items"]) == 33


async def test_a_name_that_is_taken(tmp_path: Path) -> None:
    async with served(tmp_path, join=0) as api:
        await create(api, body(nodes="n1"))
        told = await api.status("fleetsnapshots", 409, "AlreadyExists", method="POST", json=body(nodes="n2"))
        assert told == 'fleetsnapshots.fleet.eidos.nvidia.com "mine" already exists'


async def test_nothing_can_be_changed_or_deleted(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        _, run = await api.scene.run()
        for method in ("PATCH", "PUT", "DELETE"):
            await api.status(f"fleetsnapshots/{run.id}", 405, "MethodNotAllowed", method=method, json={})


async def test_objects_go_with_their_runs(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        await create(api, body(nodes="n1"))
        await done(api, "mine")
        for number in range(api.scene.fleet.settings.run.kept):
            await api.scene.run(nodes=f"n{number % 3 + 1}")
        await api.status("fleetsnapshots/mine", 404, "NotFound")


async def test_a_watch_follows_a_run_to_its_end(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        query = {"watch": "true", "fieldSelector": "metadata.name=mine"}
        async with api.watching("fleetsnapshots", params=query) as events:
            await create(api, body(seconds=3))
            phases = []
            while "Done" not in phases:
                event = await anext(events)
                phases.append(event["object"]["status"]["phase"])
        assert event["type"] in ("ADDED", "MODIFIED")


async def test_the_fleet_in_numbers(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        assert (await api.get("fleets/eidos"))["status"] == {"nodes": 5, "connected": 3}
        document, _ = await api.scene.run()
        item = await api.get("fleets/eidos")
        assert item["status"]["states"] == {"ok": 3, "no-agent": 2}
        assert item["status"]["run"] == document.metadata.run
        table = await api.get("fleets", headers={"Accept": TABLE})
        assert table["rows"][0]["cells"][:3] == ["eidos", 5, 3]


async def test_the_api_behind_it_is_the_api_itself(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        lines = await api.ask(f"{API_PATH}/v1/runs", "POST", json={}, headers={"Accept": "application/x-ndjson"})
        assert lines.body.splitlines()[-1].startswith(b'{"run":"')
        assert await api.get(f"{API_PATH}/v1/snapshot") == await api.get("/v1/snapshot")
        missing = await api.ask(f"{API_PATH}/v1/nodes/none")
        assert missing.headers["Content-Type"].startswith("application/problem+json")
        await until(lambda: len(api.scene.fleet.runs.remembered()) == 1)
        await api.status("fleets/other/api/v1/nodes", 404, "NotFound")
