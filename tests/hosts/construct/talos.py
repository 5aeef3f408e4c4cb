"""talos: Talos Linux, which has neither systemd nor a shell: 2 L40S, 2 x 16 cores, read by a user who is not root."""

from typing import Final

from tests.hosts.construct import kernel
from tests.hosts.construct.cpu_models import ICE_LAKE
from tests.hosts.construct.devices import Machine, Model, config_space, device_control, gpu
from tests.hosts.construct.processors import Memory, Processors, memory, x86
from tests.hosts.tree import Tree

_CPU: Final = Processors(
    sockets=2,
    cores=16,
    threads=2,
    fields=ICE_LAKE,
    policy={
        "scaling_driver": "intel_pstate",
        "scaling_governor": "performance",
        "scaling_min_freq": 800000,
        "scaling_max_freq": 3600000,
        "cpuinfo_min_freq": 800000,
        "cpuinfo_max_freq": 3600000,
    },
)
_MEMORY: Final = Memory(
    nodes=[(32, 256), (32, 256)], distances=["10 20", "20 10"], huge={"2048kB": 0, "1048576kB": 0}
)
_L40S: Final = gpu("0x26b9", "0x1851", 64, "16.0 GT/s PCIe")
_CLOSED: Final = config_space(device_control(256, 512))[:64]  # all that others than root are shown
_E810: Final = Model(
    "0x020000", "0x8086", "0x159b", ("0x8086", "0x0002"), "ice", "0x02", "16.0 GT/s PCIe", 8, config=_CLOSED
)
_DRIVE: Final = Model(
    "0x010802", "0x8086", "0x0b60", ("0x8086", "0x8008"), "nvme", speed="16.0 GT/s PCIe", width=4, config=_CLOSED
)
_MODULES: Final = "nvidia_uvm nvidia_drm nvidia_modeset nvidia ice nvme nvme_core raid1 drbd zfs spl"


def build() -> Tree:
    tree = Tree()
    kernel.kernel(
        tree,
        "talos-x7k-2m1",
        "6.12.18-talos",
        "BOOT_IMAGE=/A/vmlinuz talos.platform=metal console=ttyS0 console=tty0 init_on_alloc=1 slab_nomerge pti=on "
        "consoleblank=0 nvme_core.io_timeout=4294967295 printk.devkmsg=on selinux=1 lockdown=integrity",
        {
            "kernel/kexec_load_disabled": 1,
            "kernel/panic": 10,
            "kernel/sysrq": 0,
            "kernel/modules_disabled": 0,
            "kernel/kptr_restrict": 2,
            "net/ipv4/tcp_available_congestion_control": "cubic reno bbr",
        },
    )
    x86(tree, _CPU)
    memory(tree, _MEMORY, _CPU)
    kernel.files(tree, "talos")
    kernel.size_settings(tree, _CPU.count, _MEMORY.total_kib)
    kernel.modules(tree, _MODULES)
    machine = Machine(tree)
    machine.dmi(sys_vendor="ASUSTeK COMPUTER INC.", product_name="ESC4000-E10", bios_version="6302", chassis_type=23)
    tree.write("/sys/firmware/efi/fw_platform_size", 64)
    for number, root in enumerate(("16", "97")):
        device = f"pci0000:{root}/0000:{root}:02.0/0000:{int(root, 16) + 1:02x}:00.0"
        machine.pci(device, _L40S, number)
    for port, mtu in enumerate((1500, 9000)):
        device = machine.pci(f"pci0000:30/0000:30:02.0/0000:31:00.{port}", _E810, 0)
        interface = machine.interface(
            device, f"enp49s0f{port}", f"02:00:00:00:07:0{port}", mtu=mtu, speed=25000, tx_queue_len=1000
        )
        machine.queues(interface, 64, 64)
    device = machine.pci("pci0000:c9/0000:c9:03.0/0000:ca:00.0", _DRIVE, 1)
    machine.nvme(
        device,
        0,
        1788,
        model="INTEL SSDPE2KX020T8",
        serial="PHLJ000000001P0FGN",
        firmware_rev="VDV10184",
        numa_node=1,
    )
    machine.virtual("lo", type=772, mtu=65536)
    for name in ("dummy0", "sit0", "teql0", "kubespan"):
        machine.virtual(name)
    pods = [f"lxc{number:012x}" for number in (0x0A1B2C3D4E5F, 0x102030405060)]
    for name in ("cilium_host", *pods):
        machine.virtual(name)
    kernel.interface_settings(tree, {"enp49s0f0": 1500, "enp49s0f1": 9000, "cilium_host": 1500}, pods)
    return tree
