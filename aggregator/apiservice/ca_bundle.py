"""The certificate authority by which kube-apiserver knows the aggregator: spec.caBundle of our APIService."""

import logging
from base64 import b64encode
from typing import TYPE_CHECKING, Final

import msgspec

from common.errors import ClusterError, Code
from common.fleet import FLEET_GROUP, FLEET_VERSION
from common.kube.call import path_of

if TYPE_CHECKING:
    from common.kube.client import Kube

_log: Final = logging.getLogger(__name__)

APISERVICE: Final = f"{FLEET_VERSION}.{FLEET_GROUP}"
PATH: Final = path_of("apiregistration.k8s.io/v1", "apiservices", name=APISERVICE)


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    ca_bundle: str = ""


class _ApiService(msgspec.Struct, frozen=True):
    spec: _Spec = _Spec()


async def keep_ca_bundle(kube: "Kube", bundle: bytes) -> bool:
    """See that the APIService holds this bundle (PEM); whether it had to be written.

    An APIService that is not there is nobody's business here: not every installation has one. Raises ClusterError.
    """
    wanted = b64encode(bundle).decode()
    try:
        if (await kube.get(PATH, _ApiService)).spec.ca_bundle == wanted:
            return False
    except ClusterError as error:
        if error.code is Code.CLUSTER_NOT_FOUND:
            return False
        raise
    await kube.patch(PATH, {"spec": {"caBundle": wanted}}, _ApiService)
    _log.info("kube-apiserver was given the certificate authority", extra={"apiservice": APISERVICE})
    return True
