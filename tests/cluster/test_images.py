"""Both Dockerfiles, really built and run: as nobody in particular, from a root file system nobody can write."""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from common.version import VERSION
from tests.cluster.baseimage import build_image
from tests.cluster.cluster import Cluster
from tests.cluster.images import (
    AGENT_DOCKERFILE,
    AGGREGATOR_DOCKERFILE,
    CHECKOUT,
    agent_archive,
    aggregator_archive,
    context_files,
)
from tests.cluster.manifests import pod

pytestmark = pytest.mark.cluster

_MB: Final = 1e6
_MOST_OF_OURS: Final = 110 * _MB
"""What may come on top of the base image, unpacked."""

# Importing every module finds what the image lacks of the libraries that are imported early; the rest is named.
_IMPORT_ALL: Final = """
import importlib, pkgutil, sys
for package in sys.argv[1].split(","):
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, f"{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
for library in sys.argv[2].split(","):
    importlib.import_module(library)
print("imported")
"""
# Byte code that goes by a source's time is worthless where times were changed, and nobody can write it anew there.
_UNCOMPILED: Final = """
import importlib.util, pathlib
UNCHECKED = (1).to_bytes(4, "little")  # PEP 552: by hash, which is not looked at
for root in ("/usr/lib/python3.11", "/opt/eidos"):
    for source in pathlib.Path(root).rglob("*.py"):
        compiled = pathlib.Path(importlib.util.cache_from_source(str(source)))
        if not compiled.exists() or compiled.read_bytes()[4:8] != UNCHECKED:
            print("not compiled for good:", source)
"""


class Layer(NamedTuple):
    digest: str
    size: int
    """Bytes, unpacked."""


class Image:
    """What a docker archive says of its image."""

    def __init__(self, archive: Path) -> None:
        with tarfile.open(archive) as tar:
            (entry,) = self._json(tar, "manifest.json")
            self.configuration = self._json(tar, entry["Config"])
            sizes = [tar.getmember(name).size for name in entry["Layers"]]
        digests = self.configuration["rootfs"]["diff_ids"]
        self.layers = [Layer(digest, size) for digest, size in zip(digests, sizes, strict=True)]

    @staticmethod
    def _json(tar: tarfile.TarFile, name: str) -> Any:
        content = tar.extractfile(name)
        assert content is not None
        return json.load(content)


@pytest.fixture(scope="module", params=["agent", "aggregator"])
def image(request: pytest.FixtureRequest) -> Image:
    return Image({"agent": agent_archive, "aggregator": aggregator_archive}[request.param]())


def test_labels_and_user(image: Image) -> None:
    said = image.configuration["config"]
    labels = {key.rpartition(".")[2]: value for key, value in said["Labels"].items() if "opencontainers" in key}
    assert labels["version"] == VERSION
    assert labels["licenses"] == "Apache-2.0"
    assert labels["title"] in ("eidos", "eidos-aggregator")
    assert {"description", "revision"} <= labels.keys()
    assert said["User"] == "65532:65532"
    assert said["Entrypoint"] == [labels["title"]]


def test_size(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    base, *ours = image.layers
    own = sum(layer.size for layer in ours)
    title = image.configuration["config"]["Labels"]["org.opencontainers.image.title"]
    with capsys.disabled():
        print(f"\n{title}: {(base.size + own) / _MB:.0f} MB unpacked, {own / _MB:.0f} MB of it beside the base")
    assert own < _MOST_OF_OURS


def test_no_time_of_building_is_left(image: Image) -> None:
    assert image.configuration["created"].startswith("1970-01-01T00:00:00")


def _copy(source: Path, target: Path, mode: int) -> Path:
    """Of all that goes into the images, as another checkout has it: with other times and modes."""
    for path in (AGENT_DOCKERFILE, AGGREGATOR_DOCKERFILE, CHECKOUT / ".dockerignore", *context_files()):
        name = path.relative_to(CHECKOUT)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
        (target / name).chmod(mode if name.suffix == ".py" else 0o644)
    return target


def test_built_again_elsewhere_layers_are_the_same(tmp_path: Path) -> None:
    """Our code, built from two checkouts by two Dockerfiles, and Python below it: a node keeps both once."""
    one = _copy(CHECKOUT, tmp_path / "one", 0o644)  # of one moment: somebody may be working in ours
    two = _copy(one, tmp_path / "two", 0o600)
    agent = Image(build_image(one / AGENT_DOCKERFILE.name, "eidos.test/again:agent", one)).layers
    aggregator = Image(build_image(two / AGGREGATOR_DOCKERFILE.name, "eidos.test/again:aggregator", two)).layers
    assert agent[:2] == aggregator[:2]
    assert agent[-1] == aggregator[-1]


def _output(cluster: Cluster, name: str, image: str, script: str) -> str:
    """What a script says in a pod that may do nothing, on a kubelet that refuses to run it as root."""
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-euc", script],
        "securityContext": {
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod(name, "cpu-1", "", containers=[container])))
    try:
        # Whatever becomes of it, it ends: what it said tells why.
        ended = "{.status.containerStatuses[0].state.terminated.exitCode}"
        cluster.kubectl("wait", f"--for=jsonpath={ended}", f"pod/{name}", "--timeout=100s")
        said = cluster.kubectl("logs", name)
        assert cluster.kubectl("get", "pod", name, "-o", f"jsonpath={ended}") == "0", said
        return said
    finally:
        cluster.kubectl("delete", "pod", name, "--wait=false")


def _python(program: str, *arguments: str) -> str:
    return f"python - {' '.join(arguments)} <<'END'\n{program}\nEND"


def test_the_agents_image_runs(cluster: Cluster, agent_image: str) -> None:
    libraries = "aiohttp,pystemd,pynvml,zstandard,tenacity,ClusterShell,jinja2,rich"
    said = _output(
        cluster,
        "agent-image",
        agent_image,
        f"""
id -u
eidos --version
eidos-agent --version
python -m agent --help
eidos snapshot --collectors os --format json > /dev/null
{_python(_IMPORT_ALL, "agent,common,cli", libraries)}
{_python(_UNCOMPILED)}
""",
    ).splitlines()
    assert said[0] == "65532"
    assert VERSION in said[1]
    assert said[2] == VERSION
    assert said[3].startswith("usage: eidos-agent")
    assert said[-1] == "imported"


def test_the_aggregators_image_runs(cluster: Cluster, aggregator_image: str) -> None:
    libraries = "aiohttp,uvloop,cryptography,jwt,prometheus_client,zstandard,msgspec,tenacity,ClusterShell"
    libraries += ",cel_expr_python.cel"
    said = _output(
        cluster,
        "aggregator-image",
        aggregator_image,
        f"""
id -u
eidos --version
python -m aggregator --help
eidos-aggregator --help > /dev/null
test -d /var/lib/eidos
{_python(_IMPORT_ALL, "aggregator,common", libraries)}
{_python(_UNCOMPILED)}
""",
    ).splitlines()
    assert said[0] == "65532"
    assert VERSION in said[1]
    assert said[2].startswith("usage: eidos-aggregator")
    assert said[-1] == "imported"
