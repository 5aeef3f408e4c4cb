"""grace-arm64: a GH200: 72 Arm cores, pages of 64 KiB, the GPU's memory as a NUMA node of its own, BlueField-3."""

from typing import Final

from tests.hosts.construct import kernel
from tests.hosts.construct.cpu_models import GRACE
from tests.hosts.construct.devices import Machine, Model, config_space, device_control, gpu
from tests.hosts.construct.processors import Memory, Processors, arm64, memory
from tests.hosts.tree import Tree

_NODE: Final = "gh200-3"
_CPU: Final = Processors(
    sockets=1,
    cores=72,
    threads=1,
    fields=GRACE,
    policy={
        "scaling_driver": "cppc_cpufreq",
        "scaling_governor": "performance",
        "scaling_min_freq": 81000,
        "scaling_max_freq": 3375000,
        "cpuinfo_min_freq": 81000,
        "cpuinfo_max_freq": 3375000,
    },
)


def _distance(at: int, to: int) -> int:
    """Processor and GPU are 80 apart; a node that waits is as far as can be said."""
    return 10 if at == to else 80 if at + to == 1 else 255


_MEMORY: Final = Memory(
    # Node 1 is the GPU's memory; nodes 2 to 8 wait for MIG instances, each of which would become a node.
    nodes=[(72, 480), (0, 96), *[(0, 0)] * 7],
    distances=[" ".join(str(_distance(at, to)) for to in range(9)) for at in range(9)],
    huge={"2048kB": 0, "524288kB": 16, "16777216kB": 0},
    default_huge_kib=524288,
    thp="always [madvise] never",
    thp_kib=524288,
)
_GH200: Final = gpu("0x2342", "0x16eb", 128)
_BLUEFIELD: Final = Model(
    "0x020000", "0x15b3", "0xa2dc", ("0x15b3", "0x0009"), "mlx5_core", "0x01", "32.0 GT/s PCIe", 16,
    more={"sriov_numvfs": 0, "sriov_totalvfs": 16}, config=config_space(device_control(512, 512)),
)  # fmt: skip
_DRIVE: Final = Model(
    "0x010802", "0x144d", "0xa824", ("0x144d", "0xa801"), "nvme", speed="16.0 GT/s PCIe", width=4,
    config=config_space(device_control(256, 512)),
)  # fmt: skip
_MODULES: Final = """\
nvidia_uvm nvidia_drm nvidia_modeset nvidia mlx5_ib mlx5_core mlxfw ib_uverbs ib_core nvme nvme_core overlay
br_netfilter bridge stp llc nf_conntrack nf_nat nf_tables x_tables xt_conntrack xt_mark xfs libcrc32c cppc_cpufreq
arm_spe_pmu arm_smmuv3_pmu coresight coresight_trbe ipmi_ssif ipmi_devintf ipmi_msghandler acpi_power_meter fuse
"""


def build() -> Tree:
    tree = Tree()
    kernel.kernel(
        tree,
        _NODE,
        "6.8.0-1021-nvidia-64k",
        "BOOT_IMAGE=/boot/vmlinuz-6.8.0-1021-nvidia-64k root=UUID=00000000-0000-4000-8000-00000000f003 ro "
        "init_on_alloc=0 numa_balancing=disable iommu.passthrough=1 pci=noaer console=tty0 console=ttyAMA0,115200",
        {"kernel/arch": "aarch64", "kernel/numa_balancing": 0, "vm/nr_hugepages": 16, "vm/mmap_rnd_bits": 29},
    )
    for path in [path for path in tree.files if path.startswith(("/proc/sys/abi/vsyscall", "/proc/sys/dev/hpet"))]:
        del tree.files[path]  # of x86
    tree.write("/proc/sys/abi/sve_default_vector_length", 16)
    arm64(tree, _CPU)
    memory(tree, _MEMORY, _CPU)
    kernel.files(tree, "grace-arm64")
    kernel.size_settings(tree, _CPU.count, _MEMORY.total_kib)
    kernel.modules(tree, _MODULES)
    machine = Machine(tree, iommu="identity")
    machine.dmi(
        sys_vendor="Quanta Cloud Technology Inc.",
        product_name="QuantaGrid S74G-2U",
        product_serial="QTFCOU0000001",
        product_uuid="00000000-0000-4000-8000-00000000d003",
        bios_vendor="INSYDE Corp.",
        bios_version="3A16",
        bios_date="03/04/2024",
    )
    machine.efi(secure_boot=False)
    for domain, model in (("0009", _GH200), ("0002", _BLUEFIELD), ("0006", _DRIVE)):
        root = f"pci{domain}:00/{domain}:00:00.0"
        machine.bridge(root, 0x00, "0x10de", "0x22b8" if domain == "0009" else "0x22b1")
        device = machine.pci(f"{root}/{domain}:01:00.0", model, 0)
        if model is _BLUEFIELD:
            interface = machine.interface(device, "enP2s2f0np0", "02:00:00:00:05:00", mtu=9000, speed=400000)
            machine.queues(interface, 63, 63)
            machine.tree.errors[f"{interface}/phys_switch_id"] = 95  # EOPNOTSUPP
            _roce(machine, device)
        elif model is _DRIVE:
            machine.nvme(
                device,
                0,
                1788,
                model="SAMSUNG MZ1L21T9HCLS-00A07",
                serial="S000NC0W000001",
                firmware_rev="GDC7502Q",
                numa_node=0,
                queue_count=73,
            )
    machine.virtual("lo", type=772, mtu=65536)
    pods = [f"cali{number:011x}" for number in (0x1A2B3C4D5E6, 0x2B3C4D5E6F7)]
    for name in ("tunl0", *pods):
        machine.virtual(name, mtu=8980)
    kernel.interface_settings(tree, {"enP2s2f0np0": 9000, "tunl0": 8980}, pods)
    return tree


def _roce(machine: Machine, device: str) -> None:
    machine.rdma(
        device,
        "mlx5_0",
        "0200:0005:0000:0001",
        {
            "state": "4: ACTIVE",
            "phys_state": "5: LinkUp",
            "rate": "400 Gb/sec (4X NDR)",
            "link_layer": "Ethernet",
            "lid": "0x0",
            "sm_lid": "0x0",
        },
        fw_ver="32.41.1000",
        hca_type="MT41692",
        board_id="NVD0000000020",
        hw_rev=1,
        node_type="1: CA",
        node_desc="mlx5_0",
    )
