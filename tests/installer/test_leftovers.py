"""What is left of an installation, or looks like it, on an API server of our own."""

from collections.abc import AsyncIterator, Iterator
from copy import deepcopy
from typing import Any

import pytest

from common.errors import ClusterError
from common.kube.client import Kube
from common.kube.credentials import Credential, FixedCredentials
from common.kube.target import Target
from installer import temporary
from installer.applying import apply_all
from installer.objects import PLURALS, build, every_item
from installer.preflight import look
from installer.removal import uninstall
from installer.rendering import render
from installer.settings import Settings
from installer.workflow import Observer, Plan, locate
from tests.fakes.apiserver import FakeApiServer, Fault
from tests.fakes.objects import Json, Resource

OURS = {"app.kubernetes.io/part-of": "eidos", "app.kubernetes.io/name": "eidos"}
ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with FakeApiServer() as server:
        known = {resource.plural for resource in server.resources}
        kinds = {item.kind: item for item in every_item("eidos")}
        more = [Resource(PLURALS[kind], kind, item.api_version, bool(item.namespace)) for kind, item in kinds.items()]
        more += [Resource("secrets", "Secret"), Resource("leases", "Lease", "coordination.k8s.io/v1")]
        server.resources += [resource for resource in more if resource.plural not in known]
        yield server


@pytest.fixture
async def kube(api: FakeApiServer) -> AsyncIterator[Kube]:
    async with Kube(target(api)) as client:
        yield client


def target(api: FakeApiServer) -> Target:
    return Target(server=api.url, credentials=FixedCredentials(Credential()))


def named(name: str, labels: dict[str, str], **more: Any) -> Json:
    return {"metadata": {"name": name, "labels": labels}, **more}


async def test_what_is_left_is_found_without_a_binding(api: FakeApiServer, kube: Kube) -> None:
    """Of an uninstallation that was cut short, or when somebody has removed the binding by hand."""
    assert await locate(kube) == ""
    api.add("namespaces", named("fleet2", OURS))
    assert await locate(kube) == "fleet2"
    api.add("daemonsets", {"metadata": {"name": "eidos-agent", "namespace": "fleet3", "labels": OURS}}, "fleet3")
    assert await locate(kube) == "fleet3"
    for plural in ("daemonsets", "deployments", "namespaces"):
        api.forbidden.add(("list", plural))
    assert await locate(kube) == ""


async def test_a_document_of_somebody_else_stays(api: FakeApiServer, kube: Kube) -> None:
    """`eidos snapshot -o cm://team/eidos-fleet` wrote it: there is no installation in that namespace."""
    labels = {"app.kubernetes.io/name": "eidos", "app.kubernetes.io/component": "snapshot"}
    api.add("namespaces", named("team", {}))
    api.add("configmaps", named("eidos-fleet", labels, data={"snapshot.yaml": "x"}), "team")
    assert await uninstall(kube, "team", Observer(), 10) == []
    # With what only an aggregator writes, it is a fleet's.
    api.add("secrets", named("eidos-authority", OURS), "team")
    removed = await uninstall(kube, "team", Observer(), 10)
    assert sorted(removed) == ["configmaps team/eidos-fleet", "secrets team/eidos-authority"]


class Notes(Observer):
    """What a user is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


@pytest.mark.parametrize(
    "maker",
    ["eidos fleet install", "twice", "kubectl apply -k", "eidos fleet install --dry-run | kubectl apply", "them"],
)
async def test_a_namespace_goes_only_when_the_command_made_it(api: FakeApiServer, kube: Kube, maker: str) -> None:
    """Whatever its labels say: it is empty, and somebody may count on it."""
    (item,) = (item for item in build(Settings()) if item.kind == "Namespace")
    (as_shipped,) = (manifest for manifest in render(()) if manifest["kind"] == "Namespace")
    made = {"kubectl apply -k": as_shipped, "them": named("eidos", {"team": "x"})}
    ours = maker in ("eidos fleet install", "twice")
    if not ours:
        api.add("namespaces", made.get(maker, item.manifest))
    before = deepcopy(next(api.store.all("namespaces"), None))
    for _ in range(2 if maker == "twice" else 1):
        await apply_all(kube, [item], await look(kube, [item]))
    api.add("secrets", named("eidos-authority", OURS), "eidos")
    notes = Notes()
    removed = await uninstall(kube, "eidos", notes, 10)
    left = list(api.store.all("namespaces"))
    if before is None:
        assert (left, notes.told) == ([], [])
        assert removed == ["secrets eidos/eidos-authority", "Namespace eidos"]
    else:
        assert [namespace["metadata"]["labels"] for namespace in left] == [before["metadata"]["labels"]]
        assert removed == ["secrets eidos/eidos-authority"]
        assert notes.told == ["namespace eidos stays, because eidos fleet install did not make it"]


@pytest.fixture
def claiming(monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary installation whose first object is all that counts."""

    async def prepare(kube: Kube, settings: Settings, observer: Observer, *, temporary: bool) -> Plan:
        return Plan(settings, build(settings), {})

    async def carry_out(*_: object) -> None:
        return None

    monkeypatch.setattr(temporary, "prepare", prepare)
    monkeypatch.setattr(temporary, "carry_out", carry_out)


@pytest.mark.usefixtures("claiming")
async def test_a_claim_whose_answer_was_lost_is_removed_too(api: FakeApiServer) -> None:
    api.add("namespaces", named("eidos", {}))
    api.faults.append(Fault("late", f"POST {ROLES}"))
    async with temporary.installed(target(api), Settings(), Observer(), 20):
        assert len(list(api.store.all("clusterroles"))) == 1
    assert list(api.store.all("clusterroles")) == []


@pytest.mark.usefixtures("claiming")
async def test_the_claim_of_another_is_respected(api: FakeApiServer) -> None:
    first = next(item for item in build(Settings()) if item.kind == "ClusterRole")
    api.add("clusterroles", named(first.name, OURS))
    with pytest.raises(ClusterError, match="is there already, and --ephemeral would remove it"):
        async with temporary.installed(target(api), Settings(), Observer(), 20):
            pass
    assert len(list(api.store.all("clusterroles"))) == 1
