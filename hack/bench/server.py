"""One API server (and its etcd), made for one measurement, that counts an operator's requests by its audit log."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml
from rich.console import Console

from hack.bench import proc
from hack.bench.api import Api, connected, namespace
from hack.bench.errors import BenchError
from hack.bench.features import Features
from hack.bench.place import Place
from hack.bench.quiet import quiet
from hack.cluster.cluster import Cluster
from hack.cluster.errors import ClusterError
from hack.cluster.layout import Layout
from hack.cluster.pki import Authority, KeyPair, kubeconfig, write_kubeconfig
from hack.cluster.progress import Progress
from memop.api.schema import crds as own_crds

_USER = "bench-operator"
_CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
# Its own requests after the start, OpenAPI for new CRDs: they end, and what stays is less than this share of a CPU.
_SETTLED = 0.1
# Requests of the measured user alone are written down, so the bench's and the API server's own cost nothing here.
_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": [_USER]}, {"level": "None"}],
}


class _Reference(msgspec.Struct):
    resource: str = ""
    subresource: str = ""


class _Event(msgspec.Struct, rename="camel"):
    stage: str
    verb: str
    request_uri: str = msgspec.field(name="requestURI")
    object_ref: _Reference | None = None
    request_received_timestamp: str = ""


_decode_event = msgspec.json.Decoder(_Event).decode


def count_requests(log: bytes) -> Counter[str]:
    """Requests by `verb resource/subresource`, or by `verb /path` where there is no resource; a watch at its start."""
    return Counter(name for name, _ in _requests(log))


def request_times(log: bytes, name: str) -> list[float]:
    """When the requests of that name came, in seconds since the epoch."""
    times = (at for found, at in _requests(log) if found == name)
    return sorted(datetime.fromisoformat(at).timestamp() for at in times)


def _requests(log: bytes) -> Iterator[tuple[str, str]]:
    """Name and time of each."""
    for line in log.splitlines():
        event = _decode_event(line)
        if event.stage != ("ResponseStarted" if event.verb == "watch" else "ResponseComplete"):
            continue
        target = event.object_ref
        if target is None or not target.resource:
            name = f"{event.verb} {event.request_uri.partition('?')[0]}"
        else:
            name = f"{event.verb} {target.resource}" + (f"/{target.subresource}" if target.subresource else "")
        yield name, event.request_received_timestamp


@dataclass(frozen=True)
class Server:
    """A running API server: the bench's way to it, and `url`, `user` and `kubeconfig` for what is measured."""

    api: Api
    url: str
    authority: Path
    user: KeyPair
    kubeconfig: Path
    version: str
    pid: int
    audit: Path

    def cpu_seconds(self) -> float:
        return proc.cpu_seconds(self.pid)

    def audited(self) -> int:
        """Where the audit log ends now, in bytes."""
        return self.audit.stat().st_size if self.audit.exists() else 0

    def requests_since(self, position: int) -> Counter[str]:
        return count_requests(self._log_since(position))

    def times_since(self, position: int, name: str) -> list[float]:
        return request_times(self._log_since(position), name)

    def _log_since(self, position: int) -> bytes:
        if not self.audit.exists():
            return b""
        with self.audit.open("rb") as log:
            log.seek(position)
            return log.read()


@asynccontextmanager
async def fresh_server(directory: Path, place: Place, namespaces: int, features: Features) -> AsyncIterator[Server]:
    """A new API server, quiet; gone at the end. Raises: BenchError.

    It has memop's CRDs, those of the features, and namespaces that are empty but for the features' Secret.
    """
    layout = Layout(directory, "bench")
    cluster = Cluster(layout, Progress(Console(file=io.StringIO())))
    try:
        try:
            cluster.up(1, _arguments(layout.state, place))
        except ClusterError as error:
            raise BenchError(error.render()) from error
        record, process = cluster.record(), cluster.table.find("kube-apiserver")
        if record is None or process is None:
            raise BenchError("the API server has no record")
        authority = Authority(layout.pki, "ca")
        user = authority.client(_USER, _USER, ["system:masters"])
        admin = KeyPair(layout.pki / "admin.crt", layout.pki / "admin.key")
        url, certificate = f"https://{place.api_host}:{record.ports.api}", authority.pair.certificate
        path = write_kubeconfig(layout.state / "operator.kubeconfig", kubeconfig(url, certificate, user))
        async with connected(f"https://127.0.0.1:{record.ports.api}", certificate, admin) as session:
            api = Api(session)
            await _install(api, namespaces, features)
            version = (await api.get("/version"))["gitVersion"]
            await quiet(lambda: proc.cpu_seconds(process.pid), share=_SETTLED, seconds=60)
            yield Server(api, url, certificate, user, path, version, process.pid, layout.state / "audit.log")
    finally:
        cluster.down()


def _arguments(state: Path, place: Place) -> list[str]:
    policy = state / "audit-policy.json"
    state.mkdir(parents=True)
    policy.write_text(json.dumps(_POLICY))
    flags = {
        # Every address of the bench's own network, or loopback in the machine's.
        "bind-address": place.listen,
        "audit-policy-file": policy,
        "audit-log-path": state / "audit.log",
        "audit-log-maxsize": 100_000,  # MB, so that it is never rotated
    }
    return [f"{name}={value}" for name, value in flags.items()]


async def _install(api: Api, namespaces: int, features: Features) -> None:
    crds = own_crds()
    crds += [crd for file in features.crds() for crd in yaml.safe_load_all(file.read_text())]
    for crd in crds:
        await api.request("POST", _CRD_PATH, crd)
    for number in range(namespaces):
        await api.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace(number)}})
        if features.secret:
            path = f"/api/v1/namespaces/{namespace(number)}/secrets"
            await api.request("POST", path, _tls_secret(features.secret))
    await asyncio.gather(*(_served(api, crd["spec"]) for crd in crds))


def _tls_secret(name: str) -> dict[str, Any]:
    """No pod ever reads it."""
    content = {"tls.crt": "certificate", "tls.key": "key", "ca.crt": "authority"}
    return {"metadata": {"name": name}, "type": "kubernetes.io/tls", "stringData": content}


async def _served(api: Api, kind: dict[str, Any]) -> None:
    """Wait for a new kind. Established is too early: the first watch is answered with 404 or 429 for a while."""
    version = next(version["name"] for version in kind["versions"] if version["storage"])
    path = f"/apis/{kind['group']}/{version}/{kind['names']['plural']}"
    deadline = time.monotonic() + 30
    while True:
        try:
            await api.request("GET", f"{path}?watch=true&timeoutSeconds=1")
        except BenchError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return
