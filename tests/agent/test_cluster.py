"""Whether there is a cluster, how it is found, and what its failures become."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from agent.cluster import ANOTHER_MACHINE, ClusterAccess
from agent.collectors.kubernetes import KubernetesCollector
from agent.collectors.topology import TopologyCollector
from agent.host import Host
from common.kube.choice import NOT_CONFIGURED
from common.model import Absent, Collected, Failed, FailureCode, State
from tests.agent.cluster_context import access, context, context_for, failure_of
from tests.fakes.apiserver import FakeApiServer, Fault
from tests.fakes.kubeconfig import write_kubeconfig


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with FakeApiServer() as server:
        yield server


def _ending(collected: Collected) -> Absent | Failed:
    assert collected.ending is not None, collected
    return collected.ending


def test_no_cluster() -> None:
    for collector in (KubernetesCollector(access()), TopologyCollector(access())):
        collected = collector.collect(context())
        assert collected.ending == Absent(NOT_CONFIGURED)
        assert not collected.subtypes


def test_without_a_cluster_nothing_is_imported() -> None:
    program = (
        "import sys, time\n"
        "from agent.cluster import ClusterAccess\n"
        "from agent.collectors.base import Context\n"
        "from agent.collectors.registry import collectors\n"
        "from agent.host import Host\n"
        "for collector in collectors():\n"
        "    if collector.name in ('kubernetes', 'topology'):\n"
        "        collector.collect(Context(Host(), 'n', time.monotonic() + 5))\n"
        "heavy = ('asyncio', 'ssl', 'aiohttp', 'kubernetes_asyncio', 'tenacity', 'common.kube.client')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    environment = {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_plain_kubeconfig_does_not_import_the_library(api: FakeApiServer, tmp_path: Path) -> None:
    """What kubernetes_asyncio is for are credential plugins; its import costs more than a whole snapshot."""
    path = write_kubeconfig(tmp_path / "kubeconfig", api.url, token="t")
    program = (
        "import sys, time\n"
        "from agent.cluster import ClusterAccess\n"
        "from agent.collectors.base import Context, Options\n"
        "from agent.collectors.topology import TopologyCollector\n"
        "from agent.host import Host\n"
        f"ctx = Context(Host(), 'n', time.monotonic() + 30, Options(kubeconfig={path!r}))\n"
        "print(TopologyCollector(ClusterAccess()).collect(ctx).state, 'kubernetes_asyncio' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ok", "False"]


def test_a_recorded_host_is_not_in_this_machines_cluster(api: FakeApiServer, tmp_path: Path) -> None:
    home = tmp_path / ".kube"
    home.mkdir()
    path = write_kubeconfig(home / "config", api.url)
    recorded = Host(str(tmp_path))

    def ending(kubeconfig: str | None, environment: dict[str, str]) -> Absent | Failed | None:
        collector = TopologyCollector(access(environment))
        return collector.collect(context(kubeconfig, host=recorded)).ending

    assert ending(None, {"HOME": str(tmp_path)}) == Absent(ANOTHER_MACHINE)
    assert ending(path, {}) is None
    assert ending(None, {"KUBECONFIG": path}) is None


def test_in_a_pod(tmp_path: Path, api: FakeApiServer) -> None:
    """Nobody answers at the address; what counts is that it was asked."""
    (tmp_path / "token").write_text("t")
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    collector = TopologyCollector(ClusterAccess(environment, account=str(tmp_path)))
    ending = _ending(collector.collect(context(seconds=3, host=Host(str(tmp_path)))))
    assert isinstance(ending, Failed)
    assert ending.code is FailureCode.API_UNREACHABLE
    assert ending.reason == "the API server https://127.0.0.1:1 cannot be reached: connection refused"


def test_nobody_answers(tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
    endings = [
        _ending(collector.collect(context(kubeconfig, seconds=3)))
        for collector in (KubernetesCollector(access()), TopologyCollector(access()))
    ]
    assert (
        endings
        == [
            Failed(
                FailureCode.API_UNREACHABLE, "the API server http://127.0.0.1:1 cannot be reached: connection refused"
            )
        ]
        * 2
    )


def test_a_server_that_never_answers(api: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector ends before its deadline, by a margin that a busy machine cannot use up either."""
    monkeypatch.setattr("agent.cluster._MARGIN", 30.0)
    api.faults = [Fault("hang", times=100)]
    ctx = context_for(api, tmp_path, seconds=31.0)
    collected = TopologyCollector(access()).collect(ctx)
    assert time.monotonic() < ctx.deadline
    assert isinstance(collected.ending, Failed)
    assert collected.ending.code is FailureCode.TIMEOUT


def test_what_was_read_until_the_deadline_is_kept(api: FakeApiServer, tmp_path: Path) -> None:
    api.faults = [Fault("hang", "/pods", times=100)]
    collected = KubernetesCollector(access()).collect(context_for(api, tmp_path, seconds=3.0))
    assert collected.state is State.PARTIAL
    assert failure_of(collected, "image").code is FailureCode.TIMEOUT
    assert failure_of(collected, "image-reference").code is FailureCode.TIMEOUT


def test_credentials_that_are_not_taken(tmp_path: Path) -> None:
    with FakeApiServer(token="right") as api:
        kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", api.url, token="wrong")
        failure = failure_of(TopologyCollector(access()).collect(context(kubeconfig)), "label")
    assert failure.code is FailureCode.API_FORBIDDEN
    assert "does not accept the credentials" in failure.reason


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [
        ("clusters: 7", FailureCode.MALFORMED, "is malformed"),
        (None, FailureCode.UNREADABLE, "cannot be read: no such file"),
        ("{}", FailureCode.API_ERROR, "has no current context"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used(
    tmp_path: Path, content: str | None, code: FailureCode, reason: str
) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    ending = _ending(TopologyCollector(access()).collect(context(str(path))))
    assert isinstance(ending, Failed)
    assert ending.code is code
    assert reason in ending.reason


def _plugin(tmp_path: Path, body: str) -> dict[str, object]:
    script = tmp_path / "plugin"
    script.write_text(f"#!/bin/sh\necho x >>{tmp_path}/runs\n{body}\n")
    script.chmod(0o755)
    return {"apiVersion": "client.authentication.k8s.io/v1", "command": str(script)}


def test_both_collectors_share_one_run_of_the_plugin(api: FakeApiServer, tmp_path: Path) -> None:
    answer = '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t"}}'
    plugin = _plugin(tmp_path, f"echo '{answer}'")
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", api.url, exec=plugin)
    shared = access()
    collected: list[Collected] = []
    threads = [
        threading.Thread(target=lambda c=collector: collected.append(c.collect(context(kubeconfig))))
        for collector in (KubernetesCollector(shared), TopologyCollector(shared))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [one.ending for one in collected] == [None, None]
    assert (tmp_path / "runs").read_text().splitlines() == ["x"]
    assert {call.headers["Authorization"] for call in api.calls} == {"Bearer t"}


def test_a_plugin_that_fails(api: FakeApiServer, tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(
        tmp_path / "kubeconfig", api.url, exec=_plugin(tmp_path, "echo no session >&2; exit 1")
    )
    ending = _ending(TopologyCollector(access()).collect(context(kubeconfig)))
    assert isinstance(ending, Failed)
    assert ending.code is FailureCode.API_FORBIDDEN
    assert ending.reason == (
        "the credential plugin of user u in the kubeconfig failed: it ended with status 1: no session"
    )
