"""What is taken out of a recorded host, so that it says what a machine is like and not which one it is.

- Hardware addresses, UUIDs, GUIDs, serial numbers, asset tags and host names become made-up ones, the same every
  time and different where they were different.
- Of the kernel command line only options from a list of ordinary ones are kept: the rest says how a machine is run.
- A kernel release keeps its numbers; whoever built it adds the rest.
- Modules of which nothing was read are left out: they say how the kernel was built.
- Namespaces and processes (/proc/1, /proc/self) and files of secrets are left out.
- Registry hosts and mirrors in container runtimes' configuration are left out with their files.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.hosts.tree import Tree

NODE: Final = "recorded"

_OPTIONS: Final = frozenset(
    {
        "console", "default_hugepagesz", "hugepages", "hugepagesz", "intel_iommu", "iommu", "isolcpus", "mitigations",
        "nohz_full", "nokaslr", "nomodule", "numa_balancing", "panic", "pci", "quiet", "random.trust_cpu",
        "rcu_nocbs", "reboot", "ro", "rw", "selinux", "swiotlb", "transparent_hugepage",
    }
)  # fmt: skip
_LEFT_OUT: Final = re.compile(
    r"/proc/(?:\d+|self)(?:/.*)?|.*/(?:certs\.d|stable_secret|tcp_fastopen_key)(?:/.*)?|/etc/(?:docker|crio)(?:/.*)?"
    r"|.*/containerd/.*"
)
_MAC: Final = re.compile(r"\b(?!00(?::00){5}\b|ff(?::ff){5}\b)[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b", re.IGNORECASE)
_UUID: Final = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_GUID: Final = re.compile(r"\b[0-9a-f]{4}(?::[0-9a-f]{4}){3}\b", re.IGNORECASE)
_RELEASE: Final = re.compile(r"\d+\.\d+\.\d+(?:-\d+)?")


class _Names:
    """Gives each original the next made-up one."""

    def __init__(self, make: Callable[[int], str]) -> None:
        self._made: dict[str, str] = {}
        self._make = make

    def __call__(self, found: re.Match[str]) -> str:
        return self._made.setdefault(found[0].lower(), self._make(len(self._made) + 1))


def scrub_cmdline(text: str) -> str:
    """The command line with ordinary options only."""
    return " ".join(word for word in text.split() if word.partition("=")[0] in _OPTIONS) + "\n"


def scrub_release(text: str) -> str:
    """`6.8.0-1024-aws` keeps its numbers, `6.8.0-1024`."""
    found = _RELEASE.match(text)
    return f"{found[0] if found else '0.0.0'}\n"


def _nothing(_: str) -> str:
    return "\n"


_WHOLE: Final[Mapping[str, Callable[[str], str]]] = {
    "/proc/cmdline": scrub_cmdline,
    "/proc/sys/kernel/hostname": lambda _: f"{NODE}\n",
    "/proc/sys/kernel/domainname": lambda _: "(none)\n",
    "/proc/sys/kernel/osrelease": scrub_release,
    "/proc/sys/kernel/version": _nothing,
    "/proc/sys/kernel/core_pattern": lambda _: "core\n",
}
_NAMING: Final = re.compile(r".*/(?:\w*serial\w*|\w*asset_tag|subsysnqn|wwid|node_desc|product_uuid)")


def scrub(tree: Tree, left_out: Sequence[str] = ()) -> Tree:
    """A copy of the tree without what identifies the machine, and without some more paths."""
    macs, uuids = _Names("02:00:00:00:00:{:02x}".format), _Names("00000000-0000-4000-8000-{:012x}".format)
    guids, names = _Names("0200:0000:0000:{:04x}".format), _Names("MADE-UP-{}".format)

    def clean(path: str, content: bytes) -> bytes:
        text = content.decode("utf-8", "surrogateescape")
        if path in _WHOLE:
            text = _WHOLE[path](text)
        elif _NAMING.fullmatch(path):
            text = re.sub(r".*\S.*", names, text)
        text = _GUID.sub(guids, _UUID.sub(uuids, _MAC.sub(macs, text)))
        return text.encode("utf-8", "surrogateescape")

    read = {path.split("/")[3] for path in (*tree.files, *tree.links) if path.startswith("/sys/module/")}

    def kept(path: str) -> bool:
        module = path.startswith("/sys/module/") and path.split("/")[3]
        unwanted = any(path == other or path.startswith(f"{other}/") for other in left_out)
        return not unwanted and not _LEFT_OUT.fullmatch(path) and (not module or module in read)

    return Tree(
        files={path: clean(path, content) for path, content in sorted(tree.files.items()) if kept(path)},
        links={path: target for path, target in tree.links.items() if kept(path)},
        directories={path for path in tree.directories if kept(path)},
        errors={path: number for path, number in tree.errors.items() if kept(path)},
    )
