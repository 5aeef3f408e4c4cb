"""`python -m tests.cluster`: the cluster by hand."""

import argparse
import os
import shlex
import subprocess
import sys
import time

from tests.cluster.binaries import binaries_directory
from tests.cluster.cluster import Cluster, prepare
from tests.cluster.orphans import remove_orphans
from tests.cluster.paths import cache_root
from tests.cluster.processes import marked
from tests.cluster.requirements import ClusterUnavailableError


def build(_: argparse.Namespace) -> None:
    """build everything a start needs, without starting"""
    prepare()


def up(arguments: argparse.Namespace) -> None:
    """start the cluster and leave it running"""
    prepare()
    begun = time.monotonic()
    cluster = Cluster(arguments.name)
    try:
        cluster.start()
    except BaseException:
        cluster.stop()
        raise
    print(f"{len(cluster.nodes)} nodes are Ready after {time.monotonic() - begun:.1f} s")
    print(f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}")


def down(arguments: argparse.Namespace) -> None:
    """stop the cluster and remove everything it left, crashed or not; also what killed test runs left"""
    Cluster(arguments.name, ()).stop()
    remove_orphans()


def shell(arguments: argparse.Namespace) -> int:
    """a shell, or a command, with kubectl for the cluster; with --node, on that node"""
    try:
        cluster = Cluster.attach(arguments.name)
    except FileNotFoundError:
        print(f"cluster: there is no cluster {arguments.name}; start it with `up`", file=sys.stderr)
        return 1
    given = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    command = given or [os.environ.get("SHELL", "/bin/sh")]
    if arguments.node:
        command = cluster.nodes[arguments.node].machine.enter(given or ["/bin/bash"])
    path = f"{binaries_directory()}:{os.environ['PATH']}"
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "PATH": path}
    return subprocess.run(command, env=environment, check=False).returncode


def status(_: argparse.Namespace) -> None:
    """the clusters there are, and whether they run"""
    for state in sorted(cache_root().glob("run-*")):
        processes = len(marked(str(state)))
        ready = (state / "cluster.json").exists()
        name = state.name.removeprefix("run-")
        dead = f"dead; `--name {name} down` removes what it left"
        said = "running" if processes and ready else "starting" if processes else dead
        print(f"{name}: {said} ({processes} processes), {state}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description="A real Kubernetes for the tests.")
    parser.add_argument("--name", default="default", help="which cluster, when there are several")
    commands = parser.add_subparsers(required=True)
    for run in (build, up, down, shell, status):
        command = commands.add_parser(run.__name__, help=run.__doc__)
        command.set_defaults(run=run)
        if run is shell:
            command.add_argument("--node", help="run it on this node")
            command.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        return arguments.run(arguments) or 0
    except ClusterUnavailableError as reason:
        print(f"cluster: {reason}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
