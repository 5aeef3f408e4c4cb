"""Installations for one snapshot, on an API server of our own: what was there before stays."""

from copy import deepcopy

import pytest

from common.errors import ClusterError, Code
from common.kube.client import Kube
from installer import preflight, removal, temporary
from installer.applying import apply_all
from installer.objects import build
from installer.rendering import render
from installer.settings import Settings
from installer.workflow import Observer, Plan, Report
from tests.agent.job.fake import JobApi
from tests.fakes.apiserver import FakeApiServer, Fault
from tests.installer.test_leftovers import OURS, api, kube, named, target

__all__ = ["api", "kube"]


@pytest.fixture
def lightly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is applied but the claim and the namespace, and no right is asked for."""

    async def carry_out(kube: Kube, plan: Plan, *_: object) -> Report:
        await apply_all(kube, plan.of("Namespace"), plan.found)
        return Report("eidos")

    async def nothing(*_: object, **__: object) -> None:
        return None

    monkeypatch.setattr(temporary, "carry_out", carry_out)
    for check in ("check_types", "check_permissions", "rehearse"):
        monkeypatch.setattr(f"installer.preflight.{check}", nothing)


def names(api: FakeApiServer, plural: str) -> list[str]:
    return [item["metadata"]["name"] for item in api.store.all(plural)]


@pytest.mark.usefixtures("lightly")
async def test_a_node_that_is_down_keeps_the_namespace_and_is_named(
    api: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "_AGENTS_END", 0.1)
    labels = {**OURS, "app.kubernetes.io/component": "agent"}
    # Its deletion is accepted, and not done as long as there is a pod.
    api.faults.append(Fault("text", "DELETE /api/v1/namespaces/eidos", message="{}"))

    async def take() -> None:
        async with temporary.installed(target(api), Settings(), Observer(), 20):
            api.add("pods", named("eidos-agent-x", labels), "eidos")

    with pytest.raises(ClusterError) as raised:
        await take()
    assert raised.value.code is Code.DEADLINE
    assert raised.value.message == (
        "left behind: Namespace eidos, because 1 pods end only when their nodes answer: eidos-agent-x"
    )


@pytest.mark.usefixtures("lightly")
@pytest.mark.parametrize("overlays", [(), ("restricted",)])
@pytest.mark.parametrize("maker", ["somebody", "kubectl apply -f namespace.yaml", "eidos fleet install"])
async def test_a_namespace_that_was_there_stays_as_it_was(
    api: FakeApiServer, kube: Kube, maker: str, overlays: tuple[str, ...]
) -> None:
    item = next(item for item in build(Settings(overlays=overlays)) if item.kind == "Namespace")
    manifest = next(manifest for manifest in render(()) if manifest["kind"] == "Namespace")
    if maker == "eidos fleet install":  # uninstalling has left it, because something was in it
        await apply_all(kube, [item], {})
    else:
        api.add("namespaces", named("eidos", {"team": "x"}) if maker == "somebody" else manifest)
    (before,) = deepcopy(list(api.store.all("namespaces")))
    async with temporary.installed(target(api), Settings(overlays=overlays), Observer(), 20):
        assert names(api, "clusterroles")
    (after,) = api.store.all("namespaces")
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    assert names(api, "clusterroles") == []


WRITTEN = (("secrets", "eidos-authority"), ("configmaps", "eidos-ca"), ("configmaps", "eidos-fleet"))


@pytest.mark.usefixtures("lightly")
@pytest.mark.parametrize(("plural", "name"), WRITTEN)
async def test_what_an_aggregator_wrote_before_is_not_touched(api: FakeApiServer, plural: str, name: str) -> None:
    """By Helm's, which leaves it; or `eidos snapshot -o cm://team/eidos-fleet`."""
    api.add("namespaces", named("team", {}))
    labels = {"app.kubernetes.io/name": "eidos", "app.kubernetes.io/component": "snapshot"}
    api.add(plural, named(name, labels, data={"snapshot.yaml": "last month's", "format": "yaml"}), "team")
    with pytest.raises(ClusterError, match=f"{name} is there already, and --ephemeral would remove it"):
        async with temporary.installed(target(api), Settings(namespace="team"), Observer(), 20):
            pytest.fail("installed")
    assert names(api, plural) == [name]
    assert names(api, "clusterroles") == []


async def test_rights_that_only_the_removal_needs_are_asked_for_first() -> None:
    """To find out whether somebody has put something into a namespace of ours, and that it is gone."""
    items = build(Settings())
    (namespace,) = (item for item in items if item.kind == "Namespace")
    api = JobApi()
    with api:
        api.denied = {("list", "widgets"), ("list", "namespaces"), ("watch", "namespaces")}
        async with Kube(target(api)) as kube:
            await preflight.check_permissions(kube, items, {})
            # In a namespace that was there nothing is looked for, and it stays.
            await preflight.check_permissions(kube, items, {namespace.path: {}}, removing=True)
            with pytest.raises(ClusterError) as refused:
                await preflight.check_permissions(kube, items, {}, removing=True)
    assert "list or watch namespaces" in refused.value.message
    assert "list widgets.example.com in namespace eidos" in refused.value.message
