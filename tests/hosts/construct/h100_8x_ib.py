"""h100-8x-ib: an HGX H100 server: 8 GPUs, 4 NVSwitches, 8 ConnectX-7 on InfiniBand, 2 x 56 cores, Ubuntu 24.04."""

from typing import Final

from tests.hosts.construct import kernel
from tests.hosts.construct.cpu_models import SAPPHIRE_RAPIDS
from tests.hosts.construct.devices import Machine, Model, config_space, device_control, gpu
from tests.hosts.construct.processors import Memory, Processors, memory, x86
from tests.hosts.tree import Tree

_NODE: Final = "h100-001"

# (root complex, first bus) of the four PCIe switches; each has two GPUs, two adapters and two drives.
_SWITCHES: Final = (("15", 0x16), ("37", 0x38), ("97", 0x98), ("b7", 0xB8))

_CPU: Final = Processors(
    sockets=2,
    cores=56,
    threads=2,
    fields=SAPPHIRE_RAPIDS,
    policy={
        "scaling_driver": "intel_pstate",
        "scaling_governor": "performance",
        "scaling_min_freq": 800000,
        "scaling_max_freq": 3800000,
        "cpuinfo_min_freq": 800000,
        "cpuinfo_max_freq": 3800000,
        "energy_performance_preference": "performance",
    },
)
_MEMORY: Final = Memory(
    nodes=[(112, 1024), (112, 1024)],
    distances=["10 21", "21 10"],
    huge={"2048kB": 5128, "1048576kB": 0},
)

_H100: Final = gpu("0x2330", "0x16c1", 128, sriov_numvfs=0, sriov_totalvfs=32, resource1_resize="000000000003ffc0")
_NVSWITCH: Final = Model(
    "0x068000", "0x10de", "0x22a3", ("0x10de", "0x1796"), "nvidia-nvswitch", "0xa1", "32.0 GT/s PCIe", 2
)
_CX7: Final = Model(
    "0x020700", "0x15b3", "0x1021", ("0x15b3", "0x0041"), "mlx5_core", speed="32.0 GT/s PCIe", width=16,
    more={"sriov_numvfs": 0, "sriov_totalvfs": 16}, config=config_space(device_control(512, 4096)),
)  # fmt: skip
_BLUEFIELD: Final = Model(
    "0x020000", "0x15b3", "0xa2dc", ("0x15b3", "0x0058"), "mlx5_core", "0x01", "32.0 GT/s PCIe", 16,
    more={"sriov_numvfs": 0, "sriov_totalvfs": 8}, config=config_space(device_control(512, 512)),
)  # fmt: skip
_X550: Final = Model(
    "0x020000", "0x8086", "0x1563", ("0x15d9", "0x1a7e"), "ixgbe", "0x01", "8.0 GT/s PCIe", 4,
    config=config_space(device_control(256, 512)),
)  # fmt: skip
_PM1743: Final = Model(
    "0x010802", "0x144d", "0xa826", ("0x144d", "0xaa8b"), "nvme", speed="32.0 GT/s PCIe", width=4,
    config=config_space(device_control(256, 512)),
)  # fmt: skip
_BMC: Final = Model("0x030000", "0x1a03", "0x2000", ("0x15d9", "0x1a7e"), "ast", "0x52")

_MODULES: Final = """\
nvidia_uvm nvidia_drm nvidia_modeset nvidia gdrdrv nvidia_peermem mlx5_ib mlx5_core mlxfw ib_ipoib ib_umad ib_uverbs
rdma_ucm rdma_cm iw_cm ib_cm ib_core nvme nvme_core bonding ixgbe ast ipmi_ssif ipmi_si ipmi_devintf ipmi_msghandler
xt_comment xt_mark xt_nat xt_conntrack nf_conntrack nf_nat nf_tables nft_compat x_tables overlay br_netfilter bridge
stp llc vxlan sch_fq_codel cls_bpf veth nfsv4 nfs lockd sunrpc raid1 raid0 xfs libcrc32c intel_rapl_msr isst_if_mmio
sha512_ssse3 aesni_intel crypto_simd cryptd wmi autofs4 msr efi_pstore dm_multipath fuse
"""


def build() -> Tree:
    tree = Tree()
    kernel.files(tree, "h100-8x-ib")
    kernel.kernel(
        tree,
        _NODE,
        "6.8.0-55-generic",
        "BOOT_IMAGE=/vmlinuz-6.8.0-55-generic root=UUID=00000000-0000-4000-8000-00000000f001 ro console=tty0 "
        "console=ttyS1,115200n8 intel_iommu=on iommu=pt hugepagesz=2M hugepages=5128 pci=realloc=off "
        "numa_balancing=disable nokaslr crashkernel=1G",
        {
            "vm/nr_hugepages": 5128,
            "vm/nr_hugepages_mempolicy": 5128,
            "kernel/numa_balancing": 0,
            "kernel/tainted": 12288,
        },
    )
    x86(tree, _CPU)
    memory(tree, _MEMORY, _CPU)
    kernel.size_settings(tree, _CPU.count, _MEMORY.total_kib)
    kernel.modules(tree, _MODULES)
    machine = Machine(tree, iommu="identity")
    machine.dmi(
        sys_vendor="Supermicro",
        product_name="SYS-821GE-TNHR",
        product_serial="S000000X4000001",
        product_uuid="00000000-0000-4000-8000-00000000d001",
        board_vendor="Supermicro",
        board_name="X13DEG-OAD",
        board_serial="OM000S000001",
        bios_vendor="American Megatrends International, LLC.",
        bios_version="2.1",
        bios_date="04/03/2024",
        chassis_type=23,
    )
    machine.efi(secure_boot=False)
    _fabric(machine)
    for number, (root, bus) in enumerate(_SWITCHES):
        _switch(machine, root, bus, number)
    names = _networks(machine)
    pods = [f"lxc{number:012x}" for number in (0x1C2D3E4F5A6B, 0x2B3C4D5E6F70, 0x9A8B7C6D5E4F)]
    machine.virtual("lo", type=772, mtu=65536)
    for name in ("cilium_net", "cilium_host", "cilium_vxlan", *pods):
        machine.virtual(name)
    kernel.interface_settings(tree, names, pods)
    return tree


