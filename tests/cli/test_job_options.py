"""The flags of --deploy-agent: what they mean, and what is refused before a cluster is asked."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from agent.job.config import Config, Toleration
from cli import deploy
from cli.deploy import Run, plan
from cli.job_options import parse_pairs, parse_toleration
from cli.job_values import check_image
from cli.main import cli
from common.errors import EidosError, UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nvidia.com/gpu=present:NoSchedule", Toleration("nvidia.com/gpu", "Equal", "present", "NoSchedule")),
        ("nvidia.com/gpu:NoSchedule", Toleration("nvidia.com/gpu", "Exists", "", "NoSchedule")),
        ("dedicated=gpu", Toleration("dedicated", "Equal", "gpu", "")),
        ("dedicated", Toleration("dedicated", "Exists", "", "")),
        ("dedicated=", Toleration("dedicated", "Equal", "", "")),
        ("a=b=c:NoExecute", Toleration("a", "Equal", "b=c", "NoExecute")),
    ],
)
def test_tolerations(text: str, expected: Toleration) -> None:
    assert parse_toleration(text) == expected


@pytest.mark.parametrize("text", ["", ":NoSchedule", "=x:NoSchedule", "a:Never", "a=b:", "a:noschedule"])
def test_what_is_no_toleration(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not KEY\[=VALUE\]\[:EFFECT\]"):
        parse_toleration(text)


def test_pairs() -> None:
    assert parse_pairs(("a=1", "b=2,c=x=y", "d="), "--limits") == {"a": "1", "b": "2", "c": "x=y", "d": ""}
    assert parse_pairs((), "--limits") == {}


@pytest.mark.parametrize("text", ["a", "=b", "a=1,", ""])
def test_what_is_no_pair(text: str) -> None:
    with pytest.raises(UsageError, match=r"--node-selector .* is not KEY=VALUE"):
        parse_pairs((text,), "--node-selector")


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    """Three contexts: prod and staging are two clusters, and prod-again is the first one once more."""
    clusters = {"prod": "https://127.0.0.1:1", "staging": "https://127.0.0.1:2", "prod-again": "https://127.0.0.1:1"}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server}} for name, server in clusters.items()],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "me"}} for name in clusters],
        "current-context": "prod",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def _plan(kubeconfig: str, output: str, *contexts: str, namespaces: tuple[str, ...] = ()) -> list[Run]:
    return plan(contexts, namespaces, kubeconfig, output, Config(), debug=False)


def test_one_run_in_the_current_context(kubeconfig: str) -> None:
    (run,) = _plan(kubeconfig, "-")
    assert (run.context, run.config.namespace, str(run.output)) == ("prod", "gpu-operator", "-")
    assert run.config.output == ""


def test_one_output_for_each_context_and_namespace(kubeconfig: str, tmp_path: Path) -> None:
    pattern = str(tmp_path / "{context}.{namespace}.yaml")
    runs = _plan(kubeconfig, pattern, "prod", "staging", namespaces=("a", "b"))
    names = [Path(run.output.path).name for run in runs]
    assert names == ["prod.a.yaml", "prod.b.yaml", "staging.a.yaml", "staging.b.yaml"]


def test_a_directory_gets_a_file_for_each(kubeconfig: str, tmp_path: Path) -> None:
    runs = _plan(kubeconfig, str(tmp_path), "prod", "staging")
    names = {Path(run.output.path).name for run in runs}
    assert names == {"snapshot-prod-gpu-operator.yaml", "snapshot-staging-gpu-operator.yaml"}


@pytest.mark.parametrize("output", ["-", "one.yaml", "{namespace}.yaml"])
def test_two_snapshots_never_share_an_output(kubeconfig: str, output: str) -> None:
    with pytest.raises(UsageError, match="2 snapshots cannot all be written to"):
        _plan(kubeconfig, output, "prod", "staging")


def test_a_configmap_of_one_name_in_two_clusters_is_two_places(kubeconfig: str) -> None:
    runs = _plan(kubeconfig, "cm://gpu-operator/eidos-snapshot", "prod", "staging")
    assert {run.config.output for run in runs} == {"cm://gpu-operator/eidos-snapshot"}
    with pytest.raises(UsageError, match="cannot all be written"):
        _plan(kubeconfig, "cm://gpu-operator/eidos-snapshot", "prod", "prod-again")


def test_too_many_runs_at_once(kubeconfig: str) -> None:
    with pytest.raises(UsageError, match="70 runs at once are too many"):
        _plan(kubeconfig, "{namespace}", namespaces=tuple(f"n{i}" for i in range(70)))


def _run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, ["snapshot", *arguments], env=environment)


@pytest.mark.parametrize(
    "flags",
    [
        ("--image", "x"),
        ("--namespace", "x"),
        ("--node-selector", "a=b"),
        ("--no-cleanup",),
        ("--no-privileged",),
        ("--cleanup-rbac",),
        ("--unique-name",),
        ("--os", "talos"),
    ],
)
def test_flags_of_the_job_need_the_job(flags: tuple[str, ...]) -> None:
    result = _run(*flags)
    assert result.exit_code == 2
    assert "needs --deploy-agent" in result.output


def test_a_flag_is_named_as_it_was_given() -> None:
    assert "--no-privileged is about a Job" in _run("--no-privileged").output
    assert "--privileged is about a Job" in _run("--privileged").output


@pytest.mark.parametrize("where", [(), ("--deploy-agent",)])
def test_a_configmap_holds_no_rendered_template(kubeconfig: str, tmp_path: Path, where: tuple[str, ...]) -> None:
    template = tmp_path / "t.j2"
    template.write_text("x")
    flags = ("--output", "cm://a/b", "--template", str(template), "--kubeconfig", kubeconfig)
    result = _run(*where, *flags)
    assert result.exit_code == 2
    assert "--template and --output cm:// exclude each other" in result.output


def test_an_unknown_collector_is_said_before_there_is_a_pod(kubeconfig: str) -> None:
    result = _run("--deploy-agent", "--kubeconfig", kubeconfig, "--collectors", "os,nosuch")
    assert isinstance(result.exception, UsageError)
    assert "there is no collector 'nosuch'" in str(result.exception)


def test_an_operating_system_nobody_knows(kubeconfig: str) -> None:
    result = _run("--deploy-agent", "--kubeconfig", kubeconfig, "--os", "nonsense")
    assert result.exit_code == 2
    assert "'nonsense' is not one of" in result.output


def test_flags_that_do_not_go_together(kubeconfig: str) -> None:
    several = _run("--context", "prod", "--context", "staging", "--kubeconfig", kubeconfig)
    assert several.exit_code == 2
    assert "Several --context need --deploy-agent" in several.output
    elsewhere = _run("--deploy-agent", "--host-root", "/", "--kubeconfig", kubeconfig)
    assert elsewhere.exit_code == 2
    assert "--host-root" in elsewhere.output


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--namespace", ""), "--namespace '' is not a namespace"),
        (("--namespace", "a.b"), "--namespace 'a.b' is not a namespace"),
        (("--namespace", "good", "--namespace", "n" * 64), "is not a namespace"),
        (("--job-name", "A B"), "--job-name 'A B' is not a name"),
        (("--job-name", "j" * 64), "is not a name"),
        (("--service-account-name", ""), "--service-account-name '' is not a name"),
        (("--service-account-name", "A_b"), "--service-account-name 'A_b' is not a name"),
        (("--runtime-class", "a/b"), "--runtime-class 'a/b' is not a name"),
        (("--image-pull-secret", "-s"), "--image-pull-secret '-s' is not a name"),
        (("--image", ""), "--image '' is not the name of an image"),
        (("--image", "a b"), "is not the name of an image"),
        *(
            (("--image", name), "is not the name of an image")
            for name in (
                "UPPER:1",
                "reg/Case:1",
                "a:b:c",
                "a@sha256:abc",
                "--x",
                "a//b",
                "a:",
                "r:x/a",
                "a..b",
                "a\n",
            )
        ),
        (("--requests", "cpu=abc"), "--requests cpu='abc' is not an amount"),
        (("--limits", "cpu=-1"), "--limits cpu='-1' is not an amount"),
        (("--limits", "memory=1gb"), "--limits memory='1gb' is not an amount"),
        (("--limits", "gpus=1"), "--limits 'gpus' is not a resource"),
        (("--node-selector", "a b=c"), "--node-selector 'a b' is not a key"),
        (("--node-selector", "A/b/c=d"), "--node-selector 'A/b/c' is not a key"),
        (("--node-selector", "a=b c"), "--node-selector a='b c' has no value that a label can have"),
        (("--toleration", "a=b=c:NoExecute"), "--toleration a='b=c' has no value"),
        (("--no-cleanup", "--cleanup-rbac"), "--no-cleanup and --cleanup-rbac contradict each other"),
    ],
)
def test_what_no_cluster_would_take(kubeconfig: str, flags: tuple[str, ...], said: str) -> None:
    """Said before anything is asked of a cluster: there is none at the kubeconfig's address."""
    result = _run("--deploy-agent", "--kubeconfig", kubeconfig, *flags)
    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)


