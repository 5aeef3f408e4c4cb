"""OS.kmod: the kernel modules that are loaded. Source: /proc/modules; proc_modules(5).

Sizes, use counts and addresses on the same lines are not read: they change by themselves, and addresses are secret.
"""

from typing import Final

from agent.collectors.base import Context, outcome_of
from common.model import Absent, Collected, MeasurementType, Ok, Scalar

_PATH: Final = "/proc/modules"
_LOADED: Final = "Live"


def parse_modules(text: str) -> dict[str, Scalar]:
    """Module name to true, for every module that is loaded.

    A module that is only just coming or going (fifth field `Loading` or `Unloading`) is not, or no longer, loaded.
    """
    modules: dict[str, Scalar] = {}
    for line in text.split("\n"):
        fields = line.split()
        if fields and (len(fields) < 5 or fields[4] == _LOADED):
            modules[fields[0]] = True
    return modules


class ModulesCollector:
    """Reads the list of loaded modules; a kernel built without modules has none, which is Absent."""

    name = "modules"
    type = MeasurementType.OS

    def collect(self, ctx: Context) -> Collected:
        try:
            text = ctx.host.read_text(_PATH)
        except OSError as error:
            outcome = outcome_of(error, _PATH)
            if isinstance(outcome, Absent):
                outcome = Absent(f"{_PATH} is not there: this kernel loads no modules")
            return Collected.of({"kmod": outcome})
        return Collected.of({"kmod": Ok(parse_modules(text))})
