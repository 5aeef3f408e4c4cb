"""The Kubernetes objects of one run, as plain dictionaries. Pure."""

from typing import Any, Final

from agent.job.config import (
    LABELS,
    PRIVILEGED_LIMITS,
    PRIVILEGED_REQUESTS,
    RESTRICTED_LIMITS,
    RESTRICTED_REQUESTS,
    RUN_ANNOTATION,
    Config,
)
from common.kube.owner import OWNER_NAME, OWNER_UID

Manifest = dict[str, Any]

CONTAINER: Final = "eidos"
JOB_UID_LABEL: Final = "batch.kubernetes.io/controller-uid"
"""On the pods of a Job: the Job's UID."""
_RBAC: Final = "rbac.authorization.k8s.io"
_GPU: Final = "nvidia.com/gpu"
_NODE_USER: Final = 65532
_KEEP_SECONDS: Final = 3600
"""Kubernetes removes a finished Job after so long, should nobody be left to do it."""


def namespace(name: str, run: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": _metadata(name, "", run)}


def service_account(name: str, where: str, run: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(name, where, run)}


def role(name: str, where: str, run: str) -> Manifest:
    """May write the snapshot's ConfigMap and its shards, whose names follow from their content."""
    rules = [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "verbs": ["get", "list", "create", "update", "patch", "delete"],
        }
    ]
    return {"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": _metadata(name, where, run), "rules": rules}


def cluster_role(name: str, run: str) -> Manifest:
    """May read what the Kubernetes collectors read, and nothing else."""
    rules = [
        {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["get", "list"]},
        {"apiGroups": ["nvidia.com"], "resources": ["clusterpolicies"], "verbs": ["get", "list"]},
    ]
    return {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": _metadata(name, "", run), "rules": rules}


def role_binding(name: str, where: str, account: str, account_namespace: str, run: str) -> Manifest:
    return {
        **_binding("RoleBinding", "Role", name, account, account_namespace),
        "metadata": _metadata(name, where, run),
    }


def cluster_role_binding(name: str, account: str, account_namespace: str, run: str) -> Manifest:
    return {
        **_binding("ClusterRoleBinding", "ClusterRole", name, account, account_namespace),
        "metadata": _metadata(name, "", run),
    }


def job(config: Config, name: str, account: str, output: str, run: str) -> Manifest:
    """The Job. `output` is the ConfigMap reference it writes to, `run` names the run it belongs to."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(name, config.namespace, run),
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": max(1, int(config.seconds)),
            "ttlSecondsAfterFinished": _KEEP_SECONDS,
            "template": {"metadata": {"labels": dict(LABELS)}, "spec": _pod(config, name, account, output)},
        },
    }


def _pod(config: Config, name: str, account: str, output: str) -> Manifest:
    pod: Manifest = {
        "serviceAccountName": account,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5,
        "containers": [_container(config, name, output)],
        "nodeSelector": dict(config.node_selector),
        "tolerations": [toleration.manifest() for toleration in config.tolerations],
        "imagePullSecrets": [{"name": secret} for secret in config.image_pull_secrets],
    }
    if config.runtime_class_name:
        pod["runtimeClassName"] = config.runtime_class_name
    if config.privileged:
        # The sysctls of network, IPC, host name and process ids are per namespace: these show the host's.
        pod |= {"hostNetwork": True, "hostIPC": True, "hostPID": True, "dnsPolicy": "ClusterFirstWithHostNet"}
        pod["volumes"] = [{"name": "host", "hostPath": {"path": "/", "type": "Directory"}}]
    else:
        pod["securityContext"] = {
            "runAsNonRoot": True,
            "runAsUser": _NODE_USER,
            "runAsGroup": _NODE_USER,
            "fsGroup": _NODE_USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    return {field: value for field, value in pod.items() if value or field == "terminationGracePeriodSeconds"}


def _container(config: Config, name: str, output: str) -> Manifest:
    arguments = ["snapshot", "--output", output]
    arguments += ["--require-gpu"] if config.require_gpu else []
    arguments += ["--debug"] if config.debug else []
    container: Manifest = {
        "name": CONTAINER,
        "image": config.image,
        "imagePullPolicy": config.image_pull_policy,
        "command": ["eidos"],
        "args": [*arguments, *config.extra_arguments],
        "env": _environment(config, name),
        "resources": _resources(config),
        # The last lines of the log come with the pod's status, where log reading is not allowed.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if config.privileged:
        container["securityContext"] = {
            "privileged": True,
            "runAsUser": 0,
            "runAsGroup": 0,
            "readOnlyRootFilesystem": True,
        }
        container["volumeMounts"] = [
            {"name": "host", "mountPath": "/host", "readOnly": True, "mountPropagation": "HostToContainer"}
        ]
    else:
        container["securityContext"] = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    return container


def _environment(config: Config, name: str) -> list[Manifest]:
    environment: list[Manifest] = [
        {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "EIDOS_MAX_NODES_PER_ENTRY", "value": str(config.max_nodes_per_entry)},
    ]
    if not config.output:
        # The ConfigMap is the Job's and goes with it, also when nobody is left to delete it.
        environment += [
            {"name": OWNER_NAME, "value": name},
            {"name": OWNER_UID, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{JOB_UID_LABEL}']"}}},
        ]
    if config.runtime_class_name:
        environment.append({"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"})
    return environment


def _resources(config: Config) -> Manifest:
    requests = dict(PRIVILEGED_REQUESTS if config.privileged else RESTRICTED_REQUESTS)
    limits = dict(PRIVILEGED_LIMITS if config.privileged else RESTRICTED_LIMITS)
    # A default limit must not stand below what the user requests.
    limits = {name: amount for name, amount in limits.items() if name not in (config.requests or {})}
    requests |= config.requests or {}
    limits |= config.limits or {}
    if config.require_gpu:
        limits.setdefault(_GPU, requests.get(_GPU, "1"))  # Kubernetes wants both the same for devices
    return {"requests": requests, "limits": limits}


def _metadata(name: str, where: str, run: str) -> Manifest:
    metadata: Manifest = {"name": name, "labels": dict(LABELS)}
    if where:
        metadata["namespace"] = where
    if run:
        metadata["annotations"] = {RUN_ANNOTATION: run}
    return metadata


def _binding(kind: str, role_kind: str, name: str, account: str, account_namespace: str) -> Manifest:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": kind,
        "roleRef": {"apiGroup": _RBAC, "kind": role_kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": account_namespace}],
    }
