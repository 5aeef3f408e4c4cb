"""etcd, kube-apiserver, kube-controller-manager, kube-scheduler and CoreDNS in a machine of their own."""

import json
from pathlib import Path

from tests.cluster import audit, network
from tests.cluster.binaries import binaries_directory
from tests.cluster.machine import Machine
from tests.cluster.pki import Pki, certificate_user

_SERVER = f"https://{network.CONTROL_PLANE}:{network.API_PORT}"
# What clients call the API server: from a pod, from a node, and through the forwarder from outside.
_API_NAMES = (
    "DNS:kubernetes",
    "DNS:kubernetes.default",
    "DNS:kubernetes.default.svc",
    "DNS:kubernetes.default.svc.cluster.local",
    "DNS:localhost",
    f"IP:{network.KUBERNETES_SERVICE}",
    f"IP:{network.CONTROL_PLANE}",
    "IP:127.0.0.1",
)
ISSUER = "https://kubernetes.default.svc.cluster.local"
# Users known by a bearer token (`Authorization: Bearer eidos-test-NAME`); they may do only what a test grants.
TOKEN_USERS = {"viewer": "eidos-viewers", "operator": "eidos-operators", "nobody": ""}
# Their defaults (20 requests a second) would make thousands of fake nodes wait for minutes.
_FAST_CLIENT = ("--kube-api-qps=1000", "--kube-api-burst=2000")
_COREFILE = f"""
cluster.local:53 in-addr.arpa:53 {{
    bind {network.CONTROL_PLANE}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig KUBECONFIG
        ttl 1
    }}
}}
.:53 {{
    bind {network.CONTROL_PLANE}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


class ControlPlane:
    """The control plane of one cluster."""

    def __init__(self, machine: Machine, pki: Pki) -> None:
        self.machine = machine
        self.pki = pki

    @property
    def _state(self) -> Path:
        return self.machine.state

    @property
    def audit_log(self) -> Path:
        """What service accounts and the unknown have asked the API server (audit.AuditLog)."""
        return self._state / "audit.log"

    def kubeconfig(self, name: str, user: str, groups: tuple[str, ...] = ()) -> Path:
        """The kubeconfig of a component that reaches the API inside the cluster's network."""
        pair = self.pki.issue(name, user, groups)
        return self.pki.kubeconfig(self._state / f"{name}.kubeconfig", _SERVER, certificate_user(pair))

    def boot(self) -> None:
        pause = binaries_directory() / "pause"
        self.machine.boot(network.CONTROL_PLANE_SCRIPT, str(pause))

    def _spawn(self, program: str, *arguments: str) -> None:
        self.machine.spawn([str(binaries_directory() / program), *arguments])

    def start_api(self) -> None:
        """Starts etcd and the API server, without waiting for them."""
        self._start_etcd()
        self.start_apiserver()

    def start_controllers(self) -> None:
        """Starts what needs the API, and the roles it makes at its first start: they end if they may not read."""
        self.start_manager()
        scheduler = self.kubeconfig("kube-scheduler", "system:kube-scheduler")
        self._spawn(
            "kube-scheduler",
            f"--kubeconfig={scheduler}",
            f"--authentication-kubeconfig={scheduler}",
            f"--authorization-kubeconfig={scheduler}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            *_FAST_CLIENT,
        )
        self._start_dns()

    def start_manager(self, *, fake_nodes: bool = False) -> None:
        """Starts kube-controller-manager, also again after `stop_manager`.

        With `fake_nodes` it neither expects signs of life from nodes nor annotates each with a cache time whenever
        their number changes.
        """
        for_nodes = ("--node-monitor-grace-period=24h", "--controllers=*,-ttl-controller") if fake_nodes else ()
        manager = self.kubeconfig("kube-controller-manager", "system:kube-controller-manager")
        self._spawn(
            "kube-controller-manager",
            f"--kubeconfig={manager}",
            f"--authentication-kubeconfig={manager}",
            f"--authorization-kubeconfig={manager}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--use-service-account-credentials",
            *for_nodes,
            *_FAST_CLIENT,
            f"--service-account-private-key-file={self.pki.service_accounts.key}",
            f"--root-ca-file={self.pki.ca.certificate}",
            f"--cluster-signing-cert-file={self.pki.ca.certificate}",
            f"--cluster-signing-key-file={self.pki.ca.key}",
        )

    def stop_apiserver(self) -> None:
        """Kills the API server until `start_apiserver`: everybody's connections end, and nobody answers."""
        self.machine.kill("kube-apiserver")

    def stop_manager(self) -> None:
        # The kernel keeps 15 characters of a process's name.
        self.machine.kill("kube-controller")

    def _start_dns(self) -> None:
        """Serves cluster.local at the control plane's address."""
        admin = self.kubeconfig("coredns", "eidos-test-dns", ("system:masters",))
        corefile = self._state / "Corefile"
        corefile.write_text(_COREFILE.replace("KUBECONFIG", str(admin)))
        self._spawn("coredns", "-conf", str(corefile))

    def start_kwok(self) -> None:
        """Runs kwok over the nodes annotated `kwok.x-k8s.io/node: fake`, without leases.

        Thousands of leases would take both cores of a small machine; so nobody may expect them (`start_manager`).
        """
        admin = self.kubeconfig("kwok", "eidos-test-kwok", ("system:masters",))
        stages = sorted((binaries_directory() / "kwok-stages").iterdir())
        self._spawn(
            "kwok",
            f"--kubeconfig={admin}",
            *(f"--config={stage}" for stage in stages),
            "--manage-all-nodes=false",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            "--node-lease-duration-seconds=0",
            f"--cidr={network.FAKE_PODS}",
        )

    def stop_kwok(self) -> None:
        self.machine.kill("kwok")

    def _start_etcd(self) -> None:
        client = "http://127.0.0.1:2379"
        self._spawn(
            "etcd",
            f"--data-dir={self._state / 'etcd'}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            "--listen-peer-urls=http://127.0.0.1:2380",
        )

    def start_apiserver(self) -> None:
        """Starts the API server, also again after `stop_apiserver`, without waiting for it."""
        pki = self.pki
        serving = pki.issue("kube-apiserver", "kube-apiserver", addresses=_API_NAMES)
        # Without it kubectl logs and exec fail: kubelet asks who calls.
        kubelet_client = pki.issue("kubelet-client", "kube-apiserver", ("system:masters",))
        proxy_client = pki.issue("front-proxy-client", "front-proxy-client", authority=pki.front_proxy_ca)
        tokens = self._state / "tokens.csv"
        tokens.write_text(
            "".join(f'eidos-test-{user},{user},{user},"{group}"\n' for user, group in TOKEN_USERS.items())
        )
        policy = self._state / "audit-policy.json"
        policy.write_text(json.dumps(audit.POLICY))
        self._spawn(
            "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit_log}",
            f"--advertise-address={network.CONTROL_PLANE}",
            f"--secure-port={network.API_PORT}",
            f"--service-cluster-ip-range={network.SERVICES}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={pki.ca.certificate}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            # It taints each new node until the controller has looked at it: thousands of writes for fake nodes.
            "--disable-admission-plugins=TaintNodesByCondition",
            "--delete-collection-workers=16",
            "--allow-privileged",
            f"--kubelet-client-certificate={kubelet_client.certificate}",
            f"--kubelet-client-key={kubelet_client.key}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={pki.service_accounts.certificate}",
            f"--service-account-signing-key-file={pki.service_accounts.key}",
            f"--requestheader-client-ca-file={pki.front_proxy_ca.certificate}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-uid-headers=X-Remote-Uid",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={proxy_client.certificate}",
            f"--proxy-client-key-file={proxy_client.key}",
            "--enable-aggregator-routing",
        )
