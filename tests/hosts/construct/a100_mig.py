"""a100-mig: 4 A100 divided by MIG, 64 cores in 4 NUMA nodes, RoCE with virtual functions, CRI-O on CoreOS."""

from typing import Final

from tests.hosts.construct import kernel
from tests.hosts.construct.cpu_models import MILAN
from tests.hosts.construct.devices import Machine, Model, config_space, device_control, gpu
from tests.hosts.construct.processors import Memory, Processors, memory, x86
from tests.hosts.tree import Tree

_NODE: Final = "a100-07.example"
_CPU: Final = Processors(
    sockets=1,
    cores=64,
    threads=2,
    fields=MILAN,
    policy={
        "scaling_driver": "acpi-cpufreq",
        "scaling_governor": "performance",
        "scaling_min_freq": 1500000,
        "scaling_max_freq": 2450000,
        "cpuinfo_min_freq": 1500000,
        "cpuinfo_max_freq": 3529052,
    },
)
_MEMORY: Final = Memory(
    nodes=[(32, 128)] * 4,
    distances=["10 12 12 12", "12 10 12 12", "12 12 10 12", "12 12 12 10"],
    huge={"2048kB": 0, "1048576kB": 32},
    default_huge_kib=1048576,
    thp="[always] madvise never",
)
_A100: Final = gpu(
    "0x20b2", "0x1463", 128, "16.0 GT/s PCIe", sriov_numvfs=0, sriov_totalvfs=20, resource1_resize="000000000003ffc0"
)
_CX6: Final = Model(
    "0x020000", "0x15b3", "0x101d", ("0x15b3", "0x0043"), "mlx5_core", speed="16.0 GT/s PCIe", width=16,
    more={"sriov_numvfs": 2, "sriov_totalvfs": 8}, config=config_space(device_control(512, 4096)),
)  # fmt: skip
_VIRTUAL: Final = Model("0x020000", "0x15b3", "0x101e", ("0x15b3", "0x0043"), "mlx5_core")
_BOOT: Final = Model(
    "0x010802", "0x1344", "0x51c0", ("0x1344", "0x1100"), "nvme", "0x02", "16.0 GT/s PCIe", 4,
    config=config_space(device_control(128, 512)),
)  # fmt: skip
_MODULES: Final = """\
nvidia_uvm nvidia_modeset nvidia mlx5_ib mlx5_core mlxfw ib_uverbs ib_core vfio_pci vfio_pci_core vfio_iommu_type1
vfio nvme nvme_core openvswitch nsh nf_conncount geneve udp_tunnel nf_nat nf_conntrack nf_tables overlay tls psample
ipmi_ssif acpi_ipmi ipmi_si ipmi_devintf ipmi_msghandler ccp kvm_amd kvm xfs libcrc32c dm_multipath fuse
"""


def build() -> Tree:
    tree = Tree()
    kernel.kernel(
        tree,
        _NODE,
        "5.14.0-427.57.1.el9_4.x86_64",
        "BOOT_IMAGE=(hd0,gpt3)/ostree/rhcos/vmlinuz rw ostree=/ostree/boot.0/rhcos/0 ignition.platform.id=metal "
        "root=UUID=00000000-0000-4000-8000-00000000f002 rootflags=prjquota amd_iommu=on iommu=pt "
        "default_hugepagesz=1G hugepagesz=1G hugepages=32 isolcpus=managed_irq,2-31,66-95 nohz_full=2-31,66-95 "
        'systemd.cpu_affinity=0,1,64,65 dyndbg="file drivers/usb/* +p"',
        {"vm/nr_hugepages": 32, "vm/nr_hugepages_mempolicy": 32, "kernel/pid_max": 4194304, "kernel/tainted": 4096},
    )
    x86(tree, _CPU)
    memory(tree, _MEMORY, _CPU)
    kernel.files(tree, "a100-mig")
    kernel.size_settings(tree, _CPU.count, _MEMORY.total_kib)
    kernel.modules(tree, _MODULES)
    machine = Machine(tree, iommu="identity")
    machine.dmi(
        sys_vendor="GIGABYTE",
        product_name="G262-ZR0-00",
        product_serial="GJG0N0000A0001",
        product_uuid="00000000-0000-4000-8000-00000000d002",
        board_name="MZ52-G40-00",
        bios_vendor="GIGABYTE",
        bios_version="R23",
        bios_date="10/06/2023",
    )
    machine.efi(secure_boot=True)
    for number, bus in enumerate((0x01, 0x41, 0x81, 0xC1)):
        root = f"pci0000:{bus - 1:02x}/0000:{bus - 1:02x}:01.1"
        machine.bridge(root, 0x00 if number else 0x1D, "0x1022", "0x1483")
        machine.pci(f"{root}/0000:{bus:02x}:00.0", _A100, number)
    names = _network(machine)
    machine.bridge("pci0000:60/0000:60:03.1", None, "0x1022", "0x1483")
    device = machine.pci("pci0000:60/0000:60:03.1/0000:61:00.0", _BOOT, 1)
    machine.nvme(
        device,
        0,
        894,
        model="Micron_7450_MTFDKBA960TFR",
        serial="000000000A01",
        firmware_rev="E2MU200",
        numa_node=1,
        queue_count=129,
        subsysnqn="nqn.2016-08.com.micron:nvme:nvm-subsystem-sn-000000000A01",
    )
    kernel.interface_settings(tree, names, [f"{number:015x}" for number in (0xA1B2C3D4E5F6071, 0x18293A4B5C6D7E8)])
    return tree


def _network(machine: Machine) -> dict[str, int]:
    """One adapter with two ports; each port has two virtual functions, of which one is passed to a pod's machine."""
    machine.virtual("lo", type=772, mtu=65536)
    machine.virtual("br-ex")
    machine.virtual("genev_sys_6081")
    root = "pci0000:a0/0000:a0:03.1"
    machine.bridge(root, 0x1D, "0x1022", "0x1483")
    names = {"br-ex": 9000}
    for port in range(2):
        device = machine.pci(f"{root}/0000:a1:00.{port}", _CX6, 2)
        name = f"ens3f{port}np{port}"
        names[name] = 9000
        interface = machine.interface(
            device, name, f"02:00:00:00:03:0{port}", mtu=9000, speed=100000, phys_port_name=f"p{port}"
        )
        machine.queues(interface, 63, 63)
        _rdma(machine, device, f"mlx5_{port}", port)
        for function in range(2):
            virtual = machine.pci(f"{root}/0000:a1:0{port}.{2 + function}", _VIRTUAL, 2)
            machine.tree.link(f"{virtual}/physfn", device)
            own = machine.interface(virtual, f"ens3f{port}v{function}", f"02:00:00:00:04:{port}{function}")
            machine.tree.link(f"{own}/device", virtual)
            _rdma(machine, virtual, f"mlx5_{2 + 2 * port + function}", 16 * port + function + 2)
    return names


def _rdma(machine: Machine, device: str, name: str, number: int) -> None:
    machine.rdma(
        device,
        name,
        f"0200:0004:0000:{number:04x}",
        {
            "state": "4: ACTIVE",
            "phys_state": "5: LinkUp",
            "rate": "100 Gb/sec (4X EDR)",
            "link_layer": "Ethernet",
            "lid": "0x0",
            "sm_lid": "0x0",
        },
        fw_ver="22.41.1000",
        hca_type="MT4125",
        board_id="MT_0000000359",
        hw_rev=0,
        node_type="1: CA",
        node_desc=f"{_NODE} {name}",
        **{"tc/1/traffic_class": "Global tclass=106"},
    )
