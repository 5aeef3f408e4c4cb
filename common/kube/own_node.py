"""The node a pod runs on, by the pod's own ServiceAccount token. Standard library only."""

import os
from collections.abc import Mapping

from common.kube.choice import SERVICE_ACCOUNT, in_pod


def node_of_token(token: str) -> str:
    """The node named in a bound token's claims (since Kubernetes 1.30); empty when there is none.

    Nothing is verified: it is our own token, and says what the kubelet would say in NODE_NAME.
    """
    import base64
    import json

    parts = token.strip().split(".")
    if len(parts) != 3:
        return ""
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        name = claims["kubernetes.io"]["node"]["name"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return name if isinstance(name, str) else ""


def own_node(environment: Mapping[str, str], account: str = SERVICE_ACCOUNT) -> str:
    """The node this pod runs on; empty outside of a pod, or when its token does not say."""
    if not in_pod(environment, account):
        return ""
    try:
        with open(os.path.join(account, "token"), encoding="ascii") as file:
            return node_of_token(file.read(1 << 20))
    except (OSError, UnicodeDecodeError):
        return ""
