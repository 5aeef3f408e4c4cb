"""OS.infiniband: RDMA devices (InfiniBand, RoCE, EFA), their firmware and ports.

Source: /sys/class/infiniband (Documentation/ABI/stable/sysfs-class-infiniband). Counters are never read: they change
by themselves, and on some adapters each read is a firmware command.
"""

from typing import Final

from agent.collectors.base import Context, outcome_of
from agent.collectors.sysfs import Sysfs, fold_devices, model_of, pci_address, present
from common.model import Absent, Collected, MeasurementType, Ok, Scalar

_CLASS: Final = "/sys/class/infiniband"


def parse_state(text: str) -> str:
    """A port's `state` or `phys_state`, and a device's `node_type`: a number, a colon and a word (`4: ACTIVE`)."""
    number, colon, word = text.partition(":")
    return word.strip() if colon and number.strip().isdigit() else text.strip()


def parse_traffic_class(text: str) -> str:
    """tc/1/traffic_class of the vendor's driver: `Global tclass=106`, or empty when none is forced."""
    _, equals, value = text.partition("=")
    return value.split()[0] if equals and value.split() else ""


class InfinibandCollector:
    """Reads every RDMA device but virtual functions, which are counted in OS.pci."""

    name = "infiniband"
    type = MeasurementType.OS

    def collect(self, ctx: Context) -> Collected:
        try:
            names = ctx.host.listdir(_CLASS)
        except OSError as error:
            return Collected.of({"infiniband": outcome_of(error, _CLASS)})
        sysfs = Sysfs(ctx.host)
        found: list[tuple[str, str]] = sorted(
            (pci_address(sysfs.target(f"{_CLASS}/{name}")), name)
            for name in names
            if not sysfs.exists(f"{_CLASS}/{name}/device/physfn")
        )
        if not found:
            return Collected.of({"infiniband": Absent("there are no RDMA devices")})
        facts = fold_devices(
            (model_of(sysfs, address, sysfs.link(f"{_CLASS}/{name}/device/driver")), _attributes(sysfs, name))
            for address, name in found
        )
        return Collected.of({"infiniband": Ok(facts, sysfs.context())})


def _attributes(sysfs: Sysfs, name: str) -> dict[str, Scalar]:
    directory = f"{_CLASS}/{name}"
    attributes = present(
        {
            "board-id": sysfs.text(f"{directory}/board_id"),
            "driver": sysfs.link(f"{directory}/device/driver"),
            "firmware-version": sysfs.text(f"{directory}/fw_ver"),
            "hca-type": sysfs.text(f"{directory}/hca_type"),
            "hw-rev": sysfs.text(f"{directory}/hw_rev"),
            "name": name,
            "node-desc": sysfs.text(f"{directory}/node_desc"),
            "node-guid": sysfs.text(f"{directory}/node_guid"),
            "node-type": parse_state(sysfs.text(f"{directory}/node_type") or ""),
            "sys-image-guid": sysfs.text(f"{directory}/sys_image_guid"),
        }
    )
    for port in sysfs.names(f"{directory}/ports"):
        attributes.update(_port(sysfs, directory, port))
    return attributes


def _port(sysfs: Sysfs, directory: str, port: str) -> dict[str, Scalar]:
    base = f"{directory}/ports/{port}"
    return {
        f"port{port}.{key}": value
        for key, value in present(
            {
                "lid": sysfs.text(f"{base}/lid"),
                "link-layer": sysfs.text(f"{base}/link_layer"),
                "phys-state": parse_state(sysfs.text(f"{base}/phys_state") or ""),
                "rate": sysfs.text(f"{base}/rate"),
                "sm-lid": sysfs.text(f"{base}/sm_lid"),
                "state": parse_state(sysfs.text(f"{base}/state") or ""),
                "traffic-class": parse_traffic_class(sysfs.text(f"{directory}/tc/{port}/traffic_class") or ""),
            }
        ).items()
    }