def _fabric(machine: Machine) -> None:
    """The NVSwitches, and the graphics of the board's management controller."""
    machine.bridge("pci0000:00/0000:00:1c.0", 0x1D)
    for number in range(4):
        machine.pci(f"pci0000:00/0000:00:1c.0/0000:{7 + number:02x}:00.0", _NVSWITCH, 0)
    machine.pci("pci0000:00/0000:00:1c.5/0000:04:00.0", _BMC, 0)


def _switch(machine: Machine, root: str, bus: int, number: int) -> None:
    """A PCIe switch below a root port: upstream port, downstream ports with ACS off, a device below each."""
    numa = number // 2
    port = f"pci0000:{root}/0000:{root}:01.0"
    machine.bridge(port, 0x1D)
    upstream = f"{port}/0000:{bus:02x}:00.0"
    machine.bridge(upstream, None, "0x1000", "0xc030")
    for slot, model in enumerate((_CX7, _H100, _CX7, _H100, _PM1743, _PM1743)):
        downstream = f"{upstream}/0000:{bus + 1:02x}:{slot:02x}.0"
        machine.bridge(downstream, 0x00, "0x1000", "0xc030")
        device = machine.pci(f"{downstream}/0000:{bus + 2 + slot:02x}:00.0", model, numa)
        if model is _CX7:
            _adapter(machine, device, bus + 2 + slot, number * 2 + slot // 2)
        elif model is _PM1743:
            index = number * 2 + slot - 4
            machine.nvme(
                device,
                index,
                3576,
                model="SAMSUNG MZWLO3T8HCLS-00A07",
                serial=f"S000NE0X{index:06d}",
                firmware_rev="OPPA4B5Q",
                numa_node=numa,
                queue_count=129,
                subsysnqn=f"nqn.1994-11.com.samsung:nvme:PM1743:2.5-inch:S000NE0X{index:06d}",
            )


def _adapter(machine: Machine, device: str, bus: int, number: int) -> None:
    guid = f"0200:0003:0000:{number:04x}"
    address = "00:00:10:29:fe:80:00:00:00:00:00:00:02:00:00:03:00:00:00:" + f"{number:02x}"
    interface = machine.interface(
        device, f"ibp{bus}s0", address, type=32, mtu=4092, mode="datagram", speed=400000, tx_queue_len=256
    )
    machine.queues(interface, 63, 63)
    machine.rdma(
        device,
        f"mlx5_{number}",
        guid,
        {
            "state": "4: ACTIVE",
            "phys_state": "5: LinkUp",
            "rate": "400 Gb/sec (4X NDR)",
            "link_layer": "InfiniBand",
            "lid": f"0x{0x41 + number:x}",
            "sm_lid": "0x1",
        },
        fw_ver="28.42.1000",
        hca_type="MT4129",
        board_id="MT_0000000838",
        hw_rev=0,
        node_type="1: CA",
        node_desc=f"{_NODE} mlx5_{number}",
    )


def _networks(machine: Machine) -> dict[str, int]:
    """Two BlueField-3 ports bonded for storage, two ports of the board for management. Gives names and MTUs."""
    names = {f"ibp{bus + 2 + slot}s0": 4092 for _, bus in _SWITCHES for slot in (0, 2)}
    machine.bridge("pci0000:26/0000:26:01.0", 0x1D)
    for function in range(2):
        device = machine.pci(f"pci0000:26/0000:26:01.0/0000:29:00.{function}", _BLUEFIELD, 0)
        name = f"ens5f{function}np{function}"
        interface = machine.interface(
            device, name, f"02:00:00:00:01:0{function}", mtu=9000, speed=200000, flags="0x1803"
        )
        machine.queues(interface, 63, 63)
        machine.tree.link(f"{interface}/master", "/sys/devices/virtual/net/bond0")
        names[name] = 9000
    for function in range(2):
        device = machine.pci(f"pci0000:00/0000:00:10.0/0000:02:00.{function}", _X550, 0)
        name, up = f"eno{function + 1}", function == 0
        interface = machine.interface(device, name, f"02:00:00:00:02:0{function}", operstate="up" if up else "down")
        machine.queues(interface, 64, 64)
        # Of a link that is down the kernel says -1.
        machine.tree.write_all(interface, {"speed": 10000 if up else -1, "duplex": "full" if up else "unknown"})
        names[name] = 1500
    machine.bond(
        "bond0",
        9000,
        mode="802.3ad 4",
        slaves="ens5f0np0 ens5f1np1",
        miimon=100,
        lacp_rate="fast 1",
        xmit_hash_policy="layer3+4 1",
        ad_select="stable 0",
        min_links=1,
        updelay=200,
        downdelay=200,
    )
    machine.vlan("bond0.1200", 1200, "bond0", 9000)
    return names | {"bond0": 9000, "bond0.1200": 9000}
