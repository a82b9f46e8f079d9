"""`memop status`: pools and clusters at a glance, and which configuration each proxy has.

Everything is read with the user's own rights: the objects, and, through the API server's port forwarding, the proxies.
"""

import asyncio
import hashlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import msgspec
from prometheus_client import CollectorRegistry

from memop import __version__
from memop.client import Client, connect
from memop.clock import Clock
from memop.errors import ApiError, NotFound
from memop.metrics import ClientMetrics
from memop.reconcilers.cluster import builtin
from memop.reconcilers.cluster.instance import CONFIG_HASH
from memop.reconcilers.cluster.labels import proxy_selector
from memop.reconcilers.cluster.topology import PORT_NAME
from memop.reconcilers.live import read_status
from memop.refs import CONFIG_MAPS, MEMCACHED_CLUSTERS, MEMCACHEDS, PODS, Key, Resource

Json = dict[str, Any]
Row = dict[str, str]

_MCROUTER_CONFIG = "config.json"


async def status(namespace: str | None, *, everywhere: bool, proxies: bool, as_json: bool, out: TextIO) -> int:
    """Print the table. Exit code: 0 when all is ready, 1 when something is not."""
    clock = Clock()
    connection = await connect()
    client = Client(
        connection, metrics=ClientMetrics(CollectorRegistry()), clock=clock, user_agent=f"memop/{__version__}"
    )
    async with client:
        where = "" if everywhere else namespace or connection.namespace
        rows = [*await _pools(client, where), *await _clusters(client, where, proxies=proxies)]
    if as_json:
        out.write(msgspec.json.format(msgspec.json.encode(rows)).decode() + "\n")
    elif rows:
        out.write(table(rows))
    else:
        sys.stderr.write(f"no Memcached and no MemcachedCluster in {where or 'any namespace'}\n")
    return int(any(row["ready"] != "yes" for row in rows))


def table(rows: Sequence[Row]) -> str:
    """Columns of equal width, headed by the rows' keys."""
    names = list(rows[0])
    lines = [[name.upper() for name in names], *([row[name] for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )


async def _pools(client: Client, namespace: str) -> list[Row]:
    return [
        _row("Memcached", pool, f"{told.get('readyReplicas', 0)}/{told.get('replicas', 0)} pods", "")
        for pool in await _list(client, MEMCACHEDS, namespace)
        if (told := pool.get("status", {})) is not None
    ]


async def _clusters(client: Client, namespace: str, *, proxies: bool) -> list[Row]:
    rows = []
    for cluster in await _list(client, MEMCACHED_CLUSTERS, namespace):
        told = cluster.get("status", {})
        size = f"{told.get('shards', 0)}x{told.get('replicasPerShard', 0)}"
        rows.append(_row("MemcachedCluster", cluster, size, told.get("configHash", "")))
        if proxies:
            rows += await _proxies(client, _key(cluster))
    return rows


async def _proxies(client: Client, cluster: Key) -> list[Row]:
    """One row for each proxy pod, with what it says of its configuration."""
    try:
        raw = await client.get(CONFIG_MAPS, Key(cluster.namespace, f"{cluster.name}-proxy"))
    except NotFound:
        return []
    config = msgspec.json.decode(raw)
    selector = ",".join(f"{name}={value}" for name, value in proxy_selector(cluster).items())
    pods = await _list(client, PODS, cluster.namespace, selector)
    answers = await asyncio.gather(*(_config_of(client, pod, config) for pod in pods))
    return [_row("Pod", pod, "", answer, ready=_pod_ready(pod)) for pod, answer in zip(pods, answers, strict=True)]


async def _config_of(client: Client, pod: Json, config: Json) -> str:
    """Whether the proxy has the configuration of the ConfigMap, by its own word."""
    files: Mapping[str, str] = config.get("data", {})
    annotation = pod["metadata"].get("annotations", {}).get(CONFIG_HASH)
    if annotation is not None:  # a proxy that reads its file once
        return _verdict(annotation == config["metadata"]["annotations"].get(CONFIG_HASH))
    try:
        async with client.port_forward(_key(pod), _port(pod)) as proxy:
            if _MCROUTER_CONFIG in files:
                answer = await proxy.ask(b"get __mcrouter__.config_md5_digest\r\n", b"END\r\n")
                wanted = hashlib.md5(files[_MCROUTER_CONFIG].encode(), usedforsecurity=False).hexdigest()
                return _verdict(wanted.encode() in answer)
            answer = await proxy.ask(b"stats proxy\r\n", b"END\r\n")
            return _verdict(f"STAT user_config_{builtin.version(dict(files))} ".encode() in answer)
    except ApiError as error:
        return f"not known: {error}"


def _port(pod: Json) -> int:
    """On which the proxy listens."""
    ports = (port for container in pod["spec"]["containers"] for port in container.get("ports", ()))
    return next(int(port["containerPort"]) for port in ports if port.get("name") == PORT_NAME)


def _verdict(has: bool) -> str:
    return "current" if has else "older"


def _row(kind: str, obj: Json, size: str, config: str, *, ready: str = "") -> Row:
    told = obj.get("status", {})
    found = {condition.type: condition for condition in read_status(msgspec.json.encode(told)).conditions}
    if not ready:
        ready = "yes" if "Ready" in found and found["Ready"].status == "True" else "no"
    trouble = found.get("Degraded")
    return {
        "kind": kind,
        "name": str(_key(obj)),
        "ready": ready,
        "size": size,
        "config": config,
        "endpoint": told.get("endpoint", "") or ",".join(told.get("serverList", [])[:1]),
        "trouble": trouble.reason if trouble and trouble.status == "True" else "",
    }


def _pod_ready(pod: Json) -> str:
    conditions = pod.get("status", {}).get("conditions", [])
    return "yes" if any((c["type"], c["status"]) == ("Ready", "True") for c in conditions) else "no"


def _key(obj: Json) -> Key:
    return Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


async def _list(client: Client, resource: Resource, namespace: str, label_selector: str = "") -> list[Json]:
    """All of them, in order of their names; none where the cluster does not serve the kind."""
    found: list[Json] = []
    token = ""
    while True:
        try:
            page = await client.list(resource, namespace, label_selector=label_selector, continue_token=token)
        except NotFound:
            return []
        found += [msgspec.json.decode(item) for item in page.items]
        token = page.continue_token
        if not token:
            return sorted(found, key=_key)
