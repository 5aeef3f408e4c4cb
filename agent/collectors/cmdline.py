"""OS.grub: the kernel command line. Source: /proc/cmdline; Documentation/admin-guide/kernel-parameters.rst.

The subtype's name is the documented one, whatever boot loader there is.
"""

import re
from typing import Final

from agent.collectors.base import Context, outcome_of
from common.model import Collected, MeasurementType, Ok, Scalar
from common.redaction import REDACTED, names_a_secret, redact_text, redact_variable

_PATH: Final = "/proc/cmdline"
_LEFT_OUT: Final = frozenset({"root"})  # by the documented format: a disk's id in most cases

# Passwords for network disks and tokens for installers do stand here; a snapshot is shown to more people.
_VARIABLES: Final = frozenset({"systemd.setenv"})  # NAME=value
_CREDENTIALS: Final = frozenset({"systemd.set_credential", "systemd.set_credential_binary"})  # name:value
_NETWORK_DISKS: Final = frozenset({"netroot", "rd.netroot"})
_USER_OF_DISK: Final = re.compile(r"(\w+:)(?!//)[^@]+@")  # iscsi:user:password@host, dracut.cmdline(7)

# As the kernel's lib/cmdline.c splits: space ends a parameter except between double quotes, quotes may stand
# anywhere in it and need not be closed.
_TOKEN: Final = re.compile(r'(?:[^\s"]|"[^"]*(?:"|\Z))+', re.ASCII)


def parse_cmdline(text: str) -> dict[str, Scalar]:
    """Parameters: the text before the first `=` to the rest, empty when there is none.

    As in the kernel, double quotes around a value or around a whole parameter are no part of it. A parameter
    given more than once keeps all its values in order, joined by `,`: `console=tty0 console=ttyS0` gives
    `console: tty0,ttyS0`. The values of `hugepagesz` and `hugepages` pair up in that order.
    """
    values: dict[str, list[str]] = {}
    for token in _TOKEN.findall(text.removesuffix("\n")):
        name, value = _split(token)
        if name and name not in _LEFT_OUT:
            values.setdefault(redact_text(name), []).append(_without_secrets(name, value))
    return {name: ",".join(given) if any(given) else "" for name, given in values.items()}


def _without_secrets(name: str, value: str) -> str:
    if name in _CREDENTIALS:
        credential, colon, _ = value.partition(":")
        return f"{credential}:{REDACTED}" if colon else value
    if names_a_secret(name, value):
        return REDACTED
    if name in _VARIABLES:
        return redact_variable(value)
    if name in _NETWORK_DISKS:
        value = _USER_OF_DISK.sub(rf"\g<1>{REDACTED}@", value, count=1)
    return redact_text(value)


def _split(token: str) -> tuple[str, str]:
    """Name and value of one parameter, without the quotes the kernel takes away."""
    quoted = token.startswith('"')
    if quoted:
        token = token[1:]
    # An equals sign in the first place separates nothing.
    equals = token.find("=", 1)
    value_quoted = equals > 0 and token.startswith('"', equals + 1)
    if quoted or value_quoted:
        token = token.removesuffix('"')
    if equals < 0:
        return token, ""
    return token[:equals], token[equals + 1 + value_quoted :]


class CmdlineCollector:
    """Reads the command line the running kernel was started with."""

    name = "cmdline"
    type = MeasurementType.OS

    def collect(self, ctx: Context) -> Collected:
        try:
            text = ctx.host.read_text(_PATH)
        except OSError as error:
            return Collected.of({"grub": outcome_of(error, _PATH)})
        return Collected.of({"grub": Ok(parse_cmdline(text))})
