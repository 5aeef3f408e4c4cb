"""What is said when permissions are missing."""

import pytest

from common.errors import ClusterError, Code
from common.kube.permissions import Permission, PermissionCheck, refuse_missing


def refusal(*missing: Permission) -> ClusterError:
    allowed = PermissionCheck(Permission("get", "nodes"), True, "")
    with pytest.raises(ClusterError) as caught:
        refuse_missing([allowed, *(PermissionCheck(permission, False, "") for permission in missing)], "Ask.")
    return caught.value


def test_one() -> None:
    error = refusal(Permission("create", "jobs", "batch", "gpu-operator"))
    assert error.code is Code.CLUSTER_FORBIDDEN
    assert str(error) == "you may not create jobs.batch in namespace gpu-operator. Ask."
    assert refusal(Permission("get", "pods", subresource="log")).message == "you may not get pods/log"


def test_many_that_lack_the_same_share_a_clause() -> None:
    """An installation needs some sixty; a sentence for each is nothing that anybody reads."""
    named = [("clusterroles", "rbac.authorization.k8s.io", ""), ("services", "", "eidos"), ("secrets", "", "eidos")]
    missing = [Permission(verb, name, group, where) for verb in ("get", "create") for name, group, where in named]
    error = refusal(*missing, Permission("watch", "pods", "", "eidos"))
    assert error.message == (
        "you may not get or create clusterroles.rbac.authorization.k8s.io; nor get or create services and secrets "
        "in namespace eidos; nor watch pods in namespace eidos"
    )


def test_none() -> None:
    refuse_missing([PermissionCheck(Permission("get", "nodes"), True, "")], "Ask.")
