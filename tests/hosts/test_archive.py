"""The archive format: what is written is what is read, and every part of the format means what it says."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.hosts.archive import ArchiveError, dump, parse, unpack
from tests.hosts.tree import Tree, relative

EXAMPLE = """\
# An example.
[/proc]
version = Linux
empty = ""
blank =
odd = "no newline\\tat the end"
cmdline |
|first
|
|third
cpuinfo | 3
|processor\t: 0
|model\t: X
|
|processor\t: 1
~2
kcore hex 2:ff00ee 8:
"a name" = spaces

[/sys/cpu/cpu[0-2]]
number = {}
node -> ../../node/node{}
same = 1
memory[4-5]/

[/sys]
secret/ ! EACCES
speed ! EINVAL
nothing/
"""


def test_parse() -> None:
    tree = parse(EXAMPLE)
    assert tree.files == {
        "/proc/version": b"Linux\n",
        "/proc/empty": b"",
        "/proc/blank": b"\n",
        "/proc/odd": b"no newline\tat the end",
        "/proc/cmdline": b"first\n\nthird\n",
        "/proc/cpuinfo": b"processor\t: 0\nmodel\t: X\n\nprocessor\t: 1\nmodel\t: X\n\n",
        "/proc/kcore": b"\0\0\xff\0\xee\0\0\0",
        "/proc/a name": b"spaces\n",
        **{f"/sys/cpu/cpu{n}/number": f"{n}\n".encode() for n in range(3)},
        **{f"/sys/cpu/cpu{n}/same": b"1\n" for n in range(3)},
    }
    assert tree.links == {f"/sys/cpu/cpu{n}/node": f"../../node/node{n}" for n in range(3)}
    assert tree.errors == {"/sys/secret": errno.EACCES, "/sys/speed": errno.EINVAL}
    assert {f"/sys/cpu/cpu{n}/memory{m}" for n in range(3) for m in (4, 5)} < tree.directories
    assert "/sys/nothing" in tree.directories


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[/a]\nname", "line 2: 'name' is no entry"),
        ("[/a]\nname ? x", "line 2: 'name ? x' is no entry"),
        ("|stray", "line 1: '|stray' is no entry"),
        ("[/a]\nx = 1\n|stray", "line 2: 'x = 1' is no entry"),
        ("[/a]\nx ! EODD", "line 2: 'EODD' is no error"),
        ('[/a]\nx = "open', "line 2: "),
        ("[/a]\nx |\n~1", "line 2: "),
        ("[/a]\nx hex 0:zz", "line 2: "),
        ("[/a]\nx/ = 1", "line 2: 'x/ = 1' is no entry"),
        ("[/proc/sys/vm]\nx ! EACCES", "line 2: an error below /proc/sys would not be seen"),
    ],
)
def test_malformed_archives(text: str, message: str) -> None:
    with pytest.raises(ArchiveError) as error:
        parse(text)
    assert str(error.value).startswith(message)


def test_equal_directories_and_names_are_written_once() -> None:
    tree = Tree()
    for number in range(64):
        tree.write(f"/sys/cpu/cpu{number}/id", number)
        tree.write(f"/sys/cpu/cpu{number}/package", number // 32)
        tree.link(f"/sys/cpu/cpu{number}/node0", "../../node/node0")
        tree.write(f"/sys/names/n{number}", b"")
    assert dump(tree).split("\n") == [
        "[/sys/cpu/cpu[0-31]]",
        "id = {}",
        "node0 -> ../../node/node0",
        "package = 0",
        "",
        "[/sys/cpu/cpu[32-63]]",
        "id = {}",
        "node0 -> ../../node/node0",
        "package = 1",
        "",
        "[/sys/names]",
        'n[0-63] = ""',
        "",
    ]


_NAMES = st.sampled_from(
    ["a", "b0", "b1", "b2", "c d", "e[0-1]", "#f", "~g", "|h", '"i', "{}", "=", "1", "2", "x/y0", "x/y1"]
)
_PATHS = st.builds("/{}/{}".format, st.sampled_from(["d", "d0", "d1", "d2", "d10"]), _NAMES)
_CONTENTS = st.one_of(
    st.sampled_from([b"", b"\n", b"0\n", b"1\n", b"2\n", b"{}\n", b' "x"\n', b"a = 1\nb = 1\n", b"x\n\nx\n\ny\n"]),
    st.binary(max_size=40),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace")),
    st.lists(st.sampled_from(["", "a", "b", "~1", "|"]), max_size=20).map(lambda lines: "\n".join(lines).encode()),
)


@given(
    st.dictionaries(_PATHS, _CONTENTS, max_size=12),
    st.dictionaries(_PATHS.map("{}l".format), st.sampled_from(["../x", "t0", "t1", "t2", "a b", "{}"]), max_size=6),
)
@example({"/d/a": b"", "/d1/a": b""}, {"/d/al": "../x", "/d1/al": "../x"})
def test_what_is_written_is_read(files: dict[str, bytes], links: dict[str, str]) -> None:
    tree = Tree(files=dict(files), links=dict(links))
    text = dump(tree)
    read = parse(text)
    assert read.files == tree.files
    assert read.links == tree.links
    assert dump(read) == text


def test_unpacked_hosts_read_like_live_ones(tmp_path: Path) -> None:
    host = unpack(parse(EXAMPLE + "\n[/sys/class]\ncpu0 -> ../cpu/cpu0\n"), tmp_path)
    assert host.read_text("/sys/class/cpu0/same") == "1\n"
    assert host.listdir("/sys/cpu/cpu1") == ["memory4", "memory5", "node", "number", "same"]
    assert host.listdir("/sys/nothing") == []
    for path, number in (("/sys/speed", errno.EINVAL), ("/sys/gone", errno.ENOENT)):
        with pytest.raises(OSError, match=os.strerror(number)):
            host.read_text(path)
    with pytest.raises(PermissionError):
        host.listdir("/sys/secret")


@pytest.mark.parametrize(
    ("target", "directory", "expected"),
    [
        ("/sys/devices/a/b", "/sys/class/net", "../../devices/a/b"),
        ("/sys/devices/a", "/sys/devices/a/b", ".."),
        ("/sys/bus/pci/drivers/nvme", "/sys/devices/pci0000:00/0000:00:01.0", "../../../bus/pci/drivers/nvme"),
    ],
)
def test_relative(target: str, directory: str, expected: str) -> None:
    assert relative(target, directory) == expected
