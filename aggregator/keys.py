"""Private keys as they are stored."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


def read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """A key of ours: on curve P-256, in PEM, without a password. Raises ValueError for everything else."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a password
        raise ValueError("it holds no private key that can be read") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("its key is not one on curve P-256")
    return key


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key to store."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
