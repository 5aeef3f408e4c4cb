"""Tokens for a fleet without a cluster: signed here, of the same shape as those of Kubernetes."""

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from aggregator.keys import key_pem, read_key
from common.wire import AUDIENCE

LOCAL_ISSUER: Final = "https://local-fleet.eidos.invalid"
LOCAL_SERVICE_ACCOUNT: Final = "eidos:eidos-agent"
_ALGORITHM: Final = "ES256"


class LocalSigner:
    """Signs agents' tokens and publishes the key that verifies them (a KeySource)."""

    def __init__(self, pem: bytes | None = None) -> None:
        """Signs with a key made now unless one is given, in PEM. Raises ValueError when that is no key of ours."""
        self._key = ec.generate_private_key(ec.SECP256R1()) if pem is None else read_key(pem)
        public = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).to_jwk(self._key.public_key())
        self._jwk: dict[str, Any] = {**json.loads(public), "alg": _ALGORITHM, "use": "sig"}
        self._jwk["kid"] = self._jwk["x"][:16]

    @property
    def key_pem(self) -> bytes:
        """The private key, to sign on after a restart."""
        return key_pem(self._key)

    async def fetch(self) -> Mapping[str, Any]:
        """The public key, as a JSON Web Key Set."""
        return {"keys": [self._jwk]}

    def token(
        self,
        node: str,
        pod: str | None = None,
        seconds: float = 3600,
        now: float | None = None,
        audience: str = AUDIENCE,
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """A token for the agent on `node`. `claims` override what it would say."""
        issued = time.time() if now is None else now
        namespace, account = LOCAL_SERVICE_ACCOUNT.split(":")
        body = {
            "aud": [audience],
            "exp": int(issued + seconds),
            "iat": int(issued),
            "nbf": int(issued),
            "iss": LOCAL_ISSUER,
            "jti": str(uuid.uuid4()),
            "sub": f"system:serviceaccount:{namespace}:{account}",
            "kubernetes.io": {
                "namespace": namespace,
                "node": {"name": node, "uid": node},
                "pod": {"name": f"eidos-agent-{node}", "uid": pod or f"pod-of-{node}"},
                "serviceaccount": {"name": account, "uid": account},
            },
            **(claims or {}),
        }
        return jwt.encode(body, self._key, algorithm=_ALGORITHM, headers={"kid": self._jwk["kid"]})
