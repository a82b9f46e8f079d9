"""The command line and configuration file of every program of the cluster. Nothing is started here."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hack.cluster.layout import Layout
from hack.cluster.network import API_SERVICE_IP, DNS_SERVICE_IP, NODE_IP, POD_CIDR, SERVICE_CIDR
from hack.cluster.pki import Authority, KeyPair, kubeconfig, service_account_key, write_kubeconfig

NODE_NAME = "node1"
PAUSE_IMAGE = "registry.k8s.io/pause:3.10"
METRICS_SERVER_PORT = 4443
_ISSUER = "https://kubernetes.default.svc.cluster.local"
_API_SERVER_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
    API_SERVICE_IP,
    NODE_IP,
)
# Tests make and change objects in bursts; a client-side limit would only measure itself.
_QPS, _BURST = 1000, 2000

Command = list[str | Path]


@dataclass(frozen=True)
class Ports:
    """Where the programs listen. A node has its own network, so fixed ones do; elsewhere free ones are taken."""

    etcd: int = 2379
    etcd_peer: int = 2380
    api: int = 6443
    controller_manager: int = 10257
    scheduler: int = 10259
    kwok: int = 10247


@dataclass(frozen=True)
class Components:
    """The programs of one cluster."""

    layout: Layout
    level: int
    ports: Ports
    programs: dict[str, Path]

    @property
    def address(self) -> str:
        return NODE_IP if self.level == 3 else "127.0.0.1"

    @property
    def server(self) -> str:
        return f"https://{self.address}:{self.ports.api}"

    def write_pki(self) -> None:
        """Certificates, keys and one kubeconfig for each client of the API server."""
        pki = self.layout.pki
        ca = Authority.create(pki, "ca")
        Authority.create(pki, "front-proxy-ca").client("front-proxy", "front-proxy-client")
        service_account_key(pki)
        ca.server("apiserver", _API_SERVER_NAMES)
        ca.server("kubelet", [NODE_NAME, NODE_IP])
        ca.server("metrics-server-serving", ["metrics-server.kube-system.svc"])
        clients = {
            "admin": ("memop-admin", ["system:masters"]),
            "apiserver-kubelet": ("kube-apiserver-kubelet-client", ["system:masters"]),
            "kube-controller-manager": ("system:kube-controller-manager", []),
            "kube-scheduler": ("system:kube-scheduler", []),
            "kube-proxy": ("system:kube-proxy", []),
            "kubelet-client": (f"system:node:{NODE_NAME}", ["system:nodes"]),
            "coredns": ("system:coredns", []),
            "metrics-server": ("system:metrics-server", []),
            "kwok": ("kwok", ["system:masters"]),
        }
        for file, (user, groups) in clients.items():
            pair = ca.client(file, user, groups)
            write_kubeconfig(self.kubeconfig(file), kubeconfig(self.server, ca.pair.certificate, pair))
        write_kubeconfig(self.layout.kubeconfig, kubeconfig(self.server, ca.pair.certificate, self.admin))

    @property
    def authority(self) -> Path:
        return self.layout.pki / "ca.crt"

    @property
    def admin(self) -> KeyPair:
        return KeyPair(self.layout.pki / "admin.crt", self.layout.pki / "admin.key")

    def kubeconfig(self, client: str) -> Path:
        return self.layout.pki / f"{client}.kubeconfig"

    def etcd(self) -> Command:
        client = f"http://127.0.0.1:{self.ports.etcd}"
        peer = f"http://127.0.0.1:{self.ports.etcd_peer}"
        return [
            self.programs["etcd"],
            f"--data-dir={self.layout.state / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        ]

    def api_server(self, extra: Iterable[str] = ()) -> Command:
        """`extra` holds KEY=VALUE; a key given there replaces ours."""
        pki = self.layout.pki
        flags = {
            "etcd-servers": f"http://127.0.0.1:{self.ports.etcd}",
            "bind-address": self.address,
            "advertise-address": self.address,
            "secure-port": str(self.ports.api),
            "cert-dir": str(pki),
            "tls-cert-file": str(pki / "apiserver.crt"),
            "tls-private-key-file": str(pki / "apiserver.key"),
            "client-ca-file": str(self.authority),
            "authorization-mode": "Node,RBAC",
            # A CR's owner reference with blockOwnerDeletion needs the right to its finalizers: OpenShift and careful
            # clusters have this plugin on, so tests do.
            "enable-admission-plugins": "NodeRestriction,OwnerReferencesPermissionEnforcement",
            "service-cluster-ip-range": SERVICE_CIDR,
            "service-account-issuer": _ISSUER,
            "service-account-signing-key-file": str(pki / "service-account.key"),
            "service-account-key-file": str(pki / "service-account.key"),
            "requestheader-client-ca-file": str(pki / "front-proxy-ca.crt"),
            "requestheader-allowed-names": "front-proxy-client",
            "requestheader-username-headers": "X-Remote-User",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "proxy-client-cert-file": str(pki / "front-proxy.crt"),
            "proxy-client-key-file": str(pki / "front-proxy.key"),
            "allow-privileged": "true",
            "profiling": "false",
        }
        if self.level == 1:
            # Nobody makes the `default` ServiceAccounts that this plugin demands of every pod.
            flags["disable-admission-plugins"] = "ServiceAccount"
        if self.level < 3:
            # The `kubernetes` Service cannot have a loopback address as its endpoint.
            flags["endpoint-reconciler-type"] = "none"
        else:
            flags |= {
                "kubelet-preferred-address-types": "InternalIP",
                "kubelet-certificate-authority": str(self.authority),
                "kubelet-client-certificate": str(pki / "apiserver-kubelet.crt"),
                "kubelet-client-key": str(pki / "apiserver-kubelet.key"),
            }
        flags |= dict(argument.removeprefix("--").split("=", 1) for argument in extra)
        return [self.programs["kube-apiserver"], *_flags(flags)]

    def controller_manager(self) -> Command:
        pki = self.layout.pki
        flags = self._controller_flags("kube-controller-manager", self.ports.controller_manager) | {
            "use-service-account-credentials": "true",
            "service-account-private-key-file": str(pki / "service-account.key"),
            "root-ca-file": str(self.authority),
            "cluster-signing-cert-file": str(self.authority),
            "cluster-signing-key-file": str(pki / "ca.key"),
            "concurrent-deployment-syncs": "20",
            "concurrent-replicaset-syncs": "20",
            "concurrent-statefulset-syncs": "20",
            "concurrent-endpoint-syncs": "20",
            "concurrent-service-endpoint-syncs": "20",
            # A test of scaling takes seconds: no waiting for a pod's start to be over, or for the load to come back.
            "horizontal-pod-autoscaler-sync-period": "5s",
            "horizontal-pod-autoscaler-cpu-initialization-period": "10s",
            "horizontal-pod-autoscaler-initial-readiness-delay": "5s",
            "horizontal-pod-autoscaler-downscale-stabilization": "10s",
        }
        return [self.programs["kube-controller-manager"], *_flags(flags)]

    def scheduler(self) -> Command:
        flags = self._controller_flags("kube-scheduler", self.ports.scheduler)
        return [self.programs["kube-scheduler"], *_flags(flags)]

    def kwok(self) -> Command:
        flags = {
            "kubeconfig": str(self.kubeconfig("kwok")),
            "manage-all-nodes": "false",
            "manage-nodes-with-annotation-selector": "kwok.x-k8s.io/node=fake",
            "node-lease-duration-seconds": "40",
            "server-address": f"{self.address}:{self.ports.kwok}",
        }
        return [self.programs["kwok"], *_flags(flags)]

    def _controller_flags(self, client: str, port: int) -> dict[str, str]:
        kubeconfig_file = str(self.kubeconfig(client))
        return {
            "kubeconfig": kubeconfig_file,
            "authentication-kubeconfig": kubeconfig_file,
            "authorization-kubeconfig": kubeconfig_file,
            "leader-elect": "false",
            "bind-address": self.address,
            "secure-port": str(port),
            "profiling": "false",
            "kube-api-qps": str(_QPS),
            "kube-api-burst": str(_BURST),
        }

    def containerd(self) -> Command:
        config = self._write("containerd.toml", self._containerd_config())
        return ["containerd", "--config", config]

    def ctr(self, *arguments: str | Path) -> Command:
        return ["ctr", "--address", self._containerd_socket, "--namespace", "k8s.io", *arguments]

    @property
    def _containerd_socket(self) -> Path:
        return self.layout.run / "containerd.sock"

    def _containerd_config(self) -> str:
        cni = self.layout.config / "cni"
        conflist = {
            "cniVersion": "0.4.0",
            "name": self.layout.id,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "hairpinMode": True,
                    "ipMasq": False,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": POD_CIDR}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                }
            ],
        }
        self._write("cni/10-bridge.conflist", json.dumps(conflist, indent=2))
        # JSON strings are TOML strings too. state_dir netns: /run/netns belongs to the whole machine.
        return f"""\
