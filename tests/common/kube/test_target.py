"""Which cluster is chosen, from kubeconfig files and pods."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import Code, EidosError, InputError, UsageError
from common.kube.choice import configured
from common.kube.target import load_target, proxy_for

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def _kubeconfig(path: Path, **changes: Any) -> Path:
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "one", "cluster": {"server": "https://one:6443/"}}],
        "users": [{"name": "me", "user": {"token": "hunter2"}}],
        "contexts": [{"name": "first", "context": {"cluster": "one", "user": "me", "namespace": "team"}}],
        "current-context": "first",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**document, **changes}))
    return path


@pytest.fixture
def pod(tmp_path: Path) -> tuple[dict[str, str], str]:
    """Environment and service account directory of a pod."""
    account = tmp_path / "serviceaccount"
    account.mkdir()
    (account / "token").write_text("pod-token\n")
    (account / "ca.crt").write_text(PEM)
    (account / "namespace").write_text("gpu-operator")
    return {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}, str(account)


async def test_a_file_by_its_name(tmp_path: Path) -> None:
    target = load_target(str(_kubeconfig(tmp_path / "config")), environment={})
    assert (target.server, target.context, target.namespace) == ("https://one:6443", "first", "team")
    assert (await target.credentials.current()).authorization == "Bearer hunter2"


def test_the_usual_places_in_order(tmp_path: Path, pod: tuple[dict[str, str], str]) -> None:
    environment, account = pod
    home = tmp_path / "home"
    in_home = _kubeconfig(
        home / ".kube" / "config", clusters=[{"name": "one", "cluster": {"server": "https://home"}}]
    )
    in_variable = _kubeconfig(tmp_path / "variable", clusters=[{"name": "one", "cluster": {"server": "https://var"}}])
    environment |= {"HOME": str(home), "KUBECONFIG": str(in_variable)}
    flag = _kubeconfig(tmp_path / "flag", clusters=[{"name": "one", "cluster": {"server": "https://flag"}}])

    def server(kubeconfig: str | None = None) -> str:
        assert configured(kubeconfig, environment, account)
        return load_target(kubeconfig, None, environment, account).server

    assert server(str(flag)) == "https://flag"
    assert server() == "https://var"
    in_variable.unlink()
    del environment["KUBECONFIG"]
    assert server() == "https://home"
    in_home.unlink()
    assert server() == "https://10.0.0.1:443"
    del environment["KUBERNETES_SERVICE_HOST"]
    assert not configured(None, environment, account)
    with pytest.raises(UsageError, match="no cluster is configured here"):
        load_target(None, None, environment, account)


def test_listed_files_of_which_there_is_none_are_named() -> None:
    with pytest.raises(
        UsageError, match="no cluster is configured here: KUBECONFIG is /no/a:/no/b, where there is no"
    ):
        load_target(environment={"KUBECONFIG": "/no/a:/no/b:", "HOME": "/nonexistent"})


def test_a_named_file_that_is_empty(tmp_path: Path) -> None:
    """Without its content the system's certificate authorities would be asked, and nobody would notice."""
    (tmp_path / "ca.pem").write_text("\n")
    cluster = {"server": "https://one", "certificate-authority": "ca.pem"}
    config = _kubeconfig(tmp_path / "config", clusters=[{"name": "one", "cluster": cluster}])
    with pytest.raises(InputError, match=r"the certificate-authority in the kubeconfig .* .*ca\.pem is empty"):
        load_target(str(config), environment={})


def test_a_listed_file_that_is_missing_is_passed_over(tmp_path: Path) -> None:
    config = _kubeconfig(tmp_path / "config")
    environment = {"KUBECONFIG": f"{tmp_path}/missing:{config}"}
    assert load_target(environment=environment).server == "https://one:6443"
    assert not configured(None, {"KUBECONFIG": f"{tmp_path}/missing"})


def test_the_first_file_to_name_something_wins(tmp_path: Path) -> None:
    first = _kubeconfig(tmp_path / "a")
    second = _kubeconfig(
        tmp_path / "b",
        clusters=[{"name": "one", "cluster": {"server": "https://other"}},
                  {"name": "two", "cluster": {"server": "https://two"}}],
        contexts=[{"name": "second", "context": {"cluster": "two", "user": "me"}}],
        **{"current-context": "second"},
    )  # fmt: skip
    environment = {"KUBECONFIG": f"{first}:{second}"}
    assert load_target(environment=environment).server == "https://one:6443"
    other = load_target(context="second", environment=environment)
    assert (other.server, other.namespace) == ("https://two", "default")


