"""OS.release: which distribution this is. Source: os-release(5), /etc/os-release or /usr/lib/os-release."""

import shlex

from agent.collectors.base import Context, outcome_of
from common.model import Absent, Collected, MeasurementType, Ok, Scalar

_PATHS = ("/etc/os-release", "/usr/lib/os-release")


def parse_os_release(text: str) -> dict[str, Scalar]:
    """`KEY=value` lines, quoted as in a shell; empty values, comments and lines of another form are left out."""
    release: dict[str, Scalar] = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or not key or not key.replace("_", "").isalnum() or not key.isascii():
            continue
        try:
            words = shlex.split(value, comments=False, posix=True)
        except ValueError:  # a quote that never ends: take the text as it is
            words = [value.strip().strip("\"'")]
        if content := " ".join(words):
            release[key] = content
    return release


class ReleaseCollector:
    """Reads os-release of the host, never of the container."""

    name = "release"
    type = MeasurementType.OS

    def collect(self, ctx: Context) -> Collected:
        ending: Absent | None = None
        for path in _PATHS:
            try:
                return Collected.of({"release": Ok(parse_os_release(ctx.host.read_text(path)))})
            except OSError as error:
                outcome = outcome_of(error, path)
                if not isinstance(outcome, Absent):
                    return Collected.of({"release": outcome})
                ending = ending or outcome
        return Collected.of({"release": ending or Absent("no os-release")})