def test_every_flag_reaches_the_job(kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Config] = []

    def execute(runs: list[Run], render: Any, keep: bool) -> int:
        taken.extend(run.config for run in runs)
        return 0

    monkeypatch.setattr(deploy, "execute", execute)
    result = _run(
        *("--deploy-agent", "--kubeconfig", kubeconfig, "--namespace", "ns", "--image", "img:1"),
        *("--image-pull-policy", "Always", "--image-pull-secret", "s1", "--image-pull-secret", "s2"),
        *("--job-name", "j", "--unique-name", "--service-account-name", "sa", "--node-selector", "a=b"),
        *("--node-selector", "c=d", "--toleration", "k=v:NoSchedule", "--timeout", "10m", "--cleanup-rbac"),
        *("--no-privileged", "--require-gpu", "--runtime-class", "nvidia", "--os", "talos"),
        *("--max-nodes-per-entry", "5", "--debug"),
        *("--requests", "cpu=1,hugepages-2Mi=0", "--limits", "memory=1.5Gi,nvidia.com/gpu=1e0,cpu=.5"),
        *("--collectors", "os,gpu", "--systemd-units", "kubelet.service", "--include-volatile"),
    )
    assert result.exit_code == 0, result.output
    assert taken == [
        Config(
            namespace="ns",
            service_account_name="sa",
            job_name="j",
            unique_name=True,
            image="img:1",
            image_pull_policy="Always",
            image_pull_secrets=("s1", "s2"),
            node_selector={"a": "b", "c": "d"},
            tolerations=(Toleration("k", "Equal", "v", "NoSchedule"),),
            debug=True,
            privileged=False,
            require_gpu=True,
            runtime_class_name="nvidia",
            max_nodes_per_entry=5,
            os="talos",
            requests={"cpu": "1", "hugepages-2Mi": "0"},
            limits={"memory": "1.5Gi", "nvidia.com/gpu": "1e0", "cpu": ".5"},
            cleanup_rbac=True,
            seconds=600.0,
            extra_arguments=(
                "--collectors=os,gpu",
                "--systemd-units=kubelet.service",
                "--include-volatile",
                "--timeout=300.000s",
            ),
        )
    ]


