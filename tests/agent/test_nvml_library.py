"""Where the library is looked for, and which one is taken."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.host import Host
from agent.nvml_library import SONAME, find_library, is_loadable, parse_ld_cache, search_paths

ELF = b"\x7fELF\x02\x01\x01\x00" + bytes(8) + b"\x03\x00"
X86_64, AARCH64 = ELF + b"\x3e\x00", ELF + b"\xb7\x00"
I386 = b"\x7fELF\x01\x01\x01\x00" + bytes(8) + b"\x03\x00\x03\x00"


def put(root: Path, path: str, content: bytes = X86_64) -> str:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return str(file)


def find(*roots: Path, driver: str = "", **environment: str) -> str | None:
    return find_library([Host(str(root)) for root in roots], driver, environment, machine="x86_64")


@pytest.mark.parametrize(
    "path",
    [
        "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",  # Debian, Ubuntu
        "/usr/lib64/libnvidia-ml.so.1",  # Red Hat, SUSE, Amazon Linux
        "/usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.1",  # Debian's own driver package
        "/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",  # GPU operator on Ubuntu
        "/run/nvidia/driver/usr/lib64/libnvidia-ml.so.1",  # GPU operator on Red Hat
        "/home/kubernetes/bin/nvidia/lib64/libnvidia-ml.so.1",  # GKE
        "/usr/local/glibc/usr/lib/libnvidia-ml.so.1",  # Talos
        "/usr/local/glibc/lib/libnvidia-ml.so.1",
        "/usr/local/lib/libnvidia-ml.so.1",
        "/usr/lib/wsl/lib/libnvidia-ml.so.1",
    ],
)
def test_it_is_found_wherever_hosts_have_it(tmp_path: Path, path: str) -> None:
    assert find(tmp_path) is None
    assert find(tmp_path) != put(tmp_path, path)
    assert find(tmp_path) == str(tmp_path) + path


def test_the_container_comes_before_the_host(tmp_path: Path) -> None:
    host, container = tmp_path / "host", tmp_path / "container"
    put(host, "/usr/lib64/libnvidia-ml.so.1")
    own = put(container, "/usr/local/nvidia/lib64/libnvidia-ml.so.1")
    assert find(container, host) == own


def test_a_search_path_of_the_environment_is_of_the_container_only(tmp_path: Path) -> None:
    host, container = tmp_path / "host", tmp_path / "container"
    put(host, "/injected/libnvidia-ml.so.1")
    container.mkdir()
    assert find(container, host, LD_LIBRARY_PATH="relative:/injected") is None
    own = put(container, "/injected/libnvidia-ml.so.1")
    assert find(container, host, LD_LIBRARY_PATH="relative:/injected") == own


def test_links_are_followed_inside_the_root(tmp_path: Path) -> None:
    real = put(tmp_path, "/opt/driver/libnvidia-ml.so.570.133.20")
    link = tmp_path / "usr/lib64" / SONAME
    link.parent.mkdir(parents=True)
    link.symlink_to("/opt/driver/libnvidia-ml.so.570.133.20")
    assert find(tmp_path) == real


def test_the_one_of_the_loaded_driver_wins_over_leftovers(tmp_path: Path) -> None:
    for directory, version in (("/usr/lib64", "535.183.01"), ("/run/nvidia/driver/usr/lib64", "570.133.20")):
        put(tmp_path, f"{directory}/libnvidia-ml.so.{version}")
        (tmp_path / directory.lstrip("/") / SONAME).symlink_to(f"libnvidia-ml.so.{version}")
    assert (find(tmp_path, driver="570.133.20") or "").endswith(
        "/run/nvidia/driver/usr/lib64/libnvidia-ml.so.570.133.20"
    )
    assert (find(tmp_path, driver="550.54.15") or "").endswith("/usr/lib64/libnvidia-ml.so.535.183.01")
    assert (find(tmp_path) or "").endswith("/usr/lib64/libnvidia-ml.so.535.183.01")


@pytest.mark.parametrize("content", [b"", b"\x7fELF", I386, AARCH64, b"#!/bin/sh\nexit 0 # twenty bytes and more\n"])
def test_what_cannot_be_loaded_here_is_passed_over(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, "/usr/lib64/libnvidia-ml.so.1", content)
    good = put(tmp_path, "/usr/local/lib/libnvidia-ml.so.1")
    assert find(tmp_path) == good


def test_odd_files_in_the_way_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "usr/lib64" / SONAME).mkdir(parents=True)
    (tmp_path / "usr/lib/x86_64-linux-gnu").mkdir(parents=True)
    os.mkfifo(tmp_path / "usr/lib/x86_64-linux-gnu" / SONAME)
    (tmp_path / "usr/lib" / SONAME).symlink_to(SONAME)
    assert find(tmp_path) is None


def test_the_linker_cache_tells_places_nobody_thought_of(tmp_path: Path) -> None:
    put(
        tmp_path,
        "/etc/ld.so.cache",
        b"glibc-ld.so.cache1.1\x00\x01\x02/srv/nv/libnvidia-ml.so.1\x00/lib/libc.so.6\x00",
    )
    place = put(tmp_path, "/srv/nv/libnvidia-ml.so.1")
    assert find(tmp_path) == place
    inner = put(tmp_path, "/run/nvidia/driver/odd/libnvidia-ml.so.1")
    put(tmp_path, "/run/nvidia/driver/etc/ld.so.cache", b"\x00/odd/libnvidia-ml.so.1\x00")
    (tmp_path / "srv/nv/libnvidia-ml.so.1").unlink()
    assert find(tmp_path) == inner


def test_a_real_linker_cache_is_read() -> None:
    """Whatever is installed here, the C library is in the cache, and in the same way as any other."""
    content = Path("/etc/ld.so.cache").read_bytes().replace(b"/libc.so.6\x00", b"/libnvidia-ml.so.1\x00")
    assert all(path.startswith("/") for path in parse_ld_cache(content))
    assert parse_ld_cache(content)


@given(st.binary(max_size=400))
@example(b"/libnvidia-ml.so.1\x00")
@example(b"/a\n/libnvidia-ml.so.1\x00")
@example(b"/a/libnvidia-ml.so.1")
def test_any_cache_gives_paths_or_nothing(content: bytes) -> None:
    for path in parse_ld_cache(content):
        assert path.startswith("/")
        assert path.endswith(f"/{SONAME}")
        assert path.isprintable()


@given(st.binary(max_size=40), st.sampled_from(["x86_64", "aarch64", "riscv64"]))
def test_any_header_is_judged(header: bytes, machine: str) -> None:
    assert is_loadable(header, machine) in (True, False)


@given(st.text(max_size=40))
def test_any_search_path_gives_absolute_paths(library_path: str) -> None:
    assert all(path.startswith("/") for path in search_paths(Host("/nonexistent"), "x86_64", library_path))
