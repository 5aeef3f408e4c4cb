"""Secrets do not leave the node; what only sounds like one does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.redaction import REDACTED, redact_arguments, redact_text, redact_variable


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("REGISTRY_TOKEN=abc", f"REGISTRY_TOKEN={REDACTED}"),
        ("MYSQL_PWD=two words", f"MYSQL_PWD={REDACTED}"),
        ("aws_secret_access_key=x/y+z==", f"aws_secret_access_key={REDACTED}"),
        ("APIKEY=1", f"APIKEY={REDACTED}"),
        ("DB_PASSWORD=a=b", f"DB_PASSWORD={REDACTED}"),
        ("HTTPS_PROXY=http://me:pw@proxy:3128/", f"HTTPS_PROXY=http://{REDACTED}@proxy:3128/"),
        ("ARGS=--token=abc --v=2", f"ARGS=--token={REDACTED} --v=2"),
        ("https_proxy=me:pw@proxy:3128", f"https_proxy={REDACTED}@proxy:3128"),
        ("HTTP_PROXY=proxy:3128", "HTTP_PROXY=proxy:3128"),
        ("BEARER=abc", f"BEARER={REDACTED}"),
        ("COOKIE=abc", f"COOKIE={REDACTED}"),
        ('DOCKER_AUTH_CONFIG={"auths":{"r":{"auth":"abc"}}}', f"DOCKER_AUTH_CONFIG={REDACTED}"),
        ("DOCKER_AUTH_CONFIG=/etc/auth.json", "DOCKER_AUTH_CONFIG=/etc/auth.json"),
        ("PWD=/root", "PWD=/root"),
        ("TOKEN_FILE=/etc/token", "TOKEN_FILE=/etc/token"),
        ("KEYBOARD=us", "KEYBOARD=us"),
        ("PASSWORD=", "PASSWORD="),
        ("NO_PROXY=localhost,10.0.0.0/8", "NO_PROXY=localhost,10.0.0.0/8"),
        ("no assignment", "no assignment"),
    ],
)
def test_a_variable_keeps_its_value_unless_its_name_says_that_it_is_secret(given_text: str, expected: str) -> None:
    assert redact_variable(given_text) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--token", "abc", "--verbose"], ["run", "--token", REDACTED, "--verbose"]),
        (["run", "--token=abc"], ["run", f"--token={REDACTED}"]),
        (["run", "-password", "abc"], ["run", "-password", REDACTED]),
        (["sh", "-c", "TOKEN='a b' exec x"], ["sh", "-c", f"TOKEN={REDACTED} exec x"]),
        (["get", "https://me:pw@example/x"], ["get", f"https://{REDACTED}@example/x"]),
        (["run", "--token", "--verbose"], ["run", "--token", "--verbose"]),
        (["token", "abc"], ["token", "abc"]),
        (["sh", "-c", "x --token s3cret -v"], ["sh", "-c", f"x --token {REDACTED} -v"]),
        (["curl", "--user", "u:p"], ["curl", "--user", REDACTED]),
        (["curl", "--user=u:p"], ["curl", f"--user={REDACTED}"]),
        (["docker", "run", "--user", "1000:1000"], ["docker", "run", "--user", "1000:1000"]),
        (["curl", "-H", "Authorization: Bearer x"], ["curl", "-H", f"Authorization: {REDACTED}"]),
    ],
)
def test_a_command_loses_only_its_secrets(arguments: list[str], expected: list[str]) -> None:
    assert redact_arguments(arguments) == expected


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("curl -H 'Authorization: Bearer x' h", f"curl -H 'Authorization: {REDACTED}' h"),
        ('curl -H "X-Api-Key: x" h', f'curl -H "X-Api-Key: {REDACTED}" h'),
        ("curl --user u:p h", f"curl --user {REDACTED} h"),
        ("https://h/x?a=b&sig=abc", f"https://h/x?a=b&sig={REDACTED}"),
        ("ARGS=--token=abc", f"ARGS=--token={REDACTED}"),
        ("HTTPS_PROXY=u:p@h:1 run", f"HTTPS_PROXY={REDACTED}@h:1 run"),
        ('DOCKER_AUTH_CONFIG={"auths": {}} run', f"DOCKER_AUTH_CONFIG={REDACTED} run"),
        ('TOKEN={"a": 1}/x=y run', f"TOKEN={REDACTED} run"),
        ("run --name x --port 80", "run --name x --port 80"),
        ("nvcr.io/nvidia/driver@sha256:12", "nvcr.io/nvidia/driver@sha256:12"),
    ],
)
def test_a_text_loses_only_its_secrets(given_text: str, expected: str) -> None:
    assert redact_text(given_text) == expected
    assert redact_text(expected) == expected


def test_a_kubelets_flags_about_tokens_and_keys_are_configuration() -> None:
    flags = [
        "/usr/bin/kubelet",
        "--authentication-token-webhook=true",
        "--authentication-token-webhook-cache-ttl=2m",
        "--authorization-mode=Webhook",
        "--anonymous-auth=false",
        "--tls-private-key-file=/var/lib/kubelet/pki/kubelet.key",
        "--image-credential-provider-config=/etc/eks/image-credential-provider/config.json",
        "--image-credential-provider-bin-dir=/etc/eks/image-credential-provider",
        "--node-labels=topology.kubernetes.io/zone=a,tier=gpu",
        "--register-with-taints=nvidia.com/gpu=present:NoSchedule",
    ]
    assert redact_arguments(flags) == flags


@given(
    st.sampled_from(["TOKEN", "password", "X_SECRET", "API_KEY", "client-secret", "dbPassword", "CREDENTIALS"]),
    st.text(alphabet="abcxyz0123456789+_%", min_size=12),
)
def test_no_secret_is_left(name: str, secret: str) -> None:
    assert secret not in redact_variable(f"{name}={secret}")
    assert secret not in redact_text(f"{name}={secret};")
    assert all(secret not in argument for argument in redact_arguments([f"--{name}={secret}", f"--{name}", secret]))
    assert secret not in redact_text(f"see https://user:{secret}@host/path")


@given(st.text())
def test_any_text_is_taken_and_redacting_twice_changes_nothing(text: str) -> None:
    once = redact_text(text)
    assert redact_text(once) == once
    redact_variable(text)
    redact_arguments(text.split(" "))


def test_a_long_text_costs_no_more_than_its_length() -> None:
    for piece in ("a", "a=", 'x="', "://", "a.", "-", "token", "token=", "--token ", "x-", "u:@"):
        redact_text("=" + piece * (200_000 // len(piece)))
