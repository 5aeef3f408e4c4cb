"""What applying does to somebody else's namespace, and what is told of a change."""

import pytest

from common.errors import ClusterError, Code
from installer.applying import Change, Effect, changed_fields, missing_security_labels
from installer.rendering import Manifest

SECURITY = "pod-security.kubernetes.io/"


def namespace(**levels: str) -> Manifest:
    labels = {f"{SECURITY}{mode}": level for mode, level in levels.items()}
    return {"kind": "Namespace", "metadata": {"name": "team", "labels": {"team": "a", **labels}}}


def wanted(level: str) -> Manifest:
    return namespace(enforce=level, audit=level, warn=level)


@pytest.mark.parametrize(
    ("need", "there", "added"),
    [
        ("privileged", {}, {"enforce": "privileged", "audit": "privileged", "warn": "privileged"}),
        ("privileged", {"enforce": "privileged", "warn": "baseline"}, {"audit": "privileged"}),
        ("restricted", {"enforce": "baseline"}, {"audit": "restricted", "warn": "restricted"}),
        ("restricted", {"enforce": "privileged"}, {"audit": "restricted", "warn": "restricted"}),
    ],
)
def test_only_what_it_has_not_is_added(need: str, there: dict[str, str], added: dict[str, str]) -> None:
    labels = missing_security_labels(wanted(need), namespace(**there))["metadata"]["labels"]
    assert labels == {f"{SECURITY}{mode}": level for mode, level in added.items()}


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_a_stricter_level_is_refused(level: str) -> None:
    with pytest.raises(
        ClusterError, match=f"only pods of Pod Security level {level}, and agents need privileged"
    ) as it:
        missing_security_labels(wanted("privileged"), namespace(enforce=level))
    assert it.value.code is Code.CLUSTER_CONFLICT


def test_what_changed_is_named() -> None:
    def workload(image: str, selector: dict[str, str], **environment: str) -> Manifest:
        container = {
            "name": "eidos",
            "image": image,
            "env": [{"name": name, "value": value} for name, value in environment.items()],
        }
        pod = {"containers": [container], "tolerations": [{"operator": "Exists"}]}
        return {
            "kind": "DaemonSet",
            "metadata": {"generation": len(selector), "annotations": {"seen": image}},
            "spec": {"template": {"spec": pod | ({"nodeSelector": selector} if selector else {})}},
            "status": {"ready": len(selector)},
        }

    before = workload("a:1", {}, EIDOS_LOG="info", EIDOS_PORT="1")
    after = workload("a:2", {"pool": "x"}, EIDOS_LOG="debug", EIDOS_PORT="1")
    fields = changed_fields(before, after)
    pod = "spec.template.spec"
    assert fields == (f"{pod}.containers[eidos].env[EIDOS_LOG].value", f"{pod}.nodeSelector")
    change = Change("DaemonSet eidos/eidos-agent", Effect.CHANGED, ("a:1", "a:2"), 2, fields[1:])
    assert str(change) == f"DaemonSet eidos/eidos-agent changed: image a:1 -> a:2, {pod}.nodeSelector"
    assert str(change._replace(images=("", ""), fields=("x",) * 9)).endswith("changed: x, x, x, x, x, …")
