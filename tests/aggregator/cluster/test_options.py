"""What the aggregator in a cluster can be told."""

import argparse
from pathlib import Path

import pytest

from aggregator.__main__ import arguments, main
from aggregator.cluster.options import Options, add_options, read_options
from common.errors import UsageError


def read(*flags: str, **environment: str) -> Options:
    parser = argparse.ArgumentParser()
    for name, kind in (("--address", str), ("--link-port", int), ("--api-port", int)):
        parser.add_argument(name, type=kind)
    add_options(parser, environment)
    return read_options(parser.parse_args(list(flags)))


def test_a_pods_environment_is_enough() -> None:
    options = read(POD_NAMESPACE="fleet", POD_NAME="eidos-aggregator-x")
    assert (options.namespace, options.identity) == ("fleet", "eidos-aggregator-x")
    assert (options.settings.link_port, options.settings.api_port) == (8443, 8444)
    assert {"eidos-link.fleet.svc", "eidos-api.fleet.svc"} < set(options.settings.names)
    assert (options.tls_directory, options.node_selector, options.kubeconfig) == (None, "", None)


def test_flags_go_before_the_environment() -> None:
    environment = {
        "POD_NAMESPACE": "a",
        "POD_NAME": "b",
        "EIDOS_NODE_SELECTOR": "gpu=true",
        "EIDOS_NAMES": "x.example",
    }
    options = read("--namespace", "c", "--tls-directory", "/tls", "--link-port", "1", **environment)
    assert (options.namespace, options.identity, options.node_selector) == ("c", "b", "gpu=true")
    assert options.tls_directory == Path("/tls")
    assert options.settings.link_port == 1
    assert "x.example" in options.settings.names


def test_what_must_be_known() -> None:
    with pytest.raises(UsageError, match="namespace is not known"):
        read(POD_NAME="x")
    with pytest.raises(UsageError, match="has no name"):
        read(POD_NAMESPACE="x")


def test_one_sentence_where_it_cannot_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("POD_NAME", "POD_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("aggregator.__main__.log_as_json", lambda level: None)  # it is for the whole process
    assert main(["--cluster"]) == 2
    assert main(["--local", "/tmp/x"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "eidos-aggregator: the namespace is not known. Set POD_NAMESPACE or --namespace.",
        "eidos-aggregator: --local needs --nodes. Name at least one, such as gpu-[001-512],login.",
    ]


@pytest.mark.parametrize("flags", [[], ["--cluster", "--local", "x"]])
def test_a_cluster_or_a_local_fleet(flags: list[str]) -> None:
    with pytest.raises(SystemExit):
        arguments().parse_args(flags)
