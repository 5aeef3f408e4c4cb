"""cpu-only: a server without a GPU: 48 cores with SMT off, swap, a bridge on a VLAN, k3s on Rocky Linux 9."""

from typing import Final

from tests.hosts.construct import kernel
from tests.hosts.construct.cpu_models import GENOA
from tests.hosts.construct.devices import Machine, Model, config_space, device_control
from tests.hosts.construct.processors import Memory, Processors, memory, x86
from tests.hosts.tree import Tree

_CPU: Final = Processors(
    sockets=1,
    cores=48,
    threads=1,
    fields=GENOA,
    policy={
        "scaling_driver": "amd-pstate-epp",
        "scaling_governor": "powersave",
        "scaling_min_freq": 1500000,
        "scaling_max_freq": 3810791,
        "cpuinfo_min_freq": 400000,
        "cpuinfo_max_freq": 3810791,
        "energy_performance_preference": "performance",
    },
)
_MEMORY: Final = Memory(
    nodes=[(48, 384)],
    distances=["10"],
    huge={"2048kB": 0, "1048576kB": 0},
    thp="[always] madvise never",
    swap="/dev/dm-1                               partition\t8388604\t\t0\t\t-2",
)
_E810: Final = Model(
    "0x020000", "0x8086", "0x1593", ("0x1028", "0x0c07"), "ice", "0x02", "16.0 GT/s PCIe", 8,
    more={"sriov_numvfs": 0, "sriov_totalvfs": 64}, config=config_space(device_control(512, 4096, relaxed=False)),
)  # fmt: skip
_BROADCOM: Final = Model(
    "0x020000", "0x14e4", "0x165f", ("0x1028", "0x0a6b"), "tg3", speed="5.0 GT/s PCIe", width=1,
    config=config_space(device_control(256, 4096)),
)  # fmt: skip
_SATA: Final = Model("0x010601", "0x1022", "0x7901", ("0x1028", "0x0b1b"), "ahci", "0x91", "16.0 GT/s PCIe", 16)
_MATROX: Final = Model("0x030000", "0x102b", "0x0536", ("0x1028", "0x0b1b"), "mgag200", "0x04")
_DRIVE: Final = Model(
    "0x010802", "0x1e0f", "0x0025", ("0x1028", "0x2262"), "nvme", "0x01", "16.0 GT/s PCIe", 4,
    config=config_space(device_control(512, 512)),
)  # fmt: skip
_MODULES: Final = """\
ice gnss tg3 nvme nvme_core ahci libahci libata bonding tls 8021q garp mrp bridge stp llc vxlan nf_conntrack nf_nat
nf_tables ip_set x_tables xt_comment xt_mark overlay br_netfilter ipmi_ssif ipmi_si ipmi_devintf ipmi_msghandler
mgag200 kvm_amd kvm ccp xfs libcrc32c dm_mirror dm_log dm_mod fuse
"""


def build() -> Tree:
    tree = Tree()
    kernel.kernel(
        tree,
        "cpu-12",
        "5.14.0-503.33.1.el9_5.x86_64",
        "BOOT_IMAGE=(hd0,gpt2)/vmlinuz-5.14.0-503.33.1.el9_5.x86_64 root=/dev/mapper/rl-root ro "
        "crashkernel=1G-2G:192M resume=/dev/mapper/rl-swap rd.lvm.lv=rl/root rd.lvm.lv=rl/swap nosmt=force "
        "rhgb quiet",
        {
            "vm/swappiness": 10,
            "kernel/sysrq": 16,
            "kernel/perf_event_paranoid": 2,
            "fs/file-max": 9223372036854775807,
        },
    )
    x86(tree, _CPU)
    memory(tree, _MEMORY, _CPU)
    kernel.files(tree, "cpu-only")
    tree.write_all("/sys/devices/system/cpu", {"present": "0-95", "possible": "0-95", "offline": "48-95"})
    kernel.size_settings(tree, _CPU.count, _MEMORY.total_kib)
    kernel.modules(tree, _MODULES)
    machine = Machine(tree, iommu="DMA-FQ")
    machine.dmi(
        sys_vendor="Dell Inc.",
        product_name="PowerEdge R6615",
        product_serial="0000001",
        product_uuid="00000000-0000-4000-8000-00000000d004",
        product_sku="SKU=0B1C;ModelName=PowerEdge R6615",
        bios_vendor="Dell Inc.",
        bios_version="1.10.4",
        bios_date="11/08/2024",
    )
    machine.efi(secure_boot=True)
    machine.bridge("pci0000:40/0000:40:05.1", 0x5F, "0x1022", "0x14ab")
    names = {"eno8303": 1500, "ens1f0np0": 9000, "ens1f1np1": 9000, "ens1f0np0.40": 9000, "br0": 9000}
    for port in range(2):
        device = machine.pci(f"pci0000:40/0000:40:05.1/0000:41:00.{port}", _E810, 0)
        up = port == 0
        interface = machine.interface(
            device, f"ens1f{port}np{port}", f"02:00:00:00:06:0{port}", mtu=9000, operstate="up" if up else "down"
        )
        machine.queues(interface, 48, 48)
        if up:
            machine.tree.write(f"{interface}/speed", 25000)
        else:
            machine.tree.errors |= {f"{interface}/speed": 22, f"{interface}/duplex": 22}  # EINVAL
            del machine.tree.files[f"{interface}/duplex"]
    management = machine.pci("pci0000:c0/0000:c0:01.2/0000:c4:00.0", _BROADCOM, 0)
    machine.queues(machine.interface(management, "eno8303", "02:00:00:00:06:10", speed=1000), 4, 1)
    machine.vlan("ens1f0np0.40", 40, "ens1f0np0", 9000)
    machine.bridge_of("br0", ("ens1f0np0.40", "vethba5eba11"), stp_state=0, vlan_filtering=0, multicast_snooping=1)
    machine.pci("pci0000:80/0000:80:08.2/0000:83:00.0", _SATA, 0)
    machine.pci("pci0000:c0/0000:c0:01.1/0000:c2:00.0", _MATROX, 0)
    for number in range(2):
        device = machine.pci(f"pci0000:20/0000:20:0{number + 1}.1/0000:{0x21 + number:02x}:00.0", _DRIVE, 0)
        machine.nvme(
            device,
            number,
            2980,
            model="Dell Ent NVMe CM7 U.2 MU 3.2TB",
            serial=f"7DX0A000TDX{number}",
            firmware_rev="2.2.1" if number else "2.1.8",
            numa_node=0,
            queue_count=49,
        )
    pods = ["vethba5eba11", "veth0badcafe"]
    for name in ("flannel.1", "cni0", *pods):
        machine.virtual(name, mtu=1450)
    machine.virtual("lo", type=772, mtu=65536)
    machine.bridge_of("cni0", ("veth0badcafe",), stp_state=0)
    kernel.interface_settings(tree, names | {"flannel.1": 1450, "cni0": 1450}, pods)
    return tree
