"""Reading a host's files below injected roots: links never lead out, and odd files fail instead of hanging."""

import ctypes
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.container_host import ContainerHost
from agent.host import DEFAULT_LIMIT, FileTooLargeError, Host
from tests.common.privileges import directory_for_all, unprivileged
from tests.conftest import cannot_run_here


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host whose root is not ours; what is beside it must never be read."""
    (tmp_path / "secret").write_text("ours")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text("ours")
    host = tmp_path / "host"
    for directory in ("etc", "usr/lib", "proc", "sys", "deep/er"):
        (host / directory).mkdir(parents=True)
    (host / "usr/lib/os-release").write_text("ID=host\n")
    return host


LINKS = [
    ("etc/os-release", "../usr/lib/os-release"),
    ("etc/os-release", "/usr/lib/os-release"),
    ("etc/os-release", "../../../../usr/lib/os-release"),  # more steps up than there are stay at the host's root
    ("etc/os-release", "/../../usr/lib/os-release"),
    ("etc/os-release", "//usr/./lib//os-release"),
    ("etc/os-release", "/deep/er/../../usr/lib/os-release"),
]


@pytest.mark.parametrize(("name", "target"), LINKS)
def test_links_are_followed_inside_the_root(root: Path, name: str, target: str) -> None:
    (root / name).symlink_to(target)
    host = Host(str(root))
    assert host.read_text("/" + name) == "ID=host\n"
    assert host.resolve("/" + name) == str(root / "usr/lib/os-release")
    assert host.readlink("/" + name) == target


def test_directories_that_are_links_and_chains_of_links(root: Path) -> None:
    (root / "lib").symlink_to("/usr/lib")
    (root / "deep/up").symlink_to("..")
    (root / "one").symlink_to("/two")
    (root / "two").symlink_to("deep/up/lib")
    host = Host(str(root))
    assert host.read_text("/one/os-release") == "ID=host\n"
    assert host.listdir("/one") == ["os-release"]
    assert host.glob("/one", "os-*") == ["/one/os-release"]
    assert host.is_dir("/one")
    assert host.exists("/one/os-release")


def test_up_from_a_link_is_up_from_where_it_leads(root: Path) -> None:
    (root / "link").symlink_to("/deep/er")
    (root / "deep/marker").write_text("here")
    assert Host(str(root)).read_text("/link/../marker") == "here"


@pytest.mark.parametrize("target", ["../secret", "../../secret", "/secret", "../host/../secret", "//secret"])
def test_nothing_beside_the_root_is_ever_read(root: Path, target: str) -> None:
    (root / "etc/leak").symlink_to(target)
    host = Host(str(root))
    for path in ("/etc/leak", "/../secret", "/etc/../../secret", "../secret", "/etc/../../../secret"):
        with pytest.raises(FileNotFoundError):
            host.read_bytes(path)
        assert not host.exists(path)
    assert not Host(str(root)).is_dir("/..//../etc/leak")


def test_a_link_out_of_the_root_reads_the_hosts_file_of_that_name(root: Path) -> None:
    (root / "etc/abs").symlink_to(root.parent / "etc/os-release")  # absolute for us, and nothing on the host
    with pytest.raises(FileNotFoundError):
        Host(str(root)).read_text("/etc/abs")
    (root / "etc/rel").symlink_to("../../etc/os-release")
    (root / "etc/os-release").write_text("the host's")
    assert Host(str(root)).read_text("/etc/rel") == "the host's"


@pytest.mark.parametrize("links", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "/b/x", "b": "a"}, {"a": "./a/b"}])
def test_links_in_a_circle(root: Path, links: dict[str, str]) -> None:
    for name, target in links.items():
        (root / name).symlink_to(target)
    host = Host(str(root))
    for call in (host.read_bytes, host.resolve, host.listdir):
        with pytest.raises(OSError, match="symbolic links") as caught:
            call("/a")
        assert caught.value.errno == errno.ELOOP
    assert not host.exists("/a")
    assert not host.is_dir("/a")
    assert host.glob("/a", "*") == []
    assert host.readlink("/a") == links["a"]


def test_forty_links_are_followed_and_more_are_not(root: Path) -> None:
    (root / "l0").write_text("end")
    for number in range(1, 42):
        (root / f"l{number}").symlink_to(f"l{number - 1}")
    host = Host(str(root))
    assert host.read_text("/l40") == "end"
    with pytest.raises(OSError, match="symbolic links"):
        host.read_text("/l41")


# ---- the kernel's own opinion ----


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_OPENAT2 = 437  # on every architecture, openat2(2)
_RESOLVE_IN_ROOT = 0x10


def opened_by_the_kernel(root: Path, path: str) -> str:
    """Where openat2(RESOLVE_IN_ROOT) ends up, relative to root. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
    directory = os.open(root, os.O_PATH | os.O_CLOEXEC)
    try:
        found = libc.syscall(_OPENAT2, directory, path.encode(), ctypes.byref(how), ctypes.sizeof(how))
        if found < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            return os.path.relpath(os.readlink(f"/proc/self/fd/{found}"), root)
        finally:
            os.close(found)
    finally:
        os.close(directory)


