"""A run that is cut short in the middle cleans up, or says what is left and how to remove it."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster import network
from tests.cluster.cluster import Cluster, KubectlError
from tests.cluster.furnish import hold_nvml, let_nvml_answer
from tests.cluster.jobmode import CHECKOUT, GPU_NODE, Jobs
from tests.cluster.watched import Watched

pytestmark = pytest.mark.cluster

_FORWARD = CHECKOUT / "tests/cluster/forward.py"


def _start(jobs: Jobs, *flags: str, image: str | None = None, kubeconfig: Path | None = None) -> Watched:
    return Watched(jobs.start("--debug", *GPU_NODE, *flags, image=image, kubeconfig=kubeconfig))


@pytest.mark.parametrize("moment", ["permissions", "rbac", "job", "pod", "collect"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_at_any_moment(jobs: Jobs, slow_image: str, number: signal.Signals, moment: str) -> None:
    before = jobs.everything()
    run = _start(jobs, "--namespace", "cut-short", "--cleanup-rbac", image=slow_image)
    run.wait_for(f": {moment}\n")
    run.process.send_signal(number)
    assert run.end() == 130, run.said
    assert "Traceback" not in run.said
    said = "interrupted" if number == signal.SIGINT else "ended by SIGTERM"
    assert run.said.splitlines()[-1] == f"Error: {said}."
    if "left behind" in run.said or "stays, because" in run.said:
        pytest.fail(run.said)
    if "cut-short" in jobs.kubectl("get", "namespaces"):
        jobs.kubectl("wait", "--for=delete", "namespace/cut-short", "--timeout=100s")
    assert jobs.everything() == before


def test_a_signal_during_the_cleanup_does_not_stop_it(jobs: Jobs, namespace: str, slow_image: str) -> None:
    run = _start(jobs, "--namespace", namespace, image=slow_image)
    run.wait_for("the pod runs on node gpu-1")
    run.process.send_signal(signal.SIGTERM)
    run.wait_for(": cleanup\n")
    run.process.send_signal(signal.SIGTERM)
    assert run.end() == 130
    assert jobs.names("jobs", namespace) == set()


def test_a_killed_run_leaves_nothing_for_ever(jobs: Jobs, namespace: str) -> None:
    """Nobody can clean up after SIGKILL, but Kubernetes does: the Job has a term, and what it stored is the Job's."""
    hold_nvml(jobs.cluster)
    run = _start(jobs, "--namespace", namespace, "--timeout", "90s")
    run.wait_for("the pod runs on node gpu-1")
    run.process.kill()
    run.end()
    let_nvml_answer(jobs.cluster)
    jobs.complete("eidos", namespace)
    job = jobs.get("job", "eidos", "-n", namespace)
    assert job["spec"]["activeDeadlineSeconds"] == 90
    assert 0 < job["spec"]["ttlSecondsAfterFinished"] <= 3600
    (stored,) = jobs.names("configmaps", namespace) - {"kube-root-ca.crt"}
    (owner,) = jobs.get("configmap", stored, "-n", namespace)["metadata"]["ownerReferences"]
    assert owner["uid"] == job["metadata"]["uid"]


class Line:
    """The run's own way to the API server, which the test cuts and mends."""

    def __init__(self, cluster: Cluster, kubeconfig: Path) -> None:
        self._cluster = cluster
        self.port, self._forwarder = cluster.forward(network.CONTROL_PLANE, network.API_PORT)
        document = yaml.safe_load(cluster.kubeconfig.read_text())
        document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self.port}"
        kubeconfig.write_text(yaml.safe_dump(document))
        self.kubeconfig = kubeconfig

    def freeze(self) -> None:
        """Nothing passes and nothing is refused, as behind a firewall that drops."""
        self._forwarder.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._forwarder.send_signal(signal.SIGCONT)

    def cut(self) -> None:
        self._forwarder.kill()
        self._forwarder.wait(10)

    def mend(self) -> None:
        pid = str(self._cluster.control_plane.machine.pid)
        where = (network.CONTROL_PLANE, str(network.API_PORT), str(self.port))
        argv = [sys.executable, str(_FORWARD), pid, *where]
        self._forwarder = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self._forwarder.stdout is not None
        with self._forwarder.stdout as told:
            assert told.readline()


