"""A host's files in memory: what the recorder and the construction scripts fill and the archive stores."""

from dataclasses import dataclass, field
from typing import Final

Content = str | int | bytes

ROOT: Final = "/"


@dataclass
class Tree:
    """Files, links, directories and what cannot be read, by host path. Parents need not be named."""

    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    """Directories, of which only those without entries matter."""
    errors: dict[str, int] = field(default_factory=dict)
    """errno that reading the file, or listing the directory, ends in."""

    def write(self, path: str, content: Content) -> None:
        """A file; text and numbers get the newline that /proc and /sys end in."""
        self.files[path] = content if isinstance(content, bytes) else f"{content}\n".encode()

    def write_all(self, directory: str, contents: dict[str, Content]) -> None:
        for name, content in contents.items():
            self.write(f"{directory}/{name}", content)

    def link(self, path: str, target: str) -> None:
        """A symbolic link. An absolute target is written relative, as the kernel does in /sys."""
        self.links[path] = relative(target, path.rpartition("/")[0]) if target.startswith("/sys/") else target

    def __len__(self) -> int:
        return len(self.files) + len(self.links) + len(self.directories | set(self.errors))


def relative(target: str, directory: str) -> str:
    """`target` as seen from `directory`, both absolute and free of links."""
    to, at = target.strip("/").split("/"), directory.strip("/").split("/")
    common = 0
    while common < min(len(to), len(at)) and to[common] == at[common]:
        common += 1
    return "/".join([".."] * (len(at) - common) + to[common:])
