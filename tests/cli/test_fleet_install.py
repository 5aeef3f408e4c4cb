"""The flags of what installs a fleet, without a cluster."""

from pathlib import Path

import pytest
import yaml

from cli.main import run
from installer.objects import build
from installer.settings import Settings
from tests.fakes.kubeconfig import write_kubeconfig


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A kubeconfig of a cluster that is not there, and nothing else that names one."""
    for name in ("EIDOS_SERVER", "EIDOS_TOKEN_FILE", "EIDOS_CA_FILE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", write_kubeconfig(path, "https://127.0.0.1:1"))
    return path


def test_a_dry_run_writes_what_would_be_applied(capsys: pytest.CaptureFixture[str], nowhere: Path) -> None:
    nowhere.unlink()  # it needs no cluster
    flags = ["--namespace=watch", "--overlay=ha,gpu-nodes", "--agent-image=reg/a:1", "--node-selector=pool=x"]
    assert run(["fleet", "install", "--dry-run", *flags]) == 0
    wanted = Settings(
        namespace="watch", overlays=("ha", "gpu-nodes"), agent_image="reg/a:1", node_selector={"pool": "x"}
    )
    written = list(yaml.safe_load_all(capsys.readouterr().out))
    assert written == [item.manifest for item in build(wanted)]


def test_a_dry_run_into_a_file(tmp_path: Path) -> None:
    assert run(["fleet", "install", "--dry-run", "-o", str(tmp_path / "fleet.yaml")]) == 0
    assert len(list(yaml.safe_load_all((tmp_path / "fleet.yaml").read_text()))) == len(build(Settings()))
    assert run(["fleet", "install", "--dry-run", "-o", "cm://a/b"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["install", "--dry-run", "--overlay", "gpus"], "there is no overlay 'gpus'. Choose from cert-manager,"),
        (["install", "--dry-run", "--overlay=talos,restricted"], "restricted and talos exclude each other"),
        (["install", "--dry-run", "--node-selector", "pool"], "--node-selector 'pool' is not KEY=VALUE"),
        (
            ["install", "--dry-run", "--node-selector", "a=b", "--node-selector=a=c"],
            "--node-selector says a=b and a=c",
        ),
        (
            ["install", "--dry-run", "--overlay", "gpu-nodes", "--node-selector", "nvidia.com/gpu.present=false"],
            "an overlay chooses nodes with nvidia.com/gpu.present=true, and --node-selector those with",
        ),
        (["install", "-o", "fleet.yaml"], "--output means nothing without --dry-run"),
        (["install", "--image-pull-policy", "sometimes"], "Invalid value for '--image-pull-policy'"),
        (["install", "--dry-run", "--namespace", "Bad_NS"], "--namespace 'Bad_NS' is not a namespace"),
        (["install", "--dry-run", "--namespace", "n" * 64], "is not a namespace"),
        (["install", "--dry-run", "--image-pull-secret", "X_Y"], "--image-pull-secret 'X_Y' is not a name"),
        (["install", "--dry-run", "--node-selector", "a b=c"], "--node-selector 'a b' is not a key"),
        (["upgrade", "--namespace", ""], "--namespace '' is not a namespace"),
        (["uninstall", "--namespace", "Bad_NS", "--yes"], "--namespace 'Bad_NS' is not a namespace"),
        (["snapshot", "--ephemeral", "--namespace", "Bad_NS"], "--namespace 'Bad_NS' is not a namespace"),
        (["install", "--dry-run", "--agent-image", "UPPER/Case:1"], "'UPPER/Case:1' is not the name of an image"),
        (["install", "--agent-image", ""], "--agent-image '' is not the name of an image"),
        (["upgrade", "--aggregator-image", "a b"], "--aggregator-image 'a b' is not the name of an image"),
        (["install", "--timeout", "soon"], "Invalid value for '--timeout'"),
        (["snapshot", "--timeout", "1m"], "--timeout means nothing without --ephemeral"),
        (["snapshot", "--agent-image", "a"], "--agent-image means nothing without --ephemeral"),
        (["snapshot", "--ephemeral", "--server", "https://x"], "--ephemeral makes an aggregator of its own"),
        (["uninstall", "--context", "prod", "--yes"], "prod"),
    ],
)
def test_wrong_use_is_said_before_anything_is_asked(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fleet", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["install"], ["upgrade"], ["uninstall", "--yes"], ["snapshot", "--ephemeral", "--format=yaml"]],
    ids=" ".join,
)
def test_a_cluster_that_is_not_there(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    timeout = [] if arguments[0] == "uninstall" else ["--timeout", "1s"]
    assert run(["fleet", *arguments, *timeout]) in (4, 5)
    error = capsys.readouterr().err.splitlines()[-1]
    assert "https://127.0.0.1:1 cannot be reached: connection refused" in error or "before the deadline" in error


def test_without_any_cluster(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere.unlink()
    assert run(["fleet", "install"]) == 2
    assert "no cluster is configured here" in capsys.readouterr().err