version = 2
root = {json.dumps(str(self.layout.state / "containerd"))}
state = {json.dumps(str(self.layout.run / "containerd"))}

[grpc]
  address = {json.dumps(str(self._containerd_socket))}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {json.dumps(str(cni_plugins()))}
    conf_dir = {json.dumps(str(cni))}
"""

    def kubelet(self) -> Command:
        pki = self.layout.pki
        config = {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "address": NODE_IP,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.authority)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki / "kubelet.crt"),
            "tlsPrivateKeyFile": str(pki / "kubelet.key"),
            "containerRuntimeEndpoint": f"unix://{self._containerd_socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.layout.id}",
            "failSwapOn": False,
            "failCgroupV1": False,
            "enforceNodeAllocatable": [],
            "localStorageCapacityIsolation": False,
            "evictionHard": {
                "imagefs.available": "0%",
                "imagefs.inodesFree": "0%",
                "nodefs.available": "0%",
                "nodefs.inodesFree": "0%",
            },
            # At 100 % the image garbage collector never runs: there is no registry to get an image back from.
            "imageGCHighThresholdPercent": 100,
            "imageMaximumGCAge": "0s",
            "clusterDNS": [DNS_SERVICE_IP],
            "clusterDomain": "cluster.local",
            "resolvConf": "",
            "maxPods": 250,
            "serializeImagePulls": False,
            "registryPullQPS": 0,
            "kubeAPIQPS": _QPS,
            "kubeAPIBurst": _BURST,
            "eventRecordQPS": 0,
            "nodeStatusUpdateFrequency": "4s",
            "nodeStatusReportFrequency": "1m",
            "syncFrequency": "10s",
            "configMapAndSecretChangeDetectionStrategy": "Watch",
            "shutdownGracePeriod": "0s",
        }
        return [
            self.programs["kubelet"],
            f"--config={self._write_yaml('kubelet.yaml', config)}",
            f"--kubeconfig={self.kubeconfig('kubelet-client')}",
            f"--node-ip={NODE_IP}",
            f"--hostname-override={NODE_NAME}",
        ]

    def kube_proxy(self) -> Command:
        config = {
            "kind": "KubeProxyConfiguration",
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "bindAddress": NODE_IP,
            "healthzBindAddress": f"{NODE_IP}:10256",
            "metricsBindAddress": f"{NODE_IP}:10249",
            "clientConnection": {"kubeconfig": str(self.kubeconfig("kube-proxy")), "qps": _QPS, "burst": _BURST},
            "clusterCIDR": POD_CIDR,
            "hostnameOverride": NODE_NAME,
            "mode": "nftables",
            "nftables": {"minSyncPeriod": "200ms", "syncPeriod": "30s"},
            # Zero means hands off: these sysctls are read-only in many a sandbox.
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        }
        return [self.programs["kube-proxy"], f"--config={self._write_yaml('kube-proxy.yaml', config)}"]

    def coredns(self) -> Command:
        # No cache: a test that has just made a Service asks for its name at once.
        corefile = f"""\
