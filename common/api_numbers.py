"""Numbers that the Kubernetes API cannot carry. Pure.

Its machinery reads JSON integers as int64, and kubectl shows a greater one as a float: systemd's "no limit",
18446744073709551615, becomes 1.8446744073709552e+19. So such numbers are written as text there, and read back.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from common.model import Measurement, MeasurementType, Scalar, Snapshot

_MOST: Final = (1 << 63) - 1
_MOST_UNSIGNED: Final = (1 << 64) - 1
_DIGITS: Final = re.compile(r"[1-9][0-9]{18,19}")


def for_the_api(snapshot: Snapshot) -> Snapshot:
    """The snapshot with numbers beyond int64 as text."""
    return msgspec.structs.replace(
        snapshot, measurements=[_measurement(measurement) for measurement in snapshot.measurements]
    )


def _measurement(measurement: Measurement) -> Measurement:
    if not any(_is_beyond(value) for subtype in measurement.subtypes for value in subtype.data.values()):
        return measurement
    subtypes = [msgspec.structs.replace(subtype, data=_texts(subtype.data)) for subtype in measurement.subtypes]
    return msgspec.structs.replace(measurement, subtypes=subtypes)


def _texts(data: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return {key: str(value) if _is_beyond(value) else value for key, value in data.items()}


def _is_beyond(value: Scalar) -> bool:
    return isinstance(value, int) and value > _MOST


def from_the_api(kind: MeasurementType, value: Scalar) -> Scalar:
    """One value as it was before `for_the_api`. Only systemd has such numbers; the kernel's are text anyway."""
    if kind is MeasurementType.SYSTEMD and isinstance(value, str) and _DIGITS.fullmatch(value):
        number = int(value)
        return number if _MOST < number <= _MOST_UNSIGNED else value
    return value
