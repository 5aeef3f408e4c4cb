"""What a service account may do, as kubectl lists it, and as docs/secure.md says."""

import re
from collections.abc import Iterator
from typing import Final

from tests.cluster.fleetmode import NAMESPACE, Fleet
from tests.cluster.images import CHECKOUT

_DOCUMENT: Final = CHECKOUT / "docs/secure.md"
_COLUMNS: Final = re.compile(r"\s{2,}")


def listed(fleet: Fleet, account: str, namespace: str) -> set[str]:
    """Each line of `kubectl auth can-i --list`, its columns a space apart, without what any account may."""
    return set(_list(fleet, account, namespace)) - set(_list(fleet, "nobody", namespace))


def documented() -> list[set[str]]:
    """The lines of each block in the part on service accounts."""
    part = _DOCUMENT.read_text().partition("## What the two service accounts may do\n")[2]
    return [set(block.strip().splitlines()) for block in part.split("```")[1::2]]


def _list(fleet: Fleet, account: str, namespace: str) -> Iterator[str]:
    subject = f"--as=system:serviceaccount:{NAMESPACE}:{account}"
    _, *lines = fleet.kubectl("auth", "can-i", "--list", subject, "-n", namespace).splitlines()
    for line in lines:
        columns = _COLUMNS.split(line.strip())
        if not line.startswith(" "):  # those that begin with a column of nothing are paths, not resources
            yield " ".join(columns)
