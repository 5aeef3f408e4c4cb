"""Resource types that other projects bring along, as far as our objects use them; the schemas are our own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.cluster.cluster import Cluster
from tests.cluster.replicas import wait_for

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_TEXTS: Final[Schema] = {"type": "array", "items": _TEXT}
_LABELS: Final[Schema] = {"type": "object", "additionalProperties": _TEXT}


def _object(*required: str, **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties} if required else {
        "type": "object", "properties": properties}  # fmt: skip


_ISSUER_REF: Final = _object("name", kind=_TEXT, name=_TEXT)
_ENDPOINT: Final = _object(
    port=_TEXT,
    scheme={"type": "string", "enum": ["http", "https"]},
    path=_TEXT,
    interval={"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"},
    bearerTokenFile=_TEXT,
    tlsConfig=_object(ca=_object(configMap=_object("key", name=_TEXT, key=_TEXT)), serverName=_TEXT),
)


def _crd(kind: str, group: str, version: str, spec: Schema) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    schema = {"openAPIV3Schema": _object("spec", spec=spec)}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


SERVICE_MONITOR: Final = _crd(
    "ServiceMonitor",
    "monitoring.coreos.com",
    "v1",
    _object(
        "selector",
        "endpoints",
        selector=_object(matchLabels=_LABELS),
        endpoints={"type": "array", "items": _ENDPOINT},
    ),
)
CERTIFICATE: Final = _crd(
    "Certificate",
    "cert-manager.io",
    "v1",
    _object(
        "secretName",
        "issuerRef",
        secretName=_TEXT,
        secretTemplate=_object(labels=_LABELS),
        isCA={"type": "boolean"},
        commonName=_TEXT,
        duration=_TEXT,
        renewBefore=_TEXT,
        privateKey=_object(
            algorithm={"type": "string", "enum": ["RSA", "ECDSA", "Ed25519"]}, size={"type": "integer"}
        ),
        usages=_TEXTS,
        dnsNames=_TEXTS,
        issuerRef=_ISSUER_REF,
    ),
)
ISSUER: Final = _crd("Issuer", "cert-manager.io", "v1", _object(selfSigned=_object(), ca=_object(secretName=_TEXT)))
TRAINING: Final = _crd("Training", "example.com", "v1", _object(steps={"type": "integer"}))
"""Somebody's own, for objects that we know nothing of."""


@contextmanager
def known(cluster: Cluster, *types: dict[str, Any]) -> Iterator[None]:
    """The cluster knows these types; afterwards they are gone with their objects."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(types)})
    names = [each["metadata"]["name"] for each in types]
    cluster.kubectl("apply", "-f", "-", stdin=text)
    try:
        targets = [f"crd/{name}" for name in names]
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *targets)
        wait_for(lambda: set(names) <= _listed(cluster), 30)
        yield
    finally:
        cluster.kubectl("delete", "crd", *names, "--ignore-not-found", "--timeout=60s")
        wait_for(lambda: not set(names) & _listed(cluster), 30)


def _listed(cluster: Cluster) -> set[str]:
    return set(cluster.kubectl("api-resources", "-o", "name").split())