.:53 {{
    bind {NODE_IP}
    errors
    ready {NODE_IP}:8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {self.kubeconfig("coredns")}
        pods insecure
        ttl 1
    }}
}}
"""
        return [self.programs["coredns"], "-conf", self._write("Corefile", corefile)]

    def metrics_server(self) -> Command:
        kubeconfig_file = str(self.kubeconfig("metrics-server"))
        flags = {
            "kubeconfig": kubeconfig_file,
            "authentication-kubeconfig": kubeconfig_file,
            "authorization-kubeconfig": kubeconfig_file,
            "bind-address": NODE_IP,
            "secure-port": str(METRICS_SERVER_PORT),
            "tls-cert-file": str(self.layout.pki / "metrics-server-serving.crt"),
            "tls-private-key-file": str(self.layout.pki / "metrics-server-serving.key"),
            "kubelet-preferred-address-types": "InternalIP",
            # It accepts no shorter interval, and no request that could take most of one.
            "metric-resolution": "10s",
            "kubelet-request-timeout": "5s",
            # kwok's nodes have no kubelet.
            "node-selector": f"kubernetes.io/hostname={NODE_NAME}",
        }
        return [self.programs["metrics-server"], *_flags(flags)]

    def metrics_api(self) -> Path:
        """The manifest that has the API server pass requests for metrics on, and verify whom it passes them to."""
        service = {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "service": {"namespace": "kube-system", "name": "metrics-server"},
                "caBundle": base64.b64encode(self.authority.read_bytes()).decode(),
            },
        }
        return self._write_yaml("metrics-api.yaml", service)

    def _write(self, name: str, text: str) -> Path:
        path = self.layout.config / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def _write_yaml(self, name: str, content: dict[str, Any]) -> Path:
        return self._write(name, yaml.safe_dump(content, sort_keys=False))


def cni_plugins() -> Path:
    """Where the CNI plugins are: Debian's place, or the upstream one."""
    debian = Path("/usr/lib/cni")
    return debian if (debian / "bridge").exists() else Path("/opt/cni/bin")


def node_directories(layout: Layout) -> dict[Path, Path]:
    """Well-known directory → the node's own that is laid over it, visible to the node alone."""
    return {
        Path("/var/lib/kubelet"): layout.state / "node" / "kubelet",
        Path("/var/lib/cni"): layout.state / "node" / "cni",
        Path("/var/log/pods"): layout.state / "node" / "pods",
        Path("/var/log/containers"): layout.state / "node" / "containers",
        Path("/run/containerd"): layout.run / "shims",
    }


def _flags(flags: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]