@pytest.fixture
def line(jobs: Jobs) -> Iterator[Line]:
    made = Line(jobs.cluster, jobs.folder / "own.kubeconfig")
    yield made
    made.cut()


def test_a_connection_that_comes_back_costs_nothing(jobs: Jobs, namespace: str, line: Line) -> None:
    hold_nvml(jobs.cluster)
    run = _start(jobs, "--namespace", namespace, "-o", "snap.yaml", kubeconfig=line.kubeconfig)
    run.wait_for("the pod runs on node gpu-1")
    line.cut()
    line.mend()
    let_nvml_answer(jobs.cluster)
    assert run.end() == 0, run.said
    assert (jobs.folder / "snap.yaml").exists()
    assert jobs.names("jobs", namespace) == set()
    assert jobs.names("configmaps", namespace) == {"kube-root-ca.crt"}


def test_a_connection_lost_for_good_says_what_is_left(
    jobs: Jobs, namespace: str, line: Line, slow_image: str
) -> None:
    flags = ("--namespace", namespace, "--timeout", "20s")
    run = _start(jobs, *flags, image=slow_image, kubeconfig=line.kubeconfig)
    run.wait_for("the pod runs on node gpu-1")
    line.cut()
    assert run.end(80) in (4, 5), run.said
    last = run.said.splitlines()[-1]
    assert "out of time" in last
    assert "the pod runs on node gpu-1; then the API server" in last
    assert "cannot be reached: connection refused" in last
    _remove_as_told(jobs, namespace, last)


def _remove_as_told(jobs: Jobs, namespace: str, last: str) -> None:
    """What it says is left is there, and what it says removes it does: word for word."""
    # The pod has stored nothing, but who has lost the connection cannot know.
    assert re.search(
        f"left behind: Job {namespace}/eidos(,| and perhaps) ConfigMap {namespace}/eidos-snapshot-", last
    )
    commands = re.search(r"Remove with: (kubectl delete .*)\.$", last)
    assert commands
    assert jobs.names("jobs", namespace) == {"eidos"}
    for command in commands[1].split("; "):
        jobs.kubectl(*command.split()[1:])
    assert jobs.names("jobs", namespace) == set()


def test_a_connection_that_falls_silent_for_a_while(jobs: Jobs, namespace: str, line: Line) -> None:
    hold_nvml(jobs.cluster)
    run = _start(jobs, "--namespace", namespace, "-o", "snap.yaml", kubeconfig=line.kubeconfig)
    run.wait_for("the pod runs on node gpu-1")
    line.freeze()
    let_nvml_answer(jobs.cluster)
    jobs.complete("eidos", namespace)
    line.thaw()
    assert run.end() == 0, run.said
    assert (jobs.folder / "snap.yaml").exists()
    assert jobs.names("jobs", namespace) == set()


def test_a_connection_that_falls_silent_for_good(jobs: Jobs, namespace: str, line: Line, slow_image: str) -> None:
    flags = ("--namespace", namespace, "--timeout", "20s")
    run = _start(jobs, *flags, image=slow_image, kubeconfig=line.kubeconfig)
    run.wait_for("the pod runs on node gpu-1")
    line.freeze()
    assert run.end(80) == 5, run.said
    last = run.said.splitlines()[-1]
    assert "out of time after" in last
    assert "the pod runs on node gpu-1" in last
    _remove_as_told(jobs, namespace, last)


def test_ctrl_c_ends_a_run_whose_connection_is_silent(
    jobs: Jobs, namespace: str, line: Line, slow_image: str
) -> None:
    run = _start(jobs, "--namespace", namespace, image=slow_image, kubeconfig=line.kubeconfig)
    run.wait_for("the pod runs on node gpu-1")
    line.freeze()
    run.process.send_signal(signal.SIGINT)
    assert run.end(80) == 130, run.said
    (note,) = (said for said in run.said.splitlines() if said.startswith("Note: "))
    _remove_as_told(jobs, namespace, note)


