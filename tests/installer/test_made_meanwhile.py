"""What somebody makes under our names between our look and our write."""

import copy
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from common.errors import ClusterError, Code
from common.kube.client import Kube, KubeError
from common.kube.credentials import Credential, FixedCredentials
from common.kube.target import Target
from installer.applying import Effect, apply
from installer.objects import Item, build
from installer.settings import Settings
from tests.fakes.apiserver import Asked, FakeApiServer
from tests.fakes.objects import Json, Resource

OURS = {"app.kubernetes.io/part-of": "eidos", "app.kubernetes.io/managed-by": "eidos"}


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with FakeApiServer() as server:
        server.resources.append(Resource("clusterroles", "ClusterRole", "rbac.authorization.k8s.io/v1", False))
        yield server


@pytest.fixture
async def kube(api: FakeApiServer) -> AsyncIterator[Kube]:
    async with Kube(Target(server=api.url, credentials=FixedCredentials(Credential()))) as client:
        yield client


@pytest.fixture
def role() -> Item:
    return next(item for item in build(Settings()) if item.kind == "ClusterRole" and item.name == "eidos-aggregator")


def made(item: Item, labels: dict[str, str], **more: Any) -> Json:
    return {"metadata": {"name": item.name, "labels": labels}, "rules": [], **more}


def there(api: FakeApiServer) -> Json:
    (found,) = api.store.all("clusterroles")
    return found


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({"team": "other"}, "is there and is not part of an installation"),
        ({**OURS, "app.kubernetes.io/managed-by": "Helm"}, "was installed by Helm"),
    ],
)
async def test_what_is_somebody_elses_is_left_as_it_is(
    api: FakeApiServer, kube: Kube, role: Item, labels: dict[str, str], why: str
) -> None:
    api.add("clusterroles", made(role, labels))
    with pytest.raises(ClusterError, match=why) as refused:
        await apply(kube, role, {})
    assert refused.value.hint.startswith("It was made while this was at work.")
    assert (there(api)["metadata"]["labels"], there(api)["rules"]) == (labels, [])


async def test_ours_by_another_who_installs_is_brought_to_what_it_should_be(
    api: FakeApiServer, kube: Kube, role: Item
) -> None:
    api.add("clusterroles", made(role, OURS))
    assert (await apply(kube, role, {})).effect is Effect.CHANGED
    assert there(api)["rules"] == role.manifest["rules"]


async def test_nothing_is_taken_over_of_what_appears_at_the_very_moment(
    api: FakeApiServer, kube: Kube, role: Item
) -> None:
    def make(asked: Asked) -> None:
        if asked.verb == "patch":
            api.before = lambda asked: None
            api.add("clusterroles", made(role, {"team": "other"}))

    api.before = make
    with pytest.raises(KubeError) as refused:
        await apply(kube, role, {})
    assert refused.value.code is Code.CLUSTER_CONFLICT
    assert (there(api)["metadata"]["labels"], there(api)["rules"]) == ({"team": "other"}, [])


async def test_what_is_new_is_created(api: FakeApiServer, kube: Kube, role: Item) -> None:
    assert (await apply(kube, role, {})).effect is Effect.CREATED
    assert there(api)["rules"] == role.manifest["rules"]
    assert (await apply(kube, role, {role.path: there(api)})).effect is Effect.UNCHANGED


async def test_a_status_that_changes_meanwhile_is_no_change_of_the_object(
    api: FakeApiServer, kube: Kube, role: Item
) -> None:
    await apply(kube, role, {})
    seen = copy.deepcopy(there(api))
    await kube.patch(role.path, {"status": {"counted": 1}}, dict[str, Any])
    assert there(api)["metadata"]["resourceVersion"] != seen["metadata"]["resourceVersion"]
    assert (await apply(kube, role, {role.path: seen})).effect is Effect.UNCHANGED
