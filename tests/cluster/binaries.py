"""Builds every program of the cluster from the Go module proxy, once per version, into the cache.

Nobody publishes these as Debian packages in versions that work together, and prebuilt downloads need a network
that CI may not have; the module proxy gives the same sources, checked against the public checksum database.
"""

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.cluster.paths import keyed
from tests.cluster.progress import build_lock, say, step, tried_again

KUBERNETES = "v1.36.3"
_HERE = Path(__file__).parent
# Raise it when the way of building changes although no version does.
_RECIPE = "1"


@dataclass(frozen=True)
class Module:
    """A Go module at a version, and the programs taken from it (program name -> package)."""

    path: str
    version: str
    programs: dict[str, str]
    tags: str = ""
    ldflags: str = ""
    # Built inside a module of our own, because its go.mod replaces or excludes something (`go install` refuses).
    wrapped: bool = False
    # The program's main package, a file beside this one; else `programs` names packages of the module.
    main: str = ""
    # Linked statically against C libraries of this machine.
    cgo: bool = False
    # Files kept beside the programs (folder in the cache -> patterns in the module).
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)


def _kubernetes_version_flags() -> str:
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    setting = "-X k8s.io/component-base/version"
    return f"{setting}.gitVersion={KUBERNETES} {setting}.gitMajor={major} {setting}.gitMinor={minor}"


_KUBERNETES_PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)

MODULES = (
    Module(
        "k8s.io/kubernetes",
        KUBERNETES,
        {program: f"k8s.io/kubernetes/cmd/{program}" for program in _KUBERNETES_PROGRAMS},
        ldflags=_kubernetes_version_flags(),
        wrapped=True,
    ),
    Module("go.etcd.io/etcd/server/v3", "v3.6.5", {"etcd": "go.etcd.io/etcd/server/v3"}, wrapped=True),
    Module(
        # Debian's containerd 1.6 is too old for this kubelet.
        "github.com/containerd/containerd/v2",
        "v2.4.2",
        {
            program: f"github.com/containerd/containerd/v2/cmd/{program}"
            for program in ("containerd", "ctr", "containerd-shim-runc-v2")
        },
        tags="no_btrfs no_devmapper no_zfs",
    ),
    Module(
        # Debian's runc 1.1.5 fails on recent kernels.
        "github.com/opencontainers/runc",
        "v1.5.2",
        {"runc": "github.com/opencontainers/runc"},
        tags="seccomp netgo osusergo",
        ldflags="-linkmode external -extldflags -static",
        cgo=True,
    ),
    Module(
        "sigs.k8s.io/kwok",
        "v0.8.0",
        {"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
        files={"kwok-stages": ("kustomize/stage/node/fast/node-*.yaml", "kustomize/stage/pod/fast/pod-*.yaml")},
    ),
    Module("github.com/coredns/coredns", "v1.12.4", {"coredns": "."}, wrapped=True, main="coredns.go"),
)


def binaries_directory() -> Path:
    """Where the programs of these versions are, or will be."""
    recipe = [_RECIPE, repr(MODULES), *((_HERE / name).read_text() for name in ("pause.c", "coredns.go"))]
    return keyed("bin", recipe)


def _complete(module: Module, target: Path) -> bool:
    return all((target / name).exists() for name in (*module.programs, *module.files))


def built() -> bool:
    target = binaries_directory()
    return (target / "pause").exists() and all(_complete(module, target) for module in MODULES)


def build_binaries() -> Path:
    """Builds what is missing and returns the folder of programs; about ten minutes the first time on two cores."""
    target = binaries_directory()
    if built():
        return target
    with build_lock():
        target.mkdir(parents=True, exist_ok=True)
        todo = [module for module in MODULES if not _complete(module, target)]
        if todo:
            say(f"building {len(todo)} Go modules into {target}: about ten minutes on two cores, once per version")
        for module in todo:
            with step(f"building {', '.join(module.programs)} {module.version}"):
                tried_again(partial(build_module, module, target))
        if not (target / "pause").exists():
            _build_pause(target)
    return target


def _run(argv: list[str], directory: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(argv, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(argv)}` in {directory} failed:\n{done.stderr[-4000:]}")
    return done.stdout


def build_module(module: Module, target: Path) -> None:
    """Puts the module's programs into the folder `target`. Raises RuntimeError with what the compiler says."""
    environment = {
        **os.environ,
        "GOFLAGS": "-buildvcs=false",
        "GOWORK": "off",
        "CGO_ENABLED": "1" if module.cgo else "0",
    }
    # Beside the target, so that the renames below are atomic.
    with tempfile.TemporaryDirectory(dir=target, prefix=".build-") as made:
        work, out = Path(made) / "module", Path(made) / "bin"
        work.mkdir()
        out.mkdir()
        flags = ["-trimpath", "-ldflags", f"-s -w {module.ldflags}".strip(), "-tags", module.tags]
        if module.wrapped:
            _write_wrapper(module, work, environment)
            _run(["go", "mod", "tidy"], work, environment)
            for program, package in module.programs.items():
                _run(["go", "build", *flags, "-o", str(out / program), package], work, environment)
        else:
            packages = [f"{package}@{module.version}" for package in module.programs.values()]
            _run(["go", "install", *flags, *packages], work, {**environment, "GOBIN": str(out)})
        _collect_files(module, out, work, environment)
        for name in (*module.files, *module.programs):
            (out / name).rename(target / name)


def _download(module: Module, work: Path, environment: dict[str, str]) -> dict[str, str]:
    """What `go mod download -json` says: GoMod (the go.mod file) and Dir (the unpacked module)."""
    text = _run(["go", "mod", "download", "-json", f"{module.path}@{module.version}"], work, environment)
    answer: dict[str, str] = json.loads(text)
    return answer


def _write_wrapper(module: Module, work: Path, environment: dict[str, str]) -> None:
    """A module that only imports the programs, so that `go mod tidy` resolves what they need."""
    source = _download(module, work, environment)["GoMod"]
    upstream = json.loads(_run(["go", "mod", "edit", "-json", source], work, environment))
    lines = ["module eidos.test/wrapper", f"go {upstream['Go']}", f"require {module.path} {module.version}"]
    # Kubernetes requires its staging modules at v0.0.0, from folders that the module does not carry; each is
    # published under the same number with major version 0.
    published = module.version.replace("v1.", "v0.", 1)
    lines += [
        f"replace {required['Path']} => {required['Path']} {published}"
        for required in upstream["Require"]
        if required["Version"] == "v0.0.0"
    ]
    (work / "go.mod").write_text("\n".join(lines) + "\n")
    if module.main:
        shutil.copyfile(_HERE / module.main, work / "main.go")
        return
    imports = "\n".join(f'import _ "{package}"' for package in module.programs.values())
    (work / "tools.go").write_text(f"//go:build tools\n\npackage tools\n\n{imports}\n")


def _collect_files(module: Module, out: Path, work: Path, environment: dict[str, str]) -> None:
    if not module.files:
        return
    source = Path(_download(module, work, environment)["Dir"])
    for folder, patterns in module.files.items():
        (out / folder).mkdir()
        for pattern in patterns:
            for found in sorted(source.glob(pattern)):
                shutil.copyfile(found, out / folder / found.name)


def _build_pause(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target, prefix=".build-") as made:
        out = Path(made) / "pause"
        _run(["cc", "-static", "-O2", "-Wall", "-o", str(out), str(_HERE / "pause.c")], target, dict(os.environ))
        out.rename(target / "pause")
