"""Reading of a pod's log, followed across lost connections without losing or repeating a line."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Final

from common.kube.call import Call, path_of
from common.kube.client import Kube
from common.kube.errors import KubeError

_LONGEST_LINE: Final = 1 << 20
# RFC 3339 with up to nine digits after the second; the runtime writes the node's own time zone.
_STAMP: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?")


async def logs(
    kube: Kube,
    namespace: str,
    pod: str,
    *,
    container: str = "",
    follow: bool = False,
    previous: bool = False,
    tail: int | None = None,
) -> AsyncGenerator[bytes, None]:
    """Lines of a container's log without their ends; longer ones than 1 MiB come in pieces.

    With `follow`, new lines until the container ends; a broken connection is resumed. `tail` begins that many lines
    before the end. Raises KubeError, with status 400 while the container has not started. Close it with
    contextlib.aclosing.
    """
    # Stamps tell where to resume: the server takes whole seconds only, so lines known already come again.
    params: dict[str, str | int] = {"timestamps": "true"}
    params |= {"container": container} if container else {}
    params |= {"follow": "true"} if follow else {}
    params |= {"previous": "true"} if previous else {}
    params |= {"tailLines": tail} if tail is not None else {}
    path = path_of("v1", "pods", namespace, pod, "log")
    seen = _Seen()
    failures = 0
    last: KubeError | None = None
    while True:
        call = Call("GET", path, dict(params))
        try:
            async with aclosing(kube.lines(call, longest=_LONGEST_LINE, cut=True, last=last)) as lines:
                async for line in lines:
                    stamp = _STAMP.match(line)
                    if seen.is_new(stamp):
                        failures = 0
                        yield line[stamp.end() :] if stamp else line
            return
        except KubeError as error:
            if not (follow and error.transient):
                raise
            failures, last = failures + 1, error
            async with kube.within_deadline(call, error):
                await asyncio.sleep(kube.pause(failures, error))
            if seen.since:
                params.pop("tailLines", None)
                params["sinceTime"] = seen.since
                seen.resume()


class _Seen:
    """Which lines were given already. Stamps never decrease, and several lines may share one."""

    def __init__(self) -> None:
        self.since = ""
        """The second of the last line given, as the server takes it."""
        self._last: tuple[datetime, str] | None = None
        self._count = 0
        self._skip = 0

    def is_new(self, stamp: re.Match[bytes] | None) -> bool:
        if stamp is None:  # the rest of a line that was cut
            return self._skip == 0
        second, fraction, zone = (part.decode() for part in stamp.groups(b""))
        try:
            order = datetime.fromisoformat(second + zone), fraction.ljust(9, "0")
        except ValueError:  # no such day or hour: not the runtime's stamp
            return self._skip == 0
        if self._last is None or order > self._last:
            self.since = second + zone
            self._last, self._count, self._skip = order, 1, 0
            return True
        if order < self._last:
            return False
        if self._skip:
            self._skip -= 1
            return False
        self._count += 1
        return True

    def resume(self) -> None:
        """What comes next may repeat the lines that share the last stamp."""
        self._skip = self._count
