"""One of our programs as its next version: protocol and schema are one higher, and the oldest protocol is the same.

    python -m tests.fleet.versioned next|next-facts agent|aggregator ARGUMENTS…

With `next-facts` the collectors have changed too: OS.release has a key more and a key less.
"""

import runpy
import sys

from common import version

NEXT = f"{version.VERSION}+next"
ADDED, DROPPED = "EIDOS_ADDED", "HOME_URL"


def main() -> None:
    """See the module's docstring."""
    how, sys.argv = sys.argv[1], sys.argv[2:]
    # Before anything else is imported, which may take their values.
    setattr(version, "VERSION", NEXT)  # noqa: B010 - they are constants to everybody else
    setattr(version, "SCHEMA", version.SCHEMA + 1)  # noqa: B010
    from common import wire

    setattr(wire, "PROTOCOL", wire.PROTOCOL + 1)  # noqa: B010
    if how == "next-facts":
        _change_facts()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _change_facts() -> None:
    from agent.collectors import release

    parse = release.parse_os_release

    def changed(text: str) -> dict[str, str | int | float | bool]:
        found = {**parse(text), ADDED: "yes"}
        found.pop(DROPPED, None)
        return found

    setattr(release, "parse_os_release", changed)  # noqa: B010


if __name__ == "__main__":
    main()