_step = st.sampled_from(["a", "b", "c", "..", "..", "."])
_path = st.tuples(st.sampled_from(["", "/"]), st.lists(_step, min_size=1, max_size=5)).map(
    lambda parts: parts[0] + "/".join(parts[1])
)
_place = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)


@given(st.lists(st.tuples(_place, _path), max_size=6), st.lists(_place, max_size=4), st.lists(_path, min_size=1))
def test_links_lead_where_the_kernel_says(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[str, str]], files: list[str], paths: list[str]
) -> None:
    root = tmp_path_factory.mktemp("tree").resolve()
    for place in files:
        make(root / place, lambda path: path.write_text(str(path.relative_to(root))))
    for place, target in links:
        make(root / place, lambda path, target=target: path.symlink_to(target))  # type: ignore[misc]
    host = Host(str(root))
    for path in paths:
        try:
            expected = opened_by_the_kernel(root, path)
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EPERM):
                cannot_run_here(f"openat2(2): {error.strerror}")
            continue  # not there, or a file where a directory should be: reading it fails in any case
        assert os.path.relpath(host.resolve("/" + path), root) == expected


def make(path: Path, create: Callable[[Path], object]) -> None:
    """Make something with its parents, where nothing is in the way."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(path):
            create(path)
    except OSError:
        return  # a file or a link stands where a directory should be


# ---- proc and sys mounted elsewhere ----


@pytest.fixture
def mounted(root: Path, tmp_path: Path) -> Host:
    for name in ("proc", "sys"):
        (tmp_path / f"other-{name}/sub").mkdir(parents=True)
        (tmp_path / f"other-{name}/sub/file").write_text(name)
        (root / f"{name}/wrong").write_text("the empty mount point")
    return Host(str(root), proc=str(tmp_path / "other-proc"), sys=str(tmp_path / "other-sys"))


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_proc_and_sys_may_be_elsewhere(mounted: Host, root: Path, name: str) -> None:
    assert mounted.read_text(f"/{name}/sub/file") == name
    assert mounted.listdir(f"/{name}") == ["sub"]
    assert not mounted.exists(f"/{name}/wrong")
    assert mounted.is_dir(f"/{name}")
    assert mounted.glob(f"/{name}/sub", "*") == [f"/{name}/sub/file"]
    assert mounted.read_text(f"/etc/../{name}/sub/file") == name
    (root / "etc/link").symlink_to(f"/{name}/sub/file")
    (root / "etc/step").symlink_to(f"../{name}")
    assert mounted.read_text("/etc/link") == name
    assert mounted.read_text("/etc/step/sub/file") == name


def test_links_inside_of_proc_lead_to_the_host(mounted: Host, root: Path, tmp_path: Path) -> None:
    (tmp_path / "other-proc/self").symlink_to("sub")
    (tmp_path / "other-proc/root").symlink_to("/")
    (tmp_path / "other-sys/up").symlink_to("../../usr/lib/os-release")
    assert mounted.read_text("/proc/self/file") == "proc"
    assert mounted.read_text("/proc/root/usr/lib/os-release") == "ID=host\n"
    assert mounted.read_text("/proc/root/sys/sub/file") == "sys"
    assert mounted.read_text("/sys/up") == "ID=host\n"


def test_a_mount_point_that_is_a_link_is_read_as_one(root: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    host = Host(str(root), proc=str(tmp_path / "alias"))
    assert host.readlink("/proc") == "real"


def test_only_the_real_root_is_local(root: Path) -> None:
    assert Host().is_local
    assert Host("/").is_local
    assert Host("//").is_local
    assert not Host("/", proc="/proc").is_local
    assert not Host(str(root)).is_local


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_machine_itself(elsewhere: bool) -> None:
    host = Host("/", proc="/proc", sys="/sys") if elsewhere else Host()
    assert host.read_text("/proc/sys/kernel/ostype") == "Linux\n"
    assert "kernel" in host.listdir("/proc/sys")
    assert host.is_dir("/proc/self/fd")
    assert host.exists("/proc/self/exe")
    assert host.readlink("/proc/self") == str(os.getpid())


# ---- odd files ----


@pytest.fixture(params=["direct", "rooted"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Host, Path, str]:
    """A host, a directory of ours, and what the host calls that directory."""
    return (Host(), tmp_path, str(tmp_path)) if request.param == "direct" else (Host(str(tmp_path)), tmp_path, "")


Place = tuple[Host, Path, str]


@pytest.mark.parametrize("size", [0, 1, 5, 65535, 65536, 65537, 200_000])
def test_files_up_to_the_limit(place: Place, size: int) -> None:
    host, path, name = place
    content = os.urandom(size)
    (path / "f").write_bytes(content)
    for limit in (size, size + 1, DEFAULT_LIMIT):
        assert host.read_bytes(f"{name}/f", limit) == content
    if size:
        with pytest.raises(FileTooLargeError, match=f"longer than {size - 1} bytes") as caught:
            host.read_bytes(f"{name}/f", size - 1)
        assert caught.value.errno == errno.EFBIG
        assert caught.value.filename == f"{name}/f"


def test_an_endless_file_ends_at_the_limit(place: Place) -> None:
    host = Host()
    with pytest.raises(FileTooLargeError):
        host.read_bytes("/dev/zero", 100_000)


def test_bytes_that_are_no_text(place: Place) -> None:
    host, path, name = place
    (path / "f").write_bytes(b"a\xff\x00b\xc3\xa9\r\n")
    assert host.read_text(f"{name}/f") == "a\ufffd\x00bé\r\n"
    assert host.read_bytes(f"{name}/f") == b"a\xff\x00b\xc3\xa9\r\n"


def test_a_pipe_without_a_writer_fails_at_once(place: Place) -> None:
    host, path, name = place
    os.mkfifo(path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        host.read_bytes(f"{name}/pipe")


def test_a_pipe_whose_writer_says_nothing_fails_at_once(place: Place) -> None:
    host, path, name = place
    os.mkfifo(path / "pipe")
    descriptor = os.open(path / "pipe", os.O_RDWR)
    try:
        with pytest.raises(BlockingIOError):
            host.read_bytes(f"{name}/pipe")
    finally:
        os.close(descriptor)


def test_a_device_that_gives_nothing_is_no_empty_file() -> None:
    with pytest.raises(OSError, match="not a regular file"):
        Host().read_bytes("/dev/null")


def test_a_socket_and_a_directory_are_no_files(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    host, path, name = place
    monkeypatch.chdir(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        with pytest.raises(OSError, match="No such device"):
            host.read_bytes(f"{name}/s")
    with pytest.raises(IsADirectoryError):
        host.read_bytes(name or "/")


def test_what_is_not_there(place: Place) -> None:
    host, path, name = place
    (path / "file").touch()
    (path / "dangling").symlink_to("nowhere")
    for call in (host.read_bytes, host.read_text, host.listdir, host.readlink):
        with pytest.raises(FileNotFoundError):
            call(f"{name}/none")
        with pytest.raises(NotADirectoryError):
            call(f"{name}/file/x")
    assert not host.exists(f"{name}/none")
    assert not host.exists(f"{name}/dangling")
    assert not host.is_dir(f"{name}/dangling")
    assert not host.is_dir(f"{name}/file")
    assert host.readlink(f"{name}/dangling") == "nowhere"
    assert host.glob(f"{name}/none", "*") == []
    with pytest.raises(OSError, match="Invalid argument"):
        host.readlink(f"{name}/file")


@pytest.mark.parametrize("path", ["/a\0b", "\0", "/etc/\0/x"])
def test_a_zero_byte_is_an_error_like_any_other(place: Place, path: str) -> None:
    host = place[0]
    for call in (host.read_bytes, host.listdir, host.readlink, host.resolve):
        with pytest.raises(OSError, match="Invalid argument"):
            call(path)
    assert not host.exists(path)
    assert not host.is_dir(path)
    assert host.glob(path, "*") == []


def test_permissions() -> None:
    with directory_for_all() as directory:
        (directory / "file").touch()
        (directory / "file").chmod(0)
        (directory / "closed").mkdir(0o700)
        host = Host(str(directory))
        with unprivileged():
            with pytest.raises(PermissionError):
                host.read_bytes("/file")
            with pytest.raises(PermissionError):
                host.listdir("/closed")
            assert not host.exists("/closed/x")
            assert host.glob("/closed", "*") == []


def test_names_are_sorted_and_patterns_are_the_shells(place: Place) -> None:
    host, path, name = place
    for file in ("b", "a2", "a10", "A", ".h", "[x]"):
        (path / file).touch()
    assert host.listdir(name or "/") == [".h", "A", "[x]", "a10", "a2", "b"]
    assert host.glob(name or "/", "a*") == [f"{name}/a10", f"{name}/a2"]
    assert host.glob(name or "/", "a?") == [f"{name}/a2"]
    assert host.glob(name or "/", "[[]x]") == [f"{name}/[x]"]


def test_no_descriptor_is_left_open(place: Place) -> None:
    host, path, name = place
    (path / "f").write_bytes(b"12")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        host.read_bytes(f"{name}/f")
        with pytest.raises(FileTooLargeError):
            host.read_bytes(f"{name}/f", 1)
        with pytest.raises(IsADirectoryError):
            host.read_bytes(name or "/")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_host_says_where_it_is(root: Path) -> None:
    assert repr(Host(str(root))) == f"Host({str(root)!r})"


def test_a_network_is_shared_where_the_first_process_is_in_ours(root: Path) -> None:
    assert Host().shares_network
    assert not Host(str(root)).shares_network
    (root / "proc/1/ns").mkdir(parents=True)
    (root / "proc/1/ns/net").symlink_to("/proc/self/ns/net")
    assert Host(str(root)).shares_network
    assert not ContainerHost().shares_network


def test_a_recorded_namespace_is_not_ours(root: Path) -> None:
    """A link with the same words is no namespace."""
    (root / "proc/1/ns").mkdir(parents=True)
    (root / "proc/1/ns/net").symlink_to(os.readlink("/proc/self/ns/net"))
    assert not Host(str(root)).shares_network
