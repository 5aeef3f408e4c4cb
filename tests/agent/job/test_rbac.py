"""The objects around the Job: made once, mended when stale, shared between namespaces, never taken from others."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.job import rbac
from agent.job.config import LABELS, MANAGED_BY, RUN_ANNOTATION, Config
from agent.job.names import choose
from agent.job.rbac import Action, TakenError, Wanted
from common.errors import ClusterError, Code
from common.kube.client import Kube
from tests.agent.job.fake import JobApi
from tests.fakes.apiserver import Fault

KINDS = ["namespaces", "serviceaccounts", "roles", "rolebindings", "clusterroles", "clusterrolebindings"]


async def _looked(kube: Kube, config: Config | None = None) -> tuple[list[Wanted], str]:
    names = choose(config or Config())
    wanted = rbac.wanted(config or Config(), names)
    await rbac.look(kube, wanted, names.run)
    return wanted, names.run


async def _ensured(kube: Kube, config: Config | None = None) -> tuple[list[Wanted], str]:
    wanted, run = await _looked(kube, config)
    for item in wanted:
        await rbac.ensure(kube, item, run)
    return wanted, run


async def test_in_an_empty_cluster_everything_is_made(api: JobApi, kube: Kube) -> None:
    async with kube:
        wanted, _ = await _ensured(kube)
        assert [item.resource for item in wanted] == KINDS
        assert all(item.made and item.ours and item.uid for item in wanted)
        assert {plural for plural, _ in api.everything()} == set(KINDS)


async def test_the_second_time_nothing_is_changed(api: JobApi, kube: Kube) -> None:
    async with kube:
        await _ensured(kube)
        version = api.store.version
        wanted, _ = await _ensured(kube)
    assert api.store.version == version
    assert [item.action for item in wanted] == [Action.KEEP] * 6
    assert [item.made for item in wanted] == [False] * 6


async def test_a_namespace_that_was_there_is_labelled_and_not_ours_to_delete(api: JobApi, kube: Kube) -> None:
    api.add("namespaces", {"metadata": {"name": "gpu-operator", "labels": {"team": "infra"}}})
    async with kube:
        (namespace, *_), _ = await _ensured(kube)
    assert not namespace.made
    assert api.one("namespaces", "gpu-operator")["metadata"]["labels"] == {"team": "infra", MANAGED_BY: "eidos"}


async def test_a_label_that_may_not_be_set_is_done_without(api: JobApi, kube: Kube) -> None:
    api.add("namespaces", {"metadata": {"name": "gpu-operator"}})
    api.forbidden.add(("patch", "namespaces"))
    async with kube:
        await _ensured(kube)
    assert api.names("serviceaccounts") == ["eidos"]


async def test_a_namespace_that_is_going_is_said_at_once(api: JobApi, kube: Kube) -> None:
    api.add("namespaces", {"metadata": {"name": "gpu-operator", "deletionTimestamp": "2026-01-03T10:30:00Z"}})
    async with kube:
        with pytest.raises(ClusterError, match="namespace gpu-operator is being deleted") as raised:
            await _looked(kube)
    assert raised.value.code is Code.CLUSTER_CONFLICT


async def test_stale_rules_are_replaced(api: JobApi, kube: Kube) -> None:
    async with kube:
        await _ensured(kube)
        everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
        role = api.one("clusterroles", "eidos")
        api.store.merge(_resource(api, "clusterroles"), ("", "eidos"), {"rules": everything})
        await _ensured(kube)
    assert api.one("clusterroles", "eidos")["rules"] == role["rules"]


def _resource(api: JobApi, plural: str) -> Any:
    return next(r for r in api.resources if r.plural == plural)


async def test_one_binding_serves_several_namespaces(api: JobApi, kube: Kube) -> None:
    async with kube:
        for namespace in ("east", "west", "east"):
            await _ensured(kube, Config(namespace=namespace))
    subjects = api.one("clusterrolebindings", "eidos")["subjects"]
    assert [subject["namespace"] for subject in subjects] == ["east", "west"]


async def test_many_namespaces_at_the_same_time_lose_no_subject(api: JobApi, kube: Kube) -> None:
    async with kube:
        await asyncio.gather(*(_ensured(kube, Config(namespace=f"n{number}")) for number in range(8)))
    subjects = api.one("clusterrolebindings", "eidos")["subjects"]
    assert {subject["namespace"] for subject in subjects} == {f"n{number}" for number in range(8)}


async def test_withdrawing_leaves_the_others_in(api: JobApi, kube: Kube) -> None:
    async with kube:
        east, _ = await _ensured(kube, Config(namespace="east"))
        west, _ = await _ensured(kube, Config(namespace="west"))
        assert not await rbac.withdraw(kube, east[-1])
        assert [s["namespace"] for s in api.one("clusterrolebindings", "eidos")["subjects"]] == ["west"]
        west[-1].uid = api.one("clusterrolebindings", "eidos")["metadata"]["uid"]
        assert await rbac.withdraw(kube, west[-1])
        assert api.names("clusterrolebindings") == []
        assert await rbac.withdraw(kube, west[-1])


async def test_another_runs_temporary_objects_are_not_used(api: JobApi, kube: Kube) -> None:
    async with kube:
        _, run = await _ensured(kube, Config(cleanup_rbac=True))
        _running(api, run)
        with pytest.raises(TakenError, match="belongs to another run"):
            await _looked(kube)


def _running(api: JobApi, run: str, **status: Any) -> None:
    """The Job of a run, in whatever namespace."""
    labels, annotations = dict(LABELS), {RUN_ANNOTATION: run}
    metadata = {"name": "theirs", "labels": labels, "annotations": annotations}
    api.add("jobs", {"metadata": metadata, "status": status}, "elsewhere")


@pytest.mark.parametrize("own", [True, False])
async def test_what_a_killed_run_has_left_is_taken_over(api: JobApi, kube: Kube, own: bool) -> None:
    """Its Job has finished or is gone, so nobody is left who would delete these; they are made anew."""
    async with kube:
        before, dead = await _ensured(kube, Config(cleanup_rbac=True))
        _running(api, dead, conditions=[{"type": "Failed", "status": "True"}])
        after, run = await _ensured(kube, Config(cleanup_rbac=own))
    assert [item.made for item in after] == [False, *[True] * 5]
    assert not {item.uid for item in before[1:]} & {item.uid for item in after}
    for plural in KINDS[1:]:
        annotations = api.one(plural, "eidos")["metadata"].get("annotations", {})
        assert annotations == ({RUN_ANNOTATION: run} if own else {})


async def test_several_take_over_and_one_has_it(api: JobApi, kube: Kube) -> None:
    async with kube:
        await _ensured(kube, Config(cleanup_rbac=True))
        (_, first, *_), one = await _looked(kube, Config(cleanup_rbac=True))
        (_, second, *_), other = await _looked(kube, Config(cleanup_rbac=True))
        await rbac.ensure(kube, first, one)
        with pytest.raises(TakenError):
            await rbac.ensure(kube, second, other)
    assert api.one("serviceaccounts", "eidos")["metadata"]["annotations"] == {RUN_ANNOTATION: one}


@pytest.mark.parametrize("why", ["fresh", "out-of-sight", "foreign"])
async def test_what_may_be_a_living_runs_is_not_taken_over(api: JobApi, kube: Kube, why: str) -> None:
    """A run makes its Job last; whoever may not list Jobs cannot know; and a mark alone makes nothing ours."""
    metadata = {"name": "eidos", "labels": dict(LABELS), "annotations": {RUN_ANNOTATION: "theirs"}}
    if why == "fresh":
        metadata["creationTimestamp"] = datetime.now(UTC).isoformat()
    elif why == "out-of-sight":
        api.forbidden.add(("list", "jobs"))
    else:
        metadata["labels"] = {}
    api.add("serviceaccounts", {"metadata": metadata}, "gpu-operator")
    async with kube:
        with pytest.raises(TakenError, match="ServiceAccount gpu-operator/eidos belongs to another run"):
            await _looked(kube)


async def test_a_binding_to_another_role_is_not_used(api: JobApi, kube: Kube) -> None:
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    api.add("clusterrolebindings", {"metadata": {"name": "eidos"}, "roleRef": role})
    async with kube:
        with pytest.raises(TakenError):
            await _looked(kube)


@pytest.mark.parametrize("labels", [{}, {MANAGED_BY: "Helm"}, {**LABELS, "app.kubernetes.io/component": "agent"}])
@pytest.mark.parametrize("kind", ["roles", "clusterroles", "rolebindings", "clusterrolebindings"])
async def test_others_objects_are_never_changed(api: JobApi, kube: Kube, kind: str, labels: dict[str, str]) -> None:
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "eidos"}
    role["kind"] = "ClusterRole" if kind.startswith("cluster") else "Role"
    content: dict[str, Any] = {"roleRef": role} if kind.endswith("bindings") else {"rules": []}
    there = api.add(kind, {"metadata": {"name": "eidos", "labels": labels}, **content}, "gpu-operator")
    async with kube:
        with pytest.raises(TakenError, match="eidos was not made by Eidos and is left alone"):
            await _looked(kube)
    assert list(api.store.all(kind)) == [there]


async def test_what_the_manifests_made_is_mended_and_not_ours_to_delete(api: JobApi, kube: Kube) -> None:
    """kubectl apply -f manifests/job/1-deps.yaml says by two labels what it is for."""
    labels = {"app.kubernetes.io/name": "eidos", "app.kubernetes.io/component": "snapshot"}
    api.add("clusterroles", {"metadata": {"name": "eidos", "labels": labels}, "rules": []})
    async with kube:
        wanted, _ = await _ensured(kube)
    role = next(item for item in wanted if item.resource == "clusterroles")
    assert api.one("clusterroles", "eidos")["rules"] == role.manifest["rules"]
    assert not role.ours


async def test_what_may_not_be_looked_at_is_taken_as_it_is(api: JobApi, kube: Kube) -> None:
    api.forbidden |= {("get", kind) for kind in KINDS}
    async with kube:
        wanted, _ = await _looked(kube)
    assert [item.action for item in wanted] == [Action.KEEP] * 6
    assert not any(item.ours for item in wanted)


async def test_somebody_may_be_faster(api: JobApi, kube: Kube) -> None:
    async with kube:
        wanted, run = await _looked(kube)
        await _ensured(kube)
        for item in wanted:
            await rbac.ensure(kube, item, run)
    assert not any(item.made for item in wanted)


async def test_a_creation_whose_answer_was_lost_is_found_again(api: JobApi, kube: Kube) -> None:
    """Only by the run's own annotation, so never what somebody else made."""
    async with kube:
        (_, account, *_), run = await _looked(kube, Config(cleanup_rbac=True))
        api.faults.append(Fault("late", "serviceaccounts"))
        with pytest.raises(ClusterError):
            await rbac.ensure(kube, account, run)
        await rbac.adopt(kube, account, "another")
        seen = [account.made]
        await rbac.adopt(kube, account, run)
        assert [*seen, account.made] == [False, True]
        assert account.uid == api.one("serviceaccounts", "eidos")["metadata"]["uid"]


async def test_what_may_not_be_granted_is_found_by_rehearsal(api: JobApi, kube: Kube) -> None:
    api.forbidden.add(("create", "clusterroles"))
    async with kube:
        wanted, _ = await _looked(kube)
        with pytest.raises(ClusterError, match="create clusterroles") as raised:
            await rbac.rehearse(kube, wanted)
    assert raised.value.hint.startswith("Nothing was created.")
    assert api.everything() == set()


def test_labels_and_annotations_decide_whose_an_object_is() -> None:
    config = Config(cleanup_rbac=True)
    names = choose(config)
    for item in rbac.wanted(config, names):
        assert item.manifest["metadata"]["labels"] == LABELS
        assert item.manifest["metadata"]["annotations"] == {RUN_ANNOTATION: names.run}
