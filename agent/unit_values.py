"""A unit's D-Bus properties as scalars, without what a restart changes and without secrets. Pure.

The text forms are those that readers of snapshots know: 64-bit numbers and booleans as such, smaller numbers as text,
lists and structures as `[a b [c d]]` (docs/decisions/003-systemd-properties.md).

Source: org.freedesktop.systemd1(5); signatures as in the D-Bus specification, "Type System".
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from common.model import Scalar
from common.redaction import redact_arguments, redact_text, redact_variable

Signatures: TypeAlias = Mapping[str, str]

_LEFT_OUT: Final = frozenset({"AllowedCPUs", "AllowedMemoryNodes", "Asserts", "BPFProgram", "BusName", "Id"})
_COMMANDS: Final = frozenset({"a(sasbttttuii)", "a(sasasttttuii)"})
"""Exec*: path, arguments, flags, then seven numbers about the last run: times, process id, how it ended."""
_CONDITIONS: Final = "a(sbbsi)"
"""Conditions: type, trigger, negate, parameter, then how the last check came out."""
_LAST_IS_A_READING: Final = frozenset({"TimersMonotonic", "TimersCalendar"})
"""Timers: base, setting, then when it elapses next."""

_NO_WATCHDOG: Final = (1 << 64) - 1
"""What WatchdogUSec says until the unit is started; without a watchdog it then says 0."""

_KERNEL_TABLES: Final = ("/proc/self/mountinfo", "/proc/swaps")
"""What SourcePath of a mount says once systemd has found it mounted, on top of its own unit file."""

# Lists of names are sets in systemd, shown in the order of a hash table, but for these.
_IN_ORDER: Final = frozenset(
    {"Documentation", "DropInPaths", "Environment", "ExecSearchPath", "ExtensionDirectories", "UnsetEnvironment"}
)
_ALLOW_LIST: Final = "(bas)"  # whether it allows or denies, then a set
_SETS: Final = frozenset({"as", "a(iayu)", "a(bs)"})


def to_scalars(properties: Mapping[str, Any], signatures: Signatures) -> tuple[dict[str, Scalar], list[str]]:
    """The properties as scalars, and the names of those in which something was redacted, sorted."""
    data: dict[str, Scalar] = {}
    redacted: list[str] = []
    for name, value in properties.items():
        if name in _LEFT_OUT or "Credential" in name:
            continue
        signature = signatures.get(name, "")
        shown = without_secrets(name, signature, value)
        if shown != value:
            redacted.append(name)
        data[name] = scalar(signature, steady(name, signature, shown))
    return data, sorted(redacted)


def scalar(signature: str, value: Any) -> Scalar:
    """One D-Bus value as readers know it; numbers of at most 32 bits are text."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return str(value) if signature in ("y", "n", "q", "i", "u", "h") else value
    if isinstance(value, float):
        return value
    return text(value)


def text(value: Any) -> str:
    """A value within a list: `[a b]`, `[name [x y] true 5]`, dictionaries as `map[k:v]`, nothing quoted."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{' '.join(map(text, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{text(item)}' for key, item in sorted(value.items()))}]"
    return str(value)


def steady(name: str, signature: str, value: Any) -> Any:
    """The value with what changes by itself set to what it is before the first run, and sets in a fixed order."""
    if name == "WatchdogUSec" and value == _NO_WATCHDOG:
        return 0
    if name == "SourcePath" and value in _KERNEL_TABLES:
        return ""
    if not isinstance(value, list):
        return value
    if signature in _COMMANDS:
        return [[*row[:3], 0, 0, 0, 0, 0, 0, 0] if _is_command(row) else row for row in value]
    if signature == _CONDITIONS or name in _LAST_IS_A_READING:
        return [[*row[:-1], 0] if isinstance(row, list) else row for row in value]
    if signature == _ALLOW_LIST and value and isinstance(value[-1], list):
        return [*value[:-1], sorted(value[-1], key=text)]
    if signature in _SETS and name not in _IN_ORDER:
        return sorted(value, key=text)
    return value


def _is_command(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 10 and isinstance(row[1], list)


def without_secrets(name: str, signature: str, value: Any) -> Any:
    """The value with passwords, tokens and keys replaced, in whatever depth they stand."""
    if isinstance(value, str):
        return redact_text(value)
    if not isinstance(value, list):
        return value
    if name == "Environment":
        return [redact_variable(item) if isinstance(item, str) else item for item in value]
    if signature in _COMMANDS:
        return [_without_secret_arguments(row) if _is_command(row) else row for row in value]
    return [without_secrets("", "", item) for item in value]


def _without_secret_arguments(command: list[Any]) -> list[Any]:
    path, arguments, *rest = command
    return [path, redact_arguments([str(argument) for argument in arguments]), *rest]
