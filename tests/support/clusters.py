"""A `MemcachedCluster` as its users and its pods' neighbours see it."""

import hashlib
import os
import re
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.dataplane.client import Client
from tests.support.keys import ask, seats
from tests.support.kubectl import Json, Kubectl, condition, eventually

TWEMPROXY_IMAGE = "docker.io/memop/twemproxy:0.5.0"
# mcrouter is tested where this names an image that the cluster has.
MCROUTER_IMAGE = os.environ.get("MEMOP_TEST_MCROUTER_IMAGE", "")
IMAGES: dict[str, Json] = {
    "builtin": {},
    "twemproxy": {"image": TWEMPROXY_IMAGE},
    **({"mcrouter": {"image": MCROUTER_IMAGE}} if MCROUTER_IMAGE else {}),
}
PROXIES = tuple(IMAGES)
# Those that take in a new configuration by themselves are those that know copies.
RELOADING = tuple(kind for kind in PROXIES if kind != "twemproxy")
PROXY_THREADS = 4  # of memcached as a proxy, each of which has its own view of which server is dead
# For what takes new pods on a busy machine, or kubelet's next look at a ConfigMap.
PATIENCE = 150

CONFIG_HASH = "memcached.c5c3.io/config-hash"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


def selector(name: str, instance: str) -> str:
    labels = {"name": name, "managed-by": "memcached-operator", "instance": instance}
    return ",".join(f"app.kubernetes.io/{label}={value}" for label, value in labels.items())


def memcached_cluster(
    name: str,
    /,
    kind: str = "builtin",
    *,
    annotations: dict[str, str] | None = None,
    proxy: Json | None = None,
    memcached: Json | None = None,
    **spec: Any,
) -> Json:
    """A manifest. Its pods are small: many of them share one node."""
    return {
        "apiVersion": "memcached.c5c3.io/v1alpha1",
        "kind": "MemcachedCluster",
        "metadata": {"name": name, **({"annotations": annotations} if annotations else {})},
        "spec": {
            "memcached": {"memcached": {"maxMemoryMB": 16, "threads": 1}, **(memcached or {})},
            "proxy": {kind: IMAGES[kind], "resources": {"requests": {"cpu": "1m"}}, **(proxy or {})},
            **spec,
        },
    }


