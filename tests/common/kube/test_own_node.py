"""Which node a pod runs on, from the claims of its token."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.kube.own_node import node_of_token, own_node

IN_POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}


def _token(claims: Any) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJSUzI1NiJ9.{body}.c2lnbmF0dXJl"


BOUND = _token(
    {
        "aud": ["https://kubernetes.default.svc"],
        "kubernetes.io": {
            "namespace": "gpu-operator",
            "node": {"name": "gpu-1", "uid": "1"},
            "pod": {"name": "eidos-x7k2p", "uid": "2"},
        },
    }
)


@pytest.mark.parametrize(
    ("token", "node"),
    [
        (BOUND, "gpu-1"),
        (f"{BOUND}\n", "gpu-1"),
        (_token({"kubernetes.io": {"namespace": "x"}}), ""),
        (_token({"kubernetes.io": {"node": {"name": 7}}}), ""),
        (_token([]), ""),
        ("a.b", ""),
        ("a.%%%.c", ""),
    ],
)
def test_the_claim(token: str, node: str) -> None:
    assert node_of_token(token) == node


@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    assert node_of_token(f"a.{text}.c") == ""


def test_only_in_a_pod(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(BOUND)
    assert own_node(IN_POD, str(tmp_path)) == "gpu-1"
    assert own_node({}, str(tmp_path)) == ""
    assert own_node(IN_POD, str(tmp_path / "nothing")) == ""