def test_a_second_ctrl_c_cuts_the_cleanup_short_and_says_what_may_be_left(
    jobs: Jobs, namespace: str, line: Line, slow_image: str
) -> None:
    run = _start(jobs, "--namespace", namespace, image=slow_image, kubeconfig=line.kubeconfig)
    run.wait_for("the pod runs on node gpu-1")
    line.freeze()
    run.process.send_signal(signal.SIGINT)
    run.wait_for(": cleanup\n")
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 130, run.said
    assert run.said.splitlines()[-1] == "Error: interrupted."
    assert "Traceback" not in run.said
    assert "destroyed" not in run.said
    (note,) = (said for said in run.said.splitlines() if said.startswith("Note: "))
    assert "the cleanup was cut short; perhaps left behind: Job" in note
    _remove_as_told(jobs, namespace, note)


def test_an_api_server_that_was_never_there(jobs: Jobs, line: Line) -> None:
    """Nothing was made, so nothing is said to be left."""
    line.cut()
    done = jobs.eidos("--timeout", "5s", kubeconfig=line.kubeconfig)
    assert done.returncode == 4
    assert done.stderr.startswith("Error: the API server https://127.0.0.1:")
    assert "cannot be reached: connection refused" in done.stderr
    assert "left behind" not in done.stderr


def _wait_until_refused(jobs: Jobs, kubeconfig: Path) -> None:
    """The API server believes a token for up to ten seconds after it last looked."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            jobs.kubectl(f"--kubeconfig={kubeconfig}", "auth", "whoami")
        except KubectlError:
            return
    pytest.fail("the API server goes on believing the token of an account that is gone")


@pytest.fixture
def runner(jobs: Jobs, namespace: str) -> Iterator[Path]:
    """The kubeconfig of a ServiceAccount that may do all; its token ends when the account is deleted."""
    jobs.kubectl("create", "serviceaccount", "runner", "-n", namespace)
    binding = ("clusterrolebinding", "runner")
    jobs.kubectl("create", *binding, "--clusterrole=cluster-admin", f"--serviceaccount={namespace}:runner")
    yield jobs.cluster.service_account_kubeconfig(namespace, "runner")
    jobs.kubectl("delete", *binding)


def _end_token(jobs: Jobs, namespace: str, runner: Path) -> None:
    jobs.kubectl("delete", "serviceaccount", "runner", "-n", namespace)
    _wait_until_refused(jobs, runner)


def _says_what_the_refused_left(run: Watched, namespace: str) -> None:
    assert f"left behind: Job {namespace}/eidos" in run.said
    assert "Remove with: kubectl delete jobs eidos" in run.said
    assert "does not accept" in run.said or "credential" in run.said


def test_a_token_that_ends_and_then_a_signal(jobs: Jobs, namespace: str, slow_image: str, runner: Path) -> None:
    run = _start(jobs, "--namespace", namespace, "--timeout", "90s", image=slow_image, kubeconfig=runner)
    run.wait_for("the pod runs on node gpu-1")
    _end_token(jobs, namespace, runner)
    run.process.send_signal(signal.SIGTERM)
    assert run.end(80) == 130, run.said
    _says_what_the_refused_left(run, namespace)


def test_a_token_that_ends_before_the_job(jobs: Jobs, namespace: str, slow_image: str, runner: Path) -> None:
    """Watches go on with a token that has ended; all else is refused."""
    run = _start(jobs, "--namespace", namespace, "--timeout", "90s", image=slow_image, kubeconfig=runner)
    run.wait_for("the pod runs on node gpu-1")
    _end_token(jobs, namespace, runner)
    jobs.kubectl("delete", "pods", "-l", "job-name=eidos", "-n", namespace, "--wait=false")
    assert run.end(80) == 4, run.said
    assert "has failed" in run.said
    _says_what_the_refused_left(run, namespace)
