"""Which cluster a caller means, and whether there is any. Costs no imports: most machines have none."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final, NamedTuple

SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
NOT_CONFIGURED: Final = "no cluster is configured here: there is no kubeconfig, and this is not a pod with a token"
NOT_INSTALLED: Final = "what speaks to a cluster is not installed (the extra `kubernetes`)"


class ClusterChoice(NamedTuple):
    """None means what kubectl would take."""

    kubeconfig: str | None = None
    context: str | None = None


def kubeconfig_paths(flag: str | None, environment: Mapping[str, str]) -> list[str]:
    """The files to read: the flag's, else those of $KUBECONFIG, else ~/.kube/config. Only the flag's must exist."""
    if flag:
        return [flag]
    listed = [path for path in environment.get("KUBECONFIG", "").split(os.pathsep) if path]
    home = environment.get("HOME", "")
    candidates = listed or ([os.path.join(home, ".kube", "config")] if home else [])
    return [path for path in candidates if os.path.isfile(path)]


def listed_in_vain(environment: Mapping[str, str]) -> str:
    """What $KUBECONFIG names where no file is, as part of a sentence; empty when it names nothing."""
    listed = environment.get("KUBECONFIG", "").strip(os.pathsep)
    return f"KUBECONFIG is {listed}, where there is no file" if listed else ""


def in_pod(environment: Mapping[str, str], account: str = SERVICE_ACCOUNT) -> bool:
    """Whether this is a pod that was given a service account token."""
    return bool(environment.get("KUBERNETES_SERVICE_HOST")) and os.path.exists(os.path.join(account, "token"))


def configured(kubeconfig: str | None, environment: Mapping[str, str], account: str = SERVICE_ACCOUNT) -> bool:
    """Whether there is a cluster to ask at all."""
    return bool(kubeconfig_paths(kubeconfig, environment)) or in_pod(environment, account)


def installed() -> bool:
    """Whether the extra `kubernetes` is there; looked for without importing it."""
    return find_spec("aiohttp") is not None and find_spec("tenacity") is not None
