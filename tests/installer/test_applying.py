"""Somebody else's namespace: its own Pod Security level stays where it admits the agents."""

import pytest

from common.errors import ClusterError, Code
from installer.applying import missing_security_labels
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
