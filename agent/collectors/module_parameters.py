"""OS.module-parameters: how GPU, network and storage drivers were set up.

Sources: /sys/module/<module>/parameters/* (Documentation/ABI/stable/sysfs-module), and /proc/driver/nvidia/params,
where the NVIDIA driver shows what it does not show in /sys.
"""

import re
from fnmatch import translate
from typing import Final

from agent.collectors.base import Context, outcome_of
from agent.collectors.sysfs import Sysfs
from common.model import Absent, Collected, MeasurementType, Ok, Scalar

_MODULES: Final = "/sys/module"
_NVIDIA_PARAMS: Final = "/proc/driver/nvidia/params"

# Shell patterns of module names. /sys writes `_` where a file name has `-`.
_GPU: Final = (
    "nvidia*", "nv_peer_mem", "gdrdrv", "nouveau", "amdgpu", "amdkcl", "amdttm", "radeon", "i915", "xe",
    "habanalabs", "drm", "drm_kms_helper", "ast", "mgag200", "vfio*",
)  # fmt: skip
_NETWORK: Final = (
    "mlx4*", "mlx5*", "mlxfw", "mlxsw*", "ib_*", "iw_*", "rdma*", "irdma", "i40iw", "bnxt*", "efa", "ena", "gve",
    "gvnic", "mana*", "hfi1", "opa_vnic", "qedr", "qede", "qed", "usnic*", "hns*", "erdma", "ocrdma", "siw", "rxe",
    "igb", "igbvf", "igc", "ixgbe*", "i40e", "iavf", "ice", "idpf", "e1000*", "tg3", "bnx2*", "be2net", "cxgb4*",
    "sfc*", "enic", "atlantic", "r8169", "nfp", "ionic*", "pds_core", "virtio_net", "vmxnet3", "hv_*", "netvsc",
    "xen_net*", "bonding", "team*", "openvswitch", "rds*", "smc*", "rpcrdma", "xprtrdma", "svcrdma",
)  # fmt: skip
_STORAGE: Final = (
    "nvme*", "nvmet*", "nfs*", "lockd", "sunrpc", "lustre", "lnet", "ko2iblnd", "ksocklnd", "kefalnd", "kgnilnd",
    "ptlrpc", "obdclass", "osc", "mdc", "mgc", "lov", "lmv", "llite", "libcfs", "mmfs*", "tracedev", "wekafs*",
    "beegfs", "ceph", "rbd", "libceph", "fuse", "virtiofs", "cifs", "scsi_mod", "scsi_transport*", "sd_mod",
    "megaraid*", "mpt3sas", "mpi3mr", "smartpqi", "aacraid", "hpsa", "pm80xx", "qla2xxx", "lpfc", "iscsi*",
    "libiscsi*", "ahci", "libahci", "libata", "dm_*", "md_mod", "raid*", "virtio_blk", "virtio_scsi", "xen_blk*",
    "vmd", "loop",
)  # fmt: skip
_WANTED: Final = re.compile("|".join(translate(pattern) for pattern in (*_GPU, *_NETWORK, *_STORAGE)))


def is_driver(module: str) -> bool:
    """Whether a module is one whose parameters are read."""
    return _WANTED.match(module) is not None


def parse_params(text: str) -> dict[str, Scalar]:
    """The lines `Name: value` of /proc/driver/nvidia/params, quotes removed.

    Named as they are given to the module, `nvidia.NVreg_Name`, and as they would stand in modprobe.d.
    """
    parameters: dict[str, Scalar] = {}
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if colon and name.isascii() and name.replace("_", "").isalnum():
            value = value.strip()
            if len(value) >= 2 and value[0] == value[-1] == '"':
                value = value[1:-1]
            parameters[f"nvidia.NVreg_{name}"] = value
    return parameters


class ModuleParametersCollector:
    """Reads parameters of loaded and built-in drivers; those only the module itself can see are not in /sys."""

    name = "module-parameters"
    type = MeasurementType.OS

    def collect(self, ctx: Context) -> Collected:
        try:
            modules = [name for name in ctx.host.listdir(_MODULES) if is_driver(name)]
        except OSError as error:
            return Collected.of({"module-parameters": outcome_of(error, _MODULES)})
        sysfs = Sysfs(ctx.host)
        data: dict[str, Scalar] = {}
        for module in modules:
            directory = f"{_MODULES}/{module}/parameters"
            for parameter in sysfs.names(directory):
                value = sysfs.text(f"{directory}/{parameter}")
                if value is not None:
                    data[f"{module}.{parameter}"] = value
        data |= parse_params(sysfs.text(_NVIDIA_PARAMS) or "")
        if not modules and not data:
            return Collected.of(
                {"module-parameters": Absent("no GPU, network or storage driver is loaded as a module")}
            )
        return Collected.of({"module-parameters": Ok(data, sysfs.context())})
