"""Which answers of NVML become which facts, and in which words. Pure data; agent/nvml_queries.py does the asking."""

from typing import Final

from agent.collectors import gpu_words as words
from agent.collectors.gpu_words import Word, item

# Key in GPU.smi, which existing readers depend on: what was asked of the first GPU, and its word.
SMI: Final[tuple[tuple[str, str, Word], ...]] = (
    ("gpu.model", "name", words.text),
    ("gpu.product-architecture", "architecture", words.architecture),
    ("gpu.display-mode", "display-mode", words.enabled),
    ("gpu.display-active", "display-active", words.enabled),
    ("gpu.persistence-mode", "persistence-mode", words.enabled),
    ("gpu.addressing-mode", "addressing-mode", words.addressing_mode),
    ("gpu.vbios-version", "vbios", words.text),
    ("gpu.gsp-firmware-version", "gsp-version", words.text),
)
# Subtype, fact, what was asked, its word.
FACTS: Final[tuple[tuple[str, str, str, Word], ...]] = (
    ("devices", "name", "name", words.text),
    ("devices", "uuid", "uuid", words.text),
    ("devices", "serial", "serial", words.text),
    ("devices", "minor", "minor", words.number),
    ("devices", "architecture", "architecture", words.architecture),
    ("devices", "brand", "brand", words.brand),
    ("devices", "part-number", "part-number", words.text),
    ("devices", "pci-device-id", "pci-ids", item(0, words.pci_pair)),
    ("devices", "pci-subsystem-id", "pci-ids", item(1, words.pci_pair)),
    ("devices", "vbios-version", "vbios", words.text),
    ("devices", "inforom.image", "inforom-image", words.text),
    ("devices", "inforom.oem", "inforom-oem", words.text),
    ("devices", "inforom.ecc", "inforom-ecc", words.text),
    ("devices", "inforom.power", "inforom-power", words.text),
    ("devices", "gsp-firmware-version", "gsp-version", words.text),
    ("devices", "gsp-mode.current", "gsp-mode", item(0, words.enabled)),
    ("devices", "gsp-mode.default", "gsp-mode", item(1, words.enabled)),
    ("devices", "display-mode", "display-mode", words.enabled),
    ("devices", "display-active", "display-active", words.enabled),
    ("devices", "persistence-mode", "persistence-mode", words.enabled),
    ("devices", "addressing-mode", "addressing-mode", words.addressing_mode),
    ("devices", "compute-mode", "compute-mode", words.compute_mode),
    ("devices", "compute-capability", "compute-capability", words.capability),
    ("devices", "virtualization-mode", "virtualization-mode", words.virtualization_mode),
    ("devices", "accounting-mode", "accounting-mode", words.enabled),
    ("devices", "multi-gpu-board", "multi-gpu-board", words.yes),
    ("devices", "recovery-action", "recovery-action", words.recovery_action),
    ("devices", "cores", "cores", words.number),
    ("devices", "memory.total", "memory-total", words.mebibytes),
    ("devices", "memory.reserved", "memory-reserved", words.mebibytes),
    ("devices", "memory.used", "memory-used", words.mebibytes),
    ("devices", "memory.bus-width", "memory-bus-width", words.number),
    ("devices", "bar1.total", "bar1-total", words.mebibytes),
    ("devices", "bar1.used", "bar1-used", words.mebibytes),
    ("devices", "utilization.gpu", "utilization", item(0, words.number)),
    ("devices", "utilization.memory", "utilization", item(1, words.number)),
    ("power", "limit.requested", "power-limit", words.watts),
    ("power", "limit.default", "power-limit-default", words.watts),
    ("power", "limit.enforced", "power-limit-enforced", words.watts),
    ("power", "limit.min", "power-limit-range", item(0, words.watts)),
    ("power", "limit.max", "power-limit-range", item(1, words.watts)),
    ("power", "draw", "power-usage", words.watts),
    ("power", "temperature", "temperature", words.number),
    ("power", "temperature-limit.shutdown", "threshold-shutdown", words.number),
    ("power", "temperature-limit.slowdown", "threshold-slowdown", words.number),
    ("power", "temperature-limit.memory", "threshold-memory", words.number),
    ("power", "temperature-limit.gpu", "threshold-gpu", words.number),
    *(
        ("clocks", f"{ours}.{domain}", f"{theirs}-{domain}", words.number)
        for ours, theirs, domains in (
            ("max", "clock-max", ("graphics", "sm", "memory", "video")),
            ("application", "application-clock", ("graphics", "memory")),
            ("application-default", "application-clock-default", ("graphics", "memory")),
            ("current", "clock", ("graphics", "sm", "memory", "video")),
        )
        for domain in domains
    ),
    ("clocks", "event-reasons", "clock-event-reasons", words.event_reasons),
    ("clocks", "performance-state", "performance-state", words.performance_state),
    ("ecc", "mode.current", "ecc-mode", item(0, words.enabled)),
    ("ecc", "mode.pending", "ecc-mode", item(1, words.enabled)),
    ("ecc", "mode.default", "ecc-default", item(0, words.enabled)),
    ("ecc", "row-remap.correctable", "remapped-rows", item(0, words.number)),
    ("ecc", "row-remap.uncorrectable", "remapped-rows", item(1, words.number)),
    ("ecc", "row-remap.pending", "remapped-rows", item(2, words.yes)),
    ("ecc", "row-remap.failure", "remapped-rows", item(3, words.yes)),
    ("ecc", "retired-pages.pending", "retired-pending", words.yes),
    ("ecc", "retired-pages.single-bit", "retired-single-bit", words.number),
    ("ecc", "retired-pages.double-bit", "retired-double-bit", words.number),
    ("ecc", "sram.threshold-exceeded", "sram-threshold-exceeded", words.yes),
    *(
        ("ecc", f"errors.{counter}.{kind}", f"ecc-{counter}-{kind}", words.number)
        for counter in ("volatile", "aggregate")
        for kind in ("corrected", "uncorrected")
    ),
    *(
        ("ecc", f"sram.{kind}", "sram-errors", item(position, words.number))
        for position, kind in enumerate(("corrected", "uncorrected-parity", "uncorrected-secded"))
    ),
    *(
        ("ecc", f"row-remap.banks.{left}", "remapper-histogram", item(position, words.number))
        for position, left in enumerate(("max", "high", "partial", "low", "none"))
    ),
    ("pcie", "generation.max", "pcie-generation-max", words.number),
    ("pcie", "generation.gpu-max", "pcie-generation-gpu-max", words.number),
    ("pcie", "generation.current", "pcie-generation", words.number),
    ("pcie", "width.max", "pcie-width-max", words.number),
    ("pcie", "width.current", "pcie-width", words.number),
    ("pcie", "replays", "pcie-replays", words.number),
    ("mig", "mode.current", "mig-mode", item(0, words.enabled)),
    ("mig", "mode.pending", "mig-mode", item(1, words.enabled)),
)
# Fact of the node, what was asked, its word.
CONFIDENTIAL: Final[tuple[tuple[str, str, Word], ...]] = (
    ("environment", "cc-state", item(0, words.cc_environment)),
    ("feature", "cc-state", item(1, words.cc_switch)),
    ("devtools-mode", "cc-state", item(2, words.cc_switch)),
    ("multi-gpu-mode", "cc-multi-gpu", words.cc_multi_gpu),
    ("gpus-ready", "cc-ready", words.cc_ready),
)
