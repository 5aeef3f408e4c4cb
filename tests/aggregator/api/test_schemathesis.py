"""The API as it is served, against its description: requests made by schemathesis, valid ones and others.

Every endpoint but the endless one gets requests that its description allows, and requests that it does not. Each
answer must have a described status, media type, headers and shape; what is not allowed is refused; nothing is the
server's own fault.
"""

from collections.abc import Iterator
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from aggregator.api.operations import OPERATIONS, Operation
from tests.fleet.processes import Aggregator, Process

_CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
_EXAMPLES: Final = 8
_LONGEST_ADDRESS: Final = 8192
_ENDLESS: Final = "GET /v1/watch"
_ENDPOINTS: Final = sorted(OPERATIONS.keys() - {_ENDLESS})


class Served:
    """An aggregator process with agents and a snapshot, and its own description of its API."""

    def __init__(self, aggregator: Aggregator) -> None:
        self.client = aggregator.client
        self.address = f"https://{aggregator.address}:{aggregator.api_port}"
        self.session = requests.Session()
        self.authority = str(aggregator.directory / "ca.crt")
        self.session.trust_env = False
        self.token = (aggregator.directory / "user-token").read_text()
        description = aggregator.client.get("/v1/openapi.json")
        config = {"checks": {"negative_data_rejection": {"expected-statuses": ["4xx"]}}}
        self.schema = schemathesis.openapi.from_dict(description, config=SchemathesisConfig.from_dict(config))

    def check(self, case: Case[Any], status: int | None = None) -> None:
        """Send it and check the answer."""
        case.headers["Authorization"] = f"Bearer {self.token}"
        response = case.call(base_url=self.address, session=self.session, timeout=30, verify=self.authority)
        assert status in (None, response.status_code), response.text
        if len(response.request.url or "") > _LONGEST_ADDRESS:  # HTTP itself refuses it, before there is an API
            assert response.status_code == 400
            return
        case.validate_response(response, checks=_CHECKS)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for all tests."""
    folder = tmp_path_factory.mktemp("served")
    directory = folder / "fleet"
    directory.mkdir()
    aggregator = Aggregator(directory, "gpu-[00000-00004]")
    arguments = ["--port", str(aggregator.link_port), "--directory", str(directory), "--count", "5"]
    simulator = Process(["tests.fleet.simulator", *arguments], folder / "simulator", stdin=True)
    try:
        simulator.read_line()
        simulator.command("connect")
        aggregator.client.wait_for("eidos_links", 5)
        assert aggregator.client.run()["summary"]["states"] == {"ok": 5}
        served = Served(aggregator)
        yield served
        served.session.close()
    finally:
        simulator.end()
        aggregator.end()


def can_be_wrong(described: Operation) -> bool:
    """Whether a request can break what is described: any path is some path, and any header some header."""
    return described.body is not None or any(parameter.where == "query" for parameter in described.parameters)


def operation(served: Served, endpoint: str) -> Any:
    method, path = endpoint.split(" ")
    return served.schema[path][method]


@pytest.mark.parametrize(
    ("endpoint", "mode"),
    [(endpoint, GenerationMode.POSITIVE) for endpoint in _ENDPOINTS]
    + [(endpoint, GenerationMode.NEGATIVE) for endpoint in _ENDPOINTS if can_be_wrong(OPERATIONS[endpoint])],
)
def test_every_answer_is_as_described(served: Served, endpoint: str, mode: GenerationMode) -> None:
    chosen = operation(served, endpoint)

    @given(case=chosen.as_strategy(generation_mode=mode))
    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def probe(case: Case[Any]) -> None:
        served.check(case)

    probe()


def known(run: str) -> dict[str, dict[str, Any]]:
    """Requests that have an answer, by endpoint."""
    return {
        "GET /v1/runs/{run}": {"path_parameters": {"run": run}},
        "GET /v1/runs/{run}/snapshot": {"path_parameters": {"run": run}},
        "GET /v1/nodes/{node}": {"path_parameters": {"node": "gpu-00003"}},
        "GET /v1/facts/{fact}": {"path_parameters": {"fact": "OS.firmware.dmi.product_serial"}},
        "GET /v1/query": {"query": {"expression": 'OS.release.ID == "ubuntu" || GPU.smi.none > 3'}},
        "POST /v1/query": {"body": {"expression": "size(OS.sysctl) > 3"}, "media_type": "application/json"},
        "POST /v1/runs": {"body": {"nodes": "gpu-00001", "seconds": 5}, "media_type": "application/json"},
    }


@pytest.mark.parametrize("accept", ["application/json", "application/yaml"])
@pytest.mark.parametrize("endpoint", _ENDPOINTS)
def test_good_answers_are_as_described(served: Served, endpoint: str, accept: str) -> None:
    case = operation(served, endpoint).Case(**known(served.client.run()["metadata"]["run"]).get(endpoint, {}))
    case.headers["Accept"] = accept
    served.check(case, status=200)


@pytest.mark.parametrize("token", [None, "wrong"])
@pytest.mark.parametrize("endpoint", sorted(OPERATIONS))
def test_nobody_unknown_gets_further(served: Served, endpoint: str, token: str | None) -> None:
    case = operation(served, endpoint).Case(**known("run").get(endpoint, {}))
    if token is not None:
        case.headers["Authorization"] = f"Bearer {token}"
    response = case.call(base_url=served.address, session=served.session, timeout=30, verify=served.authority)
    case.validate_response(response, checks=_CHECKS[:-1])
    assert response.status_code == (200 if OPERATIONS[endpoint].is_open else 401)