@pytest.mark.parametrize(
    ("output", "flags", "in_pod"),
    [
        ("cm://a/b", ("--format", "json"), ("--format=json",)),
        ("snap.json", (), ()),  # made from YAML here, so that the pod's document is always the same
        ("-", ("--format", "table"), ()),
    ],
)
def test_only_what_the_pod_stores_is_formatted_there(
    kubeconfig: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    output: str,
    flags: tuple[str, ...],
    in_pod: tuple[str, ...],
) -> None:
    taken: list[Config] = []

    def execute(runs: list[Run], render: Any, keep: bool) -> int:
        taken.extend(run.config for run in runs)
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(deploy, "execute", execute)
    assert _run("--deploy-agent", "--kubeconfig", kubeconfig, "-o", output, *flags).exit_code == 0
    assert taken[0].extra_arguments == in_pod


def test_no_cluster_is_said_before_anything_else(clean_environment: None) -> None:
    result = _run("--deploy-agent")
    assert isinstance(result.exception, EidosError)
    assert "kubeconfig" in str(result.exception)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "img",
            "img:1",
            "a/b/c:v1.2_x-y",
            "localhost/a",
            "127.0.0.1:1/x:none",
            "[::1]:5000/a",
            "Reg.Example:443/a__b/c--d",
        ),
        *("ghcr.io/nvidia/eidos-aggregator:latest", f"a@sha256:{'0' * 64}", f"r.example/a/b:1@sha256:{'af' * 32}"),
    ],
)
def test_names_of_images(name: str) -> None:
    check_image(name, "--image")
