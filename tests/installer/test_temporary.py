"""Installations for one snapshot, on an API server of our own: what was there before stays."""

import pytest

from common.errors import ClusterError, Code
from installer import removal, temporary
from installer.settings import Settings
from installer.workflow import Observer, Report
from tests.fakes.apiserver import FakeApiServer, Fault
from tests.installer.test_leftovers import OURS, api, kube, named, target

__all__ = ["api", "kube"]


@pytest.fixture
def lightly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is applied but the claim, and no right is asked for."""

    async def carry_out(*_: object) -> Report:
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
            api.add("namespaces", named("eidos", OURS))
            api.add("pods", named("eidos-agent-x", labels), "eidos")

    with pytest.raises(ClusterError) as raised:
        await take()
    assert raised.value.code is Code.DEADLINE
    assert raised.value.message == (
        "left behind: Namespace eidos, because 1 pods end only when their nodes answer: eidos-agent-x"
    )
