"""cm:// documents through references, as commands use them."""

from pathlib import Path

import pytest

from common import refs
from common.errors import ClusterError, Code, InputError
from common.kube.choice import ClusterChoice
from tests.common.kube.documents import data_of, noise
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.kubeconfig import write_kubeconfig

pytestmark = pytest.mark.usefixtures("small_shards")


@pytest.fixture
def cluster(api: FakeApiServer, tmp_path: Path) -> ClusterChoice:
    return ClusterChoice(write_kubeconfig(tmp_path / "kubeconfig", api.url), "test")


@pytest.mark.parametrize(
    ("content", "key"),
    [(b"kind: Snapshot\n", "snapshot.yaml"), (b'{"kind": 1}', "snapshot.json"), (b"Node  x\n", "snapshot.txt")],
)
def test_references(api: FakeApiServer, cluster: ClusterChoice, content: bytes, key: str) -> None:
    ref = refs.parse_ref("cm://x/snap")
    refs.check_writable(ref, cluster)
    refs.write(ref, content, cluster)
    assert data_of(api)[key].encode() == content
    assert refs.read(ref, cluster=cluster) == content


def test_references_to_long_documents(api: FakeApiServer, cluster: ClusterChoice) -> None:
    ref = refs.parse_ref("cm://x/snap")
    content = b"\n".join(noise(seed, 100) for seed in range(200))
    refs.write(ref, content, cluster)
    assert refs.read(ref, cluster=cluster) == content
    assert "left out of this text" in data_of(api)["snapshot.txt"]
    with pytest.raises(InputError, match="longer than 100 bytes"):
        refs.read(ref, 100, cluster)


def test_references_raise_cluster_errors(api: FakeApiServer, cluster: ClusterChoice) -> None:
    with pytest.raises(ClusterError) as caught:
        refs.read(refs.parse_ref("cm://x/missing"), cluster=cluster)
    assert (caught.value.code, caught.value.exit_status) == (Code.CLUSTER_NOT_FOUND, 4)