@dataclass(frozen=True)
class Cluster:
    """One that exists."""

    kubectl: Kubectl
    name: str

    @property
    def cr(self) -> Json:
        return self.kubectl.get("mcc", self.name)

    @property
    def kind(self) -> str:
        proxy = self.cr["spec"]["proxy"]
        return next((kind for kind in ("twemproxy", "mcrouter") if kind in proxy), "builtin")

    @property
    def address(self) -> str:
        """Of the one Service."""
        return str(self.kubectl.get("service", self.name)["spec"]["clusterIP"])

    @property
    def port(self) -> int:
        [port] = (port for port in self.kubectl.get("service", self.name)["spec"]["ports"] if port["name"] != "metrics")
        return int(port["port"])

    def client(self) -> Client:
        """One connection to the Service."""
        return Client(self.address, self.port)

    def change(self, **spec: Any) -> None:
        self.kubectl.patch("mcc", self.name, {"spec": spec})

    def become(self, **spec: Any) -> None:
        """Have the spec and, whatever it was before, all proxies and the pool for it."""
        self.change(**spec)
        self.in_use()

    def shape(self) -> tuple[int, int]:
        """Shards and copies, as the spec has them."""
        spec = self.cr["spec"]
        return spec.get("shards", 5), spec.get("replicasPerShard", 1)

    # --- pods

    def server_name(self, copy: int, shard: int) -> str:
        return f"{self.name}-r{copy}-{shard}"

    def servers(self) -> list[list[str]]:
        """`[j][i]` is the address of shard i of copy j, all of which are ready."""
        shards, copies = self.shape()
        found = {pod["metadata"]["name"]: pod for pod in self.kubectl.list("pods")}
        names = [[self.server_name(copy, shard) for shard in range(shards)] for copy in range(copies)]
        waiting = [name for copy in names for name in copy if name not in found or not is_ready(found[name])]
        assert not waiting, waiting
        return [[found[name]["status"]["podIP"] for name in copy] for copy in names]

    def proxies(self) -> list[Json]:
        """The proxies' pods; those on their way out still serve."""
        return self.kubectl.list("pods", selector("memcached-proxy", self.name))

    def lose(self, copy: int, shard: int, *flags: str) -> None:
        """Delete a pool's pod and wait until its successor is ready."""
        name = self.server_name(copy, shard)
        before = self.kubectl.get("pod", name)["metadata"]["uid"]
        self.kubectl("delete", "pod", name, "--wait=false", *flags)

        def check() -> None:
            found = self.kubectl.get("pod", name)
            assert found["metadata"]["uid"] != before
            assert is_ready(found)

        eventually(check, timeout=PATIENCE, interval=0.5)

    # --- what the proxies have

    def in_use(self) -> None:
        """Wait until the pool is there and the proxies have the configuration for it; no others serve any more."""
        eventually(self.assert_in_use, timeout=PATIENCE, interval=1)
        eventually(self.assert_reached, timeout=30)

    def assert_in_use(self) -> None:
        cr = self.cr
        shape = self.shape()
        status = cr.get("status", {})
        assert status.get("observedGeneration") == cr["metadata"]["generation"]
        assert (status.get("shards"), status.get("replicasPerShard")) == shape, status
        self.servers()
        proxies = self.proxies()
        assert len(proxies) == cr["spec"]["proxy"].get("replicas", 2)
        assert all(map(is_ready, proxies))
        wanted = {self.wanted_config()}
        assert {self.config(pod) for pod in proxies} == wanted

    def assert_reached(self) -> None:
        """What goes in by any thread of any proxy comes to all copies: none takes a server for dead any more."""
        servers = self.servers()
        with ExitStack() as stack:
            addresses = [proxy_address(pod) for pod in self.proxies() for _ in range(PROXY_THREADS)]
            for number, client in enumerate([stack.enter_context(Client(*address)) for address in addresses]):
                values = {f"{key}:reached:{number}": "" for key in range(8 * len(servers[0]))}
                replies = ask(client, [f"set {key} 0 0 0\r\n\r\n" for key in values])
                assert set(replies) == {"STORED\r\n"}, set(replies)
                eventually(partial(seats, servers, values), timeout=1)
                ask(client, [f"delete {key}\r\n" for key in values])

    def wanted_config(self) -> str:
        """What a proxy calls the configuration that the ConfigMap has now."""
        config = self.kubectl.get("configmap", f"{self.name}-proxy")
        kind, data = self.kind, config["data"]
        if kind == "builtin":
            return str(data["config.lua"].split("\n")[0].removeprefix("-- "))
        if kind == "mcrouter":
            return hashlib.md5(data["config.json"].encode(), usedforsecurity=False).hexdigest()
        return str(config["metadata"]["annotations"][CONFIG_HASH])

    def config(self, pod: Json) -> str:
        """What one proxy says it has; twemproxy, which says nothing, has what it was started with."""
        kind = self.kind
        if kind == "twemproxy":
            return str(pod["metadata"]["annotations"].get(CONFIG_HASH))
        with Client(*proxy_address(pod)) as client:
            if kind == "mcrouter":
                return client.ask("get __mcrouter__.config_md5_digest\r\n").split("\r\n")[1]
            found = [re.fullmatch(r"user_config_(\w+)", name) for name in client.stats("proxy")]
            [version] = [match[1] for match in found if match]
            return version

    # --- status

    def assert_condition(self, type_: str, status: str, reason: str = "", message: str = "") -> None:
        stated = condition(self.cr, type_)
        assert stated["status"] == status, stated
        assert reason in ("", stated["reason"]), stated
        assert message in stated["message"], stated

    def ready(self) -> None:
        eventually(lambda: self.assert_condition("Ready", "True"), timeout=PATIENCE, interval=1)


def proxy_container(pod: Json) -> Json:
    """Of a proxy's pod, which may have an exporter beside it."""
    [container] = (container for container in pod["spec"]["containers"] if container["name"] == "proxy")
    return dict(container)


def proxy_address(pod: Json) -> tuple[str, int]:
    [port] = proxy_container(pod)["ports"]
    return pod["status"]["podIP"], port["containerPort"]


def is_ready(pod: Json) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and condition(pod, "Ready")["status"] == "True"
