"""Certificates, keys and kubeconfigs, made with the openssl command for a cluster that lives for minutes."""

import base64
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

_CONFIG = "[req]\ndistinguished_name = name\nprompt = no\n[name]\n"


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, PEM files."""

    certificate: Path
    key: Path


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]} failed: {done.stderr.strip()[-1000:]}")


class Pki:
    """The certificate authorities of one cluster, in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = self._pair("ca")
        self.front_proxy_ca = self._pair("front-proxy-ca")
        self.service_accounts = self._pair("service-accounts")

    def _pair(self, name: str) -> Pair:
        return Pair(self.directory / f"{name}.crt", self.directory / f"{name}.key")

    def create(self) -> None:
        """Makes both authorities and the key that signs ServiceAccount tokens (RSA, as most clusters have)."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        (self.directory / "openssl.cnf").write_text(_CONFIG)
        self._request(self.ca, "/CN=kubernetes-ca", None, ["basicConstraints=critical,CA:TRUE", _CA_USAGE])
        self._request(
            self.front_proxy_ca, "/CN=front-proxy-ca", None, ["basicConstraints=critical,CA:TRUE", _CA_USAGE]
        )
        _openssl("genrsa", "-out", str(self.service_accounts.key), "2048")
        _openssl(
            "rsa", "-in", str(self.service_accounts.key), "-pubout", "-out", str(self.service_accounts.certificate)
        )

    def issue(
        self,
        name: str,
        common_name: str,
        groups: Iterable[str] = (),
        *,
        addresses: Iterable[str] = (),
        authority: Pair | None = None,
    ) -> Pair:
        """A certificate for a client, or for a server where `addresses` (`DNS:x`, `IP:y`) are given."""
        pair = self._pair(name)
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={common_name}"
        alternative = ",".join(addresses)
        extensions = [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            "authorityKeyIdentifier=keyid",
            f"extendedKeyUsage=clientAuth{',serverAuth' if alternative else ''}",
        ]
        if alternative:
            extensions.append(f"subjectAltName={alternative}")
        self._request(pair, subject, authority or self.ca, extensions)
        return pair

    def _request(self, pair: Pair, subject: str, authority: Pair | None, extensions: list[str]) -> None:
        arguments = [
            "req",
            "-x509",
            "-config",
            str(self.directory / "openssl.cnf"),
            "-sha256",
            "-days",
            "30",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-subj",
            subject,
            "-keyout",
            str(pair.key),
            "-out",
            str(pair.certificate),
        ]
        if authority is not None:
            arguments += ["-CA", str(authority.certificate), "-CAkey", str(authority.key)]
        for extension in (*extensions, "subjectKeyIdentifier=hash"):
            arguments += ["-addext", extension]
        _openssl(*arguments)

    def kubeconfig(self, target: Path, server: str, user: dict[str, str], namespace: str = "default") -> Path:
        """Writes a kubeconfig, everything embedded. `user` is its `user` entry, as from `certificate_user`."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": target.stem,
            "clusters": [
                {
                    "name": "eidos-test",
                    "cluster": {"server": server, "certificate-authority-data": _data(self.ca.certificate)},
                }
            ],
            "users": [{"name": target.stem, "user": user}],
            "contexts": [
                {
                    "name": target.stem,
                    "context": {"cluster": "eidos-test", "user": target.stem, "namespace": namespace},
                }
            ],
        }
        target.write_text(yaml.safe_dump(document))
        target.chmod(0o600)
        return target


_CA_USAGE = "keyUsage=critical,keyCertSign,cRLSign"


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def certificate_user(pair: Pair) -> dict[str, str]:
    return {"client-certificate-data": _data(pair.certificate), "client-key-data": _data(pair.key)}
