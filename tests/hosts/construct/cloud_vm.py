"""cloud-vm: a virtual machine on EKS: one L4, ENA interfaces of the network plugin, EFA, EBS and instance storage."""

from typing import Final

from tests.hosts.construct import kernel
from tests.hosts.construct.cpu_models import MILAN_GUEST
from tests.hosts.construct.devices import Machine, Model, gpu
from tests.hosts.construct.processors import Memory, Processors, memory, x86
from tests.hosts.tree import Tree

_CPU: Final = Processors(sockets=1, cores=16, threads=2, fields=MILAN_GUEST)
_MEMORY: Final = Memory(nodes=[(32, 128)], distances=["10"], huge={"2048kB": 0, "1048576kB": 0})
_L4: Final = gpu("0x27b8", "0x16ca", 32, "16.0 GT/s PCIe")
_ENA: Final = Model("0x020000", "0x1d0f", "0xec20", ("0x1d0f", "0xec20"), "ena")
_EFA: Final = Model("0x020000", "0x1d0f", "0xefa1", ("0x1d0f", "0xefa1"), "efa")
_EBS: Final = Model("0x010802", "0x1d0f", "0x8061", ("0x1d0f", "0x8061"), "nvme")
_LOCAL: Final = Model("0x010802", "0x1d0f", "0xcd01", ("0x1d0f", "0xcd01"), "nvme")
_VGA: Final = Model("0x030000", "0x1d0f", "0x1111", ("0x0000", "0x0000"))
_MODULES: Final = """\
nvidia_uvm nvidia_modeset nvidia gdrdrv efa ib_uverbs ib_core ena ptp pps_core nvme nvme_core overlay veth
nf_conntrack nf_nat nf_tables nf_conntrack_netlink xt_comment xt_mark xt_connmark xt_conntrack xt_MASQUERADE x_tables
sch_fq_codel configfs dmi_sysfs simpledrm xfs libcrc32c crc32_pclmul aesni_intel crypto_simd cryptd fuse
"""


def build() -> Tree:
    tree = Tree()
    kernel.kernel(
        tree,
        "ip-192-0-2-18.example.internal",
        "6.1.132-147.221.amzn2023.x86_64",
        "BOOT_IMAGE=(hd0,gpt1)/boot/vmlinuz-6.1.132-147.221.amzn2023.x86_64 "
        "root=UUID=00000000-0000-4000-8000-00000000f006 ro console=tty0 console=ttyS0,115200n8 "
        "nvme_core.io_timeout=4294967295 rd.emergency=poweroff rd.shell=0 selinux=1 security=selinux quiet "
        "numa_cma=1:64M",
        {
            "kernel/panic": 10,
            "kernel/panic_on_oops": 1,
            "kernel/perf_event_paranoid": 2,
            "vm/overcommit_memory": 1,
            "net/ipv4/ip_local_port_range": "32768\t60999",
        },
    )
    x86(tree, _CPU)
    memory(tree, _MEMORY, _CPU)
    kernel.files(tree, "cloud-vm")
    kernel.size_settings(tree, _CPU.count, _MEMORY.total_kib)
    kernel.modules(tree, _MODULES)
    machine = Machine(tree)
    machine.dmi(
        sys_vendor="Amazon EC2",
        product_name="g6.8xlarge",
        product_serial="ec200000-0000-4000-8000-00000000d006",
        product_uuid="ec200000-0000-4000-8000-00000000d006",
        board_asset_tag="i-00000000000000d06",
        bios_vendor="Amazon EC2",
        bios_version="1.0",
        bios_date="10/16/2017",
        chassis_type=1,
    )
    machine.efi(secure_boot=False)
    machine.pci("pci0000:00/0000:00:03.0", _VGA)
    machine.pci("pci0000:00/0000:00:1e.0", _L4)
    names = _network(machine)
    for number, (slot, model) in enumerate((("04", _EBS), ("1f", _EBS), ("1b", _LOCAL), ("1c", _LOCAL))):
        ebs = model is _EBS
        device = machine.pci(f"pci0000:00/0000:00:{slot}.0", model)
        machine.nvme(
            device,
            number,
            200 if number == 0 else 50 if ebs else 419,
            model="Amazon Elastic Block Store" if ebs else "Amazon EC2 NVMe Instance Storage",
            serial=f"vol0000000000000000{number}" if ebs else f"AWS0000000000000000{number}",
            firmware_rev="1.0" if ebs else "0",
            numa_node=0,
            queue_count=3 if ebs else 9,
        )
    pods = [f"eni{number:011x}" for number in (0x1A2B3C4D5E6, 0x2B3C4D5E6F7, 0x3C4D5E6F708)]
    machine.virtual("lo", type=772, mtu=65536)
    for name in ("pod-id-link0", *pods):
        machine.virtual(name, mtu=9001)
    kernel.interface_settings(tree, names, pods)
    return tree


def _network(machine: Machine) -> dict[str, int]:
    """The first interface is the machine's; the network plugin has attached a second one for pods."""
    names = {}
    for slot in (5, 6):
        device = machine.pci(f"pci0000:00/0000:00:{slot:02x}.0", _ENA)
        name = f"ens{slot}"
        interface = machine.interface(device, name, f"02:00:00:00:08:0{slot}", mtu=9001)
        # ENA does not know its speed.
        machine.tree.errors[f"{interface}/speed"] = 22  # EINVAL
        machine.queues(interface, 8, 8)
        names[name] = 9001
    device = machine.pci("pci0000:00/0000:00:1d.0", _EFA)
    machine.rdma(
        device,
        "rdmap0s29",
        "0200:0008:0000:0001",
        {
            "state": "4: ACTIVE",
            "phys_state": "5: LinkUp",
            "rate": "100 Gb/sec (4X EDR)",
            "link_layer": "Unspecified",
            "lid": "0x0",
            "sm_lid": "0x0",
        },
        fw_ver="0.0.0.0",  # noqa: S104 - a version, not an address
        node_type="7: unspecified",
        node_desc="rdmap0s29",
    )
    return names