async def test_files_named_in_a_kubeconfig_are_beside_it(tmp_path: Path) -> None:
    config = _kubeconfig(
        tmp_path / "deep" / "config",
        clusters=[{"name": "one", "cluster": {"server": "https://one", "certificate-authority": "ca.pem"}}],
        users=[{"name": "me", "user": {"tokenFile": "token", "client-certificate": "c.pem", "client-key": "k.pem"}}],
    )
    for name, content in (("ca.pem", PEM), ("token", "from-file"), ("c.pem", "C"), ("k.pem", "K")):
        (config.parent / name).write_text(content)
    target = load_target(str(config), environment={})
    credential = await target.credentials.current()
    assert (target.ca, credential.authorization, credential.certificate) == (PEM, "Bearer from-file", ("C", "K"))


async def test_data_in_a_kubeconfig(tmp_path: Path) -> None:
    def data(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    cluster = {
        "server": "https://one",
        "certificate-authority-data": data(PEM),
        "tls-server-name": "kube",
        "insecure-skip-tls-verify": True,
        "proxy-url": "http://proxy:3128",
    }
    user = {"client-certificate-data": data("C"), "client-key-data": data("K"), "username": "u", "password": "p",
            "as": "boss", "as-groups": ["a", "b"], "as-uid": "7", "as-user-extra": {"why/not": ["x"]}}  # fmt: skip
    config = _kubeconfig(
        tmp_path / "c", clusters=[{"name": "one", "cluster": cluster}], users=[{"name": "me", "user": user}]
    )
    target = load_target(str(config), environment={})
    credential = await target.credentials.current()
    assert (target.ca, target.tls_server_name, target.verify) == (PEM, "kube", False)
    assert target.proxy == "http://proxy:3128"
    assert credential.certificate == ("C", "K")
    assert credential.authorization == "Basic " + data("u:p")
    assert credential.impersonate == (
        ("Impersonate-User", "boss"), ("Impersonate-Uid", "7"), ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"), ("Impersonate-Extra-why%2Fnot", "x"),
    )  # fmt: skip


def test_a_pod(pod: tuple[dict[str, str], str]) -> None:
    environment, account = pod
    target = load_target(None, None, environment, account)
    assert (target.server, target.namespace, target.ca, target.context) == (
        "https://10.0.0.1:443", "gpu-operator", PEM, "",
    )  # fmt: skip
    environment["KUBERNETES_SERVICE_HOST"] = "fd00::1"
    assert load_target(None, None, environment, account).server == "https://[fd00::1]:443"


def test_a_pod_without_a_token_has_no_cluster(pod: tuple[dict[str, str], str]) -> None:
    environment, account = pod
    Path(account, "token").unlink()
    assert not configured(None, environment, account)


def test_an_empty_file_is_no_answer_in_a_pod(pod: tuple[dict[str, str], str], tmp_path: Path) -> None:
    environment, account = pod
    empty = tmp_path / "empty"
    empty.write_text("")
    assert load_target(None, None, {**environment, "KUBECONFIG": str(empty)}, account).context == ""
    with pytest.raises(UsageError, match="has no current context"):
        load_target(str(empty), None, environment, account)


@pytest.mark.parametrize(
    ("changes", "context", "code", "message"),
    [
        ({"current-context": ""}, None, Code.USAGE, "has no current context. Choose one with --context: first."),
        ({}, "secnd", Code.USAGE, "there is no context 'secnd' in the kubeconfig"),
        ({"clusters": []}, None, Code.INPUT_MALFORMED, "names the cluster 'one', which has no server there"),
        ({"users": []}, None, Code.INPUT_MALFORMED, "names the user 'me', who is not there"),
        ({"users": 7}, None, Code.INPUT_MALFORMED, "is malformed: Expected `array | null`"),
        ({"users": [{"name": "me", "user": {"token": 12345}}]}, None, Code.INPUT_MALFORMED,
         r"`\$.users\[0\].user.token`"),
        ({"clusters": [{"name": "one", "cluster": {"server": "one:6443"}}]}, None, Code.INPUT_MALFORMED,
         "not an http or https address"),
        ({"clusters": [{"name": "one", "cluster": {"server": "https://x", "proxy-url": "socks5://p"}}]}, None,
         Code.USAGE, "is not an http or https address"),
        ({"clusters": [{"name": "one", "cluster": {"server": "https://x", "certificate-authority": "no"}}]}, None,
         Code.INPUT_UNREADABLE, "the certificate-authority in the kubeconfig .*no cannot be read: no such file"),
        ({"clusters": [{"name": "one", "cluster": {"server": "https://x", "certificate-authority-data": "!"}}]}, None,
         Code.INPUT_MALFORMED, "certificate-authority-data in the kubeconfig .* is not base64"),
        ({"users": [{"name": "me", "user": {"client-certificate-data": "QwAK"}}]}, None, Code.INPUT_MALFORMED,
         "has a client-certificate, but no client-key"),
        ({"users": [{"name": "me", "user": {"client-certificate-data": "QwAK", "client-key-data": "!"}}]}, None,
         Code.INPUT_MALFORMED, "client-key-data in the kubeconfig .* is not base64"),
        ({"clusters": [{"name": "one", "cluster": {"server": "https://127.0.0.1:99999"}}]}, None,
         Code.INPUT_MALFORMED, "the server of cluster 'one' in the kubeconfig .* has no valid host and port"),
        ({"clusters": [{"name": "one", "cluster": {"server": "https://[::1"}}]}, None,
         Code.INPUT_MALFORMED, "has no valid host and port"),
        ({"clusters": [{"name": "one", "cluster": {"server": "https://me:12345@x"}}]}, None,
         Code.INPUT_MALFORMED, "must not hold a user name or password"),
        ({"clusters": [{"name": "one", "cluster": {"server": "https://x", "proxy-url": "http://p:99999"}}]}, None,
         Code.USAGE, "the proxy-url in the kubeconfig .* is not an http or https address"),
        ({"clusters": [{"name": "one", "cluster": {"server": "https://x", "certificate-authority-data": "a"}}]}, None,
         Code.INPUT_MALFORMED, "certificate-authority-data in the kubeconfig .* is not base64"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    tmp_path: Path, changes: dict[str, Any], context: str | None, code: Code, message: str
) -> None:
    config = _kubeconfig(tmp_path / "config", **changes)
    with pytest.raises(EidosError, match=message) as caught:
        load_target(str(config), context, {})
    assert caught.value.code is code
    assert str(config) in str(caught.value) or "no cannot" in str(caught.value)
    assert "12345" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: no such file"):
        load_target(str(tmp_path / "missing"), None, {})
    broken = tmp_path / "broken"
    broken.write_text("users: [{token: hunter2\n  x")
    with pytest.raises(InputError, match="is not YAML") as caught:
        load_target(str(broken), None, {})
    assert "hunter2" not in str(caught.value) + repr(caught.value.__cause__)


@pytest.mark.parametrize("deep", ["a: " + "[" * 100_000, "- " * 100_000 + "x"], ids=["brackets", "dashes"])
def test_a_kubeconfig_nested_without_end(tmp_path: Path, deep: str) -> None:
    """libyaml's composer would run out of stack and take the program with it."""
    path = tmp_path / "config"
    path.write_text(deep)
    with pytest.raises(InputError, match="is not YAML"):
        load_target(str(path))


def test_nothing_secret_shows(tmp_path: Path) -> None:
    target = load_target(str(_kubeconfig(tmp_path / "config")), environment={})
    assert "hunter2" not in repr(target) + str(target) + json.dumps(str(target.credentials))


@pytest.mark.parametrize(
    ("server", "environment", "proxy"),
    [
        ("https://api:6443", {}, ""),
        ("https://api:6443", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://api:6443", {"https_proxy": "p:1"}, "http://p:1"),
        ("https://api:6443", {"HTTP_PROXY": "http://p:1"}, ""),
        ("http://api:6443", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("https://api:6443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, ""),
        ("https://api.corp:6443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "x, .corp"}, ""),
        ("https://api.corp:6443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "corp"}, ""),
        ("https://api.corp:6443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*.corp"}, ""),
        ("https://apicorp:6443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "corp"}, "http://p:1"),
        ("https://10.1.2.3:443", {"HTTPS_PROXY": "http://p:1", "no_proxy": "10.0.0.0/8"}, ""),
        ("https://[fd00::1]:443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "fd00::/8"}, ""),
        ("https://11.1.2.3:443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "http://p:1"),
        ("https://localhost:443", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("https://127.0.0.2:443", {"HTTPS_PROXY": "http://p:1"}, ""),
    ],
)
def test_the_environments_proxy(server: str, environment: dict[str, str], proxy: str) -> None:
    assert proxy_for(server, environment) == proxy


def test_a_proxy_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="NO_PROXY"):
        proxy_for("https://api", {"HTTPS_PROXY": "socks5://p:1"})
