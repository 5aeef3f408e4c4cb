"""SystemD.<unit>: how systemd has each unit configured, and in what state it is.

Source: the properties of org.freedesktop.systemd1.Unit and of the interface of the unit's type, org.freedesktop.
systemd1(5), read from systemd's own socket or the system bus.
"""

import re
import time
from collections.abc import Iterable, Iterator
from typing import Final

from agent.bus_process import Reading, Socket, UnitProperties, read_units
from agent.collectors.base import Context, hidden
from agent.host import Host
from agent.unit_values import to_scalars
from common.model import Collected, Failed, FailureCode, MeasurementType, Ok, Outcome

_BOOTED: Final = "/run/systemd/system"  # sd_booted(3)
_SOCKETS: Final = {
    # systemd's own: for root only, and works without a message bus.
    "/run/systemd/private": True,
    "/run/dbus/system_bus_socket": False,
}
_MARGIN: Final = 0.5  # seconds of the deadline kept for putting together what was read
_TYPES: Final = (
    "automount", "device", "mount", "path", "scope", "service", "slice", "socket", "swap", "target", "timer",
)  # fmt: skip
_NAME: Final = re.compile(rf"[\w:.\\@-]+\.(?:{'|'.join(_TYPES)})", re.ASCII)
_PATTERN: Final = re.compile(r"[\w:.\\@*?\[\]!^-]+", re.ASCII)
_LONGEST: Final = 255  # unit names and patterns, systemd.unit(5)


def unit_name(text: str) -> str | None:
    """The unit or pattern meant, as systemctl reads it: `.service` where no type is given. None: it cannot be one."""
    text = text.strip()
    if any(sign in text for sign in "*?["):
        return text if len(text) <= _LONGEST and _PATTERN.fullmatch(text) else None
    name = text if text.rpartition(".")[2] in _TYPES else f"{text}.service"
    return name if len(name) <= _LONGEST and _NAME.fullmatch(name) else None


class SystemdCollector:
    """Reads the units asked for in one conversation under a deadline; a unit that is not installed is absent."""

    name = "systemd"
    type = MeasurementType.SYSTEMD

    def collect(self, ctx: Context) -> Collected:
        if why := ctx.host.hidden(_BOOTED):
            return Collected({}, hidden(_BOOTED, why))
        if not ctx.host.is_dir(_BOOTED):
            return Collected.absent(f"systemd does not run here: {_BOOTED} is not there")
        units, outcomes = _asked_for(ctx.options.systemd_units)
        if not units:
            return Collected.of(outcomes)
        seconds = max(_MARGIN, ctx.deadline - time.monotonic() - _MARGIN)
        reading = read_units(list(_sockets(ctx.host)), units, seconds)
        outcomes.update(reading.others)
        outcomes.update((name, _outcome(unit, reading)) for name, unit in reading.units.items())
        return _collected(units, outcomes, reading)


def _asked_for(texts: Iterable[str]) -> tuple[list[str], dict[str, Outcome]]:
    """The units and patterns to ask for, once each, and an outcome for each text that cannot be one."""
    names = {text.strip(): unit_name(text) for text in texts}
    wrong = [text for text, name in names.items() if name is None]
    refusal = Failed(FailureCode.MALFORMED, "this cannot be the name of a unit")
    return sorted({name for name in names.values() if name}), dict.fromkeys(wrong, refusal)


def _sockets(host: Host) -> Iterator[Socket]:
    for name, is_peer in _SOCKETS.items():
        try:
            yield Socket(name, host.resolve(name), is_peer)
        except OSError:  # links in a circle: there is no such socket
            continue


def _outcome(unit: UnitProperties, reading: Reading) -> Ok:
    data, redacted = to_scalars(unit.properties, reading.signatures.get(unit.kind, {}))
    return Ok(data, {"redacted": ", ".join(redacted)} if redacted else {})


def _collected(units: list[str], outcomes: dict[str, Outcome], reading: Reading) -> Collected:
    """One unit's trouble is its own; what ended the whole conversation is everyone's who has no outcome yet."""
    if reading.ending is None:
        return Collected.of(outcomes)
    if not reading.units and not reading.others:
        return Collected(outcomes, reading.ending)
    missing = [unit for unit in units if unit not in outcomes]
    return Collected.of({**outcomes, **dict.fromkeys(missing, reading.ending)})
