"""What kube-apiserver was asked by service accounts, and by those it did not know: its own audit log.

Everybody else's requests are not logged: the control plane's own are thousands a minute when there are fake nodes.
"""

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

_PASSED_OVER: Final = ("system:serviceaccounts:kube-system", "system:serviceaccounts:kube-node-lease")
POLICY: Final[dict[str, Any]] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # A request is in the log before it is answered, so that whoever has the answer also finds the request.
    "omitStages": ["ResponseComplete", "Panic"],
    "rules": [
        {"level": "None", "userGroups": list(_PASSED_OVER)},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None", "userGroups": ["system:authenticated"]},
        # Whom no rule above fits is nobody: no credentials, or some that were refused.
        {"level": "Metadata"},
    ],
}


class Asked(NamedTuple):
    """One request, as far as it is counted by."""

    verb: str
    resource: str
    """Plural, with its subresource; a path where it was about no resource."""
    name: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, self))


class AuditLog:
    """The log of one API server, and a place in it that counting begins at."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._from = 0

    def begin(self) -> None:
        """Count from here on, instead of from the cluster's start."""
        self._from = self._path.stat().st_size

    def requests(self, user: str) -> list[Asked]:
        """A user's requests since `begin`, as they came; those of the unknown are the empty user's."""
        with self._path.open("rb") as log:
            log.seek(self._from)
            lines = log.read().splitlines(keepends=True)
        # A watch is logged twice, when it comes and when it begins. The last line may still be on its way.
        events = {event["auditID"]: event for event in map(json.loads, (each for each in lines if b"\n" in each))}
        return [_asked(event) for event in events.values() if _user(event) == user]

    def asked(self, user: str) -> Counter[Asked]:
        """How often a user asked what since `begin`."""
        return Counter(self.requests(user))

    def wait_until(self, user: str, done: Callable[[list[Asked]], bool], seconds: float = 60) -> Counter[Asked]:
        """What a user asked as soon as it is what is waited for. Raises TimeoutError with what it is."""
        deadline = time.monotonic() + seconds
        while not done(requests := self.requests(user)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not so within {seconds:g} s; asked was {dict(Counter(requests))}")
            time.sleep(0.1)
        return Counter(requests)


def account(namespace: str, name: str) -> str:
    """A service account as a user."""
    return f"system:serviceaccount:{namespace}:{name}"


def _user(event: dict[str, Any]) -> str:
    name: str = event.get("user", {}).get("username", "")
    return "" if name == "system:anonymous" else name


def _asked(event: dict[str, Any]) -> Asked:
    about = event.get("objectRef")
    if about is None or not about.get("resource"):
        return Asked(event["verb"], event["requestURI"].partition("?")[0])
    subresource = f"/{about['subresource']}" if about.get("subresource") else ""
    return Asked(event["verb"], f"{about['resource']}{subresource}", about.get("name", ""))
