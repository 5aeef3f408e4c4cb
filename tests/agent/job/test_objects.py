"""The objects of a run: least privilege, both kinds of pod, and every field of the configuration."""

from typing import Any

import pytest

from agent.job import objects
from agent.job.config import LABELS, RUN_ANNOTATION, Config, Toleration

RUN = "bcdf2345"


def _job(config: Config) -> Any:
    return objects.job(config, "eidos", "eidos", "cm://gpu-operator/out", RUN)


def _pod(config: Config) -> Any:
    return _job(config)["spec"]["template"]["spec"]


def _container(config: Config) -> Any:
    return _pod(config)["containers"][0]


def test_the_job_runs_once_and_never_forever() -> None:
    spec = _job(Config(seconds=90.5))["spec"]
    assert (spec["backoffLimit"], spec["completions"], spec["parallelism"]) == (0, 1, 1)
    assert spec["activeDeadlineSeconds"] == 90
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert _job(Config(seconds=0.5))["spec"]["activeDeadlineSeconds"] == 1  # zero is not allowed


def test_labels_say_what_it_is_and_the_annotation_whose_run() -> None:
    manifest = _job(Config())
    assert manifest["metadata"]["labels"] == LABELS
    assert manifest["spec"]["template"]["metadata"]["labels"] == LABELS
    assert manifest["metadata"]["annotations"] == {RUN_ANNOTATION: RUN}
    assert set(LABELS) == {
        *("app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/version"),
        "app.kubernetes.io/managed-by",
    }


def test_shared_objects_belong_to_no_run() -> None:
    assert "annotations" not in objects.service_account("eidos", "gpu-operator", "")["metadata"]
    assert objects.cluster_role("eidos", RUN)["metadata"]["annotations"] == {RUN_ANNOTATION: RUN}


def test_the_roles_grant_what_is_documented_and_no_more() -> None:
    assert objects.cluster_role("eidos", "")["rules"] == [
        {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["get", "list"]},
        {"apiGroups": ["nvidia.com"], "resources": ["clusterpolicies"], "verbs": ["get", "list"]},
    ]
    (rule,) = objects.role("eidos", "gpu-operator", "")["rules"]
    assert (rule["apiGroups"], rule["resources"]) == ([""], ["configmaps"])
    assert "*" not in rule["verbs"]


def test_the_bindings_bind_the_account_of_the_jobs_namespace() -> None:
    binding = objects.role_binding("eidos", "monitoring", "eidos", "gpu-operator", "")
    assert binding["metadata"]["namespace"] == "monitoring"
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "eidos"}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "eidos", "namespace": "gpu-operator"}]
    assert objects.cluster_role_binding("eidos", "eidos", "gpu-operator", "")["roleRef"]["kind"] == "ClusterRole"


def test_a_privileged_pod_sees_the_host_and_writes_nothing() -> None:
    pod, container = _pod(Config()), _container(Config())
    assert [pod[shared] for shared in ("hostPID", "hostNetwork", "hostIPC")] == [True, True, True]
    assert container["securityContext"] == {
        **{"privileged": True, "readOnlyRootFilesystem": True},
        **{"runAsUser": 0, "runAsGroup": 0},
    }
    (mount,) = container["volumeMounts"]
    assert (mount["mountPath"], mount["readOnly"], mount["mountPropagation"]) == ("/host", True, "HostToContainer")
    assert pod["volumes"] == [{"name": "host", "hostPath": {"path": "/", "type": "Directory"}}]


def test_a_restricted_pod_is_what_pss_restricted_demands() -> None:
    config = Config(privileged=False)
    pod, container = _pod(config), _container(config)
    assert not {"hostPID", "hostNetwork", "hostIPC", "volumes"} & pod.keys()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "volumeMounts" not in container


@pytest.mark.parametrize("privileged", [True, False])
def test_resources_have_defaults_and_each_can_be_replaced(privileged: bool) -> None:
    defaults = _container(Config(privileged=privileged))["resources"]
    assert set(defaults["requests"]) == set(defaults["limits"]) == {"cpu", "memory"}
    asked = Config(privileged=privileged, requests={"memory": "4Gi"}, limits={"ephemeral-storage": "1Gi"})
    resources = _container(asked)["resources"]
    assert resources["requests"] == {**defaults["requests"], "memory": "4Gi"}
    # The default memory limit stood below what is requested now.
    assert resources["limits"] == {"cpu": defaults["limits"]["cpu"], "ephemeral-storage": "1Gi"}


@pytest.mark.parametrize(
    ("requests", "limits", "gpus"),
    [
        (None, None, "1"),
        (None, {"nvidia.com/gpu": "4"}, "4"),
        ({"nvidia.com/gpu": "2"}, None, "2"),
    ],
)
def test_requiring_a_gpu_asks_for_one_unless_told_how_many(
    requests: dict[str, str] | None, limits: dict[str, str] | None, gpus: str
) -> None:
    container = _container(Config(require_gpu=True, requests=requests, limits=limits))
    assert container["resources"]["limits"]["nvidia.com/gpu"] == gpus
    assert "--require-gpu" in container["args"]


def test_a_runtime_class_makes_all_gpus_visible() -> None:
    config = Config(runtime_class_name="nvidia")
    assert _pod(config)["runtimeClassName"] == "nvidia"
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"} in _container(config)["env"]
    assert "nvidia.com/gpu" not in _container(config)["resources"]["limits"]
    assert "runtimeClassName" not in _pod(Config())


def test_every_taint_is_tolerated_unless_some_are_named() -> None:
    assert _pod(Config())["tolerations"] == [{"operator": "Exists"}]
    named = Config(tolerations=(Toleration("nvidia.com/gpu", "Equal", "present", "NoSchedule"),))
    assert _pod(named)["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"}
    ]


def test_where_it_runs_and_from_which_image() -> None:
    config = Config(
        node_selector={"nvidia.com/gpu.present": "true"},
        image="registry.example/eidos:v1",
        image_pull_policy="Always",
        image_pull_secrets=("regcred", "other"),
        service_account_name="ignored: names decide",
    )
    pod, container = _pod(config), _container(config)
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["imagePullSecrets"] == [{"name": "regcred"}, {"name": "other"}]
    assert (container["image"], container["imagePullPolicy"]) == ("registry.example/eidos:v1", "Always")
    assert pod["serviceAccountName"] == "eidos"


def test_what_the_container_is_told() -> None:
    config = Config(debug=True, max_nodes_per_entry=7, extra_arguments=("--collectors=os",), output="cm://a/b")
    container = _container(config)
    assert container["command"] == ["eidos"]
    assert container["args"] == ["snapshot", "--output", "cm://gpu-operator/out", "--debug", "--collectors=os"]
    environment = {entry["name"]: entry for entry in container["env"]}
    assert environment["EIDOS_MAX_NODES_PER_ENTRY"]["value"] == "7"
    assert environment["NODE_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"


def test_only_a_configmap_of_the_runs_own_is_owned_by_the_job() -> None:
    names = {entry["name"] for entry in _container(Config())["env"]}
    assert {"EIDOS_OUTPUT_JOB", "EIDOS_OUTPUT_JOB_UID"} <= names
    kept = {entry["name"] for entry in _container(Config(output="cm://a/b"))["env"]}
    assert not {"EIDOS_OUTPUT_JOB", "EIDOS_OUTPUT_JOB_UID"} & kept


def test_the_job_is_the_same_on_every_operating_system() -> None:
    assert _job(Config(os="talos")) == _job(Config())
