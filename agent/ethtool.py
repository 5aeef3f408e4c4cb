"""Settings of network interfaces that /sys does not show, through the ethtool ioctl (SIOCETHTOOL).

Source: include/uapi/linux/ethtool.h and netdevice(7). The ioctl answers for our own network namespace, so only where
that is the host's: on the machine itself and in pods with hostNetwork, never for a recorded host. Needs no privilege.
What a driver does not support is left out.
"""

import array
import struct
from collections.abc import Callable, Mapping
from typing import Final, Self

from common.model import Scalar

_SIOCETHTOOL: Final = 0x8946
_INTERFACE_REQUEST: Final = struct.Struct("16sP16x")

_GET_DRIVER_INFO: Final = 0x03
_GET_RINGS: Final = 0x10
_GET_PAUSE: Final = 0x12
_GET_CHANNELS: Final = 0x3C
_GET_FLAGS: Final = 0x25

_DRIVER_INFO: Final = struct.Struct("=I32s32s32s32s32s12s5I")
_RINGS: Final = struct.Struct("=9I")
_PAUSE: Final = struct.Struct("=4I")
_CHANNELS: Final = struct.Struct("=9I")
_VALUE: Final = struct.Struct("=2I")

_OFFLOADS: Final = {
    "rx-checksum": 0x14,
    "tx-checksum": 0x16,
    "scatter-gather": 0x18,
    "tso": 0x1E,
    "gso": 0x23,
    "gro": 0x2B,
}
_FLAGS: Final = {"lro": 1 << 15, "ntuple": 1 << 27, "rx-hash": 1 << 28}


def parse_drvinfo(answer: bytes) -> dict[str, Scalar]:
    """struct ethtool_drvinfo: the firmware version; many drivers without one say N/A."""
    if len(answer) < _DRIVER_INFO.size:
        return {}
    firmware = _DRIVER_INFO.unpack_from(answer)[3].split(b"\0")[0].decode("ascii", "replace").strip()
    return {"firmware-version": firmware} if firmware and firmware.upper() != "N/A" else {}


def parse_ringparam(answer: bytes) -> dict[str, Scalar]:
    """struct ethtool_ringparam: descriptors in the receive and transmit rings, now and at most."""
    if len(answer) < _RINGS.size:
        return {}
    _, rx_max, _, _, tx_max, rx, _, _, tx = _RINGS.unpack_from(answer)
    return {"rx-ring": rx, "rx-ring-max": rx_max, "tx-ring": tx, "tx-ring-max": tx_max}


def parse_pauseparam(answer: bytes) -> dict[str, Scalar]:
    """struct ethtool_pauseparam: flow control by pause frames."""
    if len(answer) < _PAUSE.size:
        return {}
    _, autonegotiated, rx, tx = _PAUSE.unpack_from(answer)
    return {"pause-autoneg": bool(autonegotiated), "rx-pause": bool(rx), "tx-pause": bool(tx)}


def parse_channels(answer: bytes) -> dict[str, Scalar]:
    """struct ethtool_channels: combined queue pairs, now and at most; nothing on a driver with none."""
    if len(answer) < _CHANNELS.size:
        return {}
    _, _, _, _, combined_max, _, _, _, combined = _CHANNELS.unpack_from(answer)
    return {"combined-channels": combined, "combined-channels-max": combined_max} if combined_max else {}


def parse_flags(answer: bytes) -> dict[str, Scalar]:
    """struct ethtool_value of ETHTOOL_GFLAGS: offloads that share one word of bits."""
    if len(answer) < _VALUE.size:
        return {}
    flags: int = _VALUE.unpack_from(answer)[1]
    return {name: bool(flags & bit) for name, bit in _FLAGS.items()}


_QUESTIONS: Final[Mapping[int, tuple[int, Callable[[bytes], dict[str, Scalar]]]]] = {
    _GET_DRIVER_INFO: (_DRIVER_INFO.size, parse_drvinfo),
    _GET_RINGS: (_RINGS.size, parse_ringparam),
    _GET_PAUSE: (_PAUSE.size, parse_pauseparam),
    _GET_CHANNELS: (_CHANNELS.size, parse_channels),
    _GET_FLAGS: (_VALUE.size, parse_flags),
}


class Ethtool:
    """A socket to ask through; use as a context manager. Opening raises OSError."""

    def __enter__(self) -> Self:
        import socket

        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def settings(self, interface: str) -> dict[str, Scalar]:
        """Everything the driver of one interface answers."""
        settings: dict[str, Scalar] = {}
        for command, (size, parse) in _QUESTIONS.items():
            if answer := self._ask(interface, command, size):
                settings.update(parse(answer))
        for name, command in _OFFLOADS.items():
            if answer := self._ask(interface, command, _VALUE.size):
                settings[name] = bool(_VALUE.unpack_from(answer)[1])
        return settings

    def _ask(self, interface: str, command: int, size: int) -> bytes:
        """The kernel's answer to one question; b"" when the driver has none."""
        import fcntl

        buffer = array.array("B", struct.pack("=I", command).ljust(size, b"\0"))
        address, _ = buffer.buffer_info()
        request = _INTERFACE_REQUEST.pack(interface.encode("utf-8", "surrogateescape")[:15], address)
        try:
            fcntl.ioctl(self._socket, _SIOCETHTOOL, request)
        except OSError:
            return b""
        return buffer.tobytes()
