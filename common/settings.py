"""Values of flags and environment variables, as a person writes them. Nothing is read at import."""

import re
from collections.abc import Mapping
from typing import Final

from common.errors import UsageError

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)", re.ASCII)
_PLAIN: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?", re.ASCII)
_PORT: Final = re.compile(r"[0-9]{1,5}", re.ASCII)
_LAST_PORT: Final = 65535
_LONGEST: Final = 366 * 86400.0
_TRUE: Final = frozenset(("1", "true", "yes", "on"))
_FALSE: Final = frozenset(("0", "false", "no", "off", ""))


def parse_duration(text: str) -> float:
    """Seconds in `30s`, `5m`, `1h30m`, `500ms` or plain `30`. More than zero, at most a year. Raises UsageError."""
    stripped = text.strip().lower()
    if _PLAIN.fullmatch(stripped):
        seconds = float(stripped)
    else:
        units = [unit for _, unit in _PART.findall(stripped)]
        descending = sorted(set(units), key=_SECONDS.__getitem__, reverse=True)
        if not units or _PART.sub("", stripped) or units != descending:
            raise UsageError(f"{text!r} is not a duration", "Write it as 30s, 5m, 1h30m or plain seconds.")
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(stripped))
    if not 0 < seconds <= _LONGEST:
        raise UsageError(f"the duration {text!r} is not between 1ms and a year")
    return seconds


def port_number(text: str) -> int:
    """A TCP port as a flag of argparse: 0, which stands for any free one, to 65535. Raises ArgumentTypeError."""
    from argparse import ArgumentTypeError

    if _PORT.fullmatch(text) is None or int(text) > _LAST_PORT:
        raise ArgumentTypeError(f"{text!r} is no port: give a number from 0 to {_LAST_PORT}")
    return int(text)


def environment_bool(environment: Mapping[str, str], name: str, default: bool = False) -> bool:
    """A yes-or-no variable: 1, true, yes, on; 0, false, no, off or empty. Raises UsageError naming the variable."""
    value = environment.get(name)
    if value is None:
        return default
    word = value.strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise UsageError(f"the environment variable {name} is {value!r}, neither true nor false")
