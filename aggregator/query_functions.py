"""What CEL does not have: `semver()` and `quantity()`. Pure.

A version is compared by SemVer's precedence, as bytes that sort in that order: CEL can compare bytes, and refuses
to compare them with text.
"""

import re
from decimal import Decimal
from typing import Final

_VERSION: Final = re.compile(
    r"[vV]?(?P<numbers>[0-9]{1,15}(?:\.[0-9]{1,15}){0,5})"
    r"(?:-(?P<pre>[0-9A-Za-z.-]{1,100}))?(?:\+[0-9A-Za-z.+-]{0,100})?"
)
_QUANTITY: Final = re.compile(
    r"([+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30}))\s?"
    r"(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])B?|[eE](?P<e>[+-]?[0-9]{1,2})|B)?"
)
_POWERS: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def semver(text: str) -> bytes:
    """A version as bytes that sort as versions do. Raises ValueError.

    SemVer 2.0 with what drivers and distributions write: one to six numbers (missing ones are 0), zeros before them,
    a `v` before the first. A part after `-` makes it a pre-release, which comes before the release; what follows
    `+` does not count.
    """
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        raise ValueError("is no version")
    numbers = [int(number) for number in match["numbers"].split(".")]
    # Printable signs only: CEL's binding cuts bytes short at a zero.
    coded = "".join(f"{number:015}" for number in [*numbers, *[0] * (6 - len(numbers))])
    # The end of a list sorts before a number, a number before a word, and all of them before no list at all.
    parts = match["pre"].split(".") if match["pre"] is not None else None
    return (coded + ("~" if parts is None else "".join(map(_identifier, parts)) + "0")).encode()


def _identifier(text: str) -> str:
    if text.isdecimal():
        digits = text.lstrip("0") or "0"
        return f"1{len(digits):03}{digits} "
    return f"2{text} "


def quantity(text: str) -> float:
    """A quantity as Kubernetes writes it (`16Gi`, `500m`, `1.5e3`) as a number. Raises ValueError."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError("is no quantity")
    suffix, number = match["suffix"] or "", Decimal(match[1])
    if suffix in _BINARY:
        return float(number * 1024 ** (_BINARY.index(suffix) + 1))
    return float(number * Decimal(10) ** int(match["e"] or _POWERS[suffix]))
