"""The limit, measured: an operator's writes learnt from one of its CRs, and made by `limit` for all."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from hack.bench import limit
from hack.bench.api import CRS, MANAGER, Pool, write
from hack.bench.errors import BenchError
from hack.bench.meter import Meter, Result
from hack.bench.observer import Observer
from hack.bench.owned import written
from hack.bench.phases import Setting
from hack.bench.server import Server, fresh_server

WIDTHS = (16, 32, 64)
_FOREIGN = frozenset({MANAGER, "kube-controller-manager"})


async def learn(server: Server, pool: Pool) -> list[limit.Call]:
    """The applies that would make what the operator made for a CR: its children, then its status."""
    cr = await server.api.get(f"{CRS}/namespaces/{pool.namespace}/memcacheds/{pool.name}")
    calls = []
    for kind, collection in pool.features.children.items():
        prefix, _, plural = collection.rpartition("/")
        path = f"{prefix}/namespaces/{pool.namespace}/{plural}"
        answer = await server.api.get(path)
        for item in answer["items"]:
            if _controlled(item, cr["metadata"]["uid"]):
                child = {"apiVersion": answer["apiVersion"], "kind": kind, **item}
                body = written(child, foreign=_FOREIGN)
                calls.append(limit.call(f"{path}/{child['metadata']['name']}", body, cr))
    path = f"{CRS}/namespaces/{pool.namespace}/memcacheds/{pool.name}/status"
    return [*calls, limit.call(path, written(cr, foreign=_FOREIGN, subresource="status"), cr)]


def _controlled(child: dict[str, Any], uid: str) -> bool:
    owners = child["metadata"].get("ownerReferences", ())
    return any(owner["uid"] == uid and owner.get("controller") for owner in owners)


async def measure(setting: Setting, calls: Sequence[limit.Call], crs: int, width: int) -> Result:
    """The limit's client on an API server of its own, at most `width` requests at once. Raises: BenchError.

    CRs are made and watched as in the phase `cold`, so that both cost the same time.
    """
    bodies, log = setting.directory / "bodies.json", setting.directory / "limit.log"
    bodies.write_bytes(msgspec.json.encode(calls))
    pools = setting.pools(0, crs)
    async with (
        fresh_server(setting.directory, setting.place, setting.namespaces, setting.features) as server,
        Observer(server.api, setting.features.children) as seen,
    ):
        seen.expect({pool.key: None for pool in pools})
        files = {"authority": server.authority, "certificate": server.user.certificate, "key": server.user.key}
        words = [word for name, file in {**files, "bodies": bodies}.items() for word in (f"--{name}", str(file))]
        command = [sys.executable, "-m", "hack.bench.limit", "--server", server.url, "--at-once", str(width), *words]
        with log.open("wb") as stderr:
            client = await asyncio.create_subprocess_exec(
                *setting.place.enter(command),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
            )
        if client.stdin is None or client.stdout is None:
            raise BenchError("the limit's client has no pipes")
        try:
            async with asyncio.timeout(setting.timeout):
                if await client.stdout.readline() != b"ready\n":
                    raise BenchError("the limit's client did not start", log=log)
                told = client.stdin
                meter = Meter(server, setting.place)

                async def create(pool: Pool) -> None:
                    uid = await server.api.create(pool)
                    told.write(f"{pool.namespace} {pool.name} {uid} {pool.replicas}\n".encode())

                sent = await write(pools, create)
                told.close()
                answer = await client.stdout.readline()
                if not answer:
                    raise BenchError("the limit's client has ended", log=log)
                done = msgspec.json.decode(answer, type=limit.Done)
                result = meter.read(done.cpu_seconds)
        except TimeoutError:
            raise BenchError(f"the limit took more than {setting.timeout:g} s: {seen.missing()}", log=log) from None
        finally:
            if client.returncode is None:
                client.kill()
            await client.wait()
        await seen.until(seen.converged.is_set, setting.timeout, log=log)
    seconds = done.finished_at - min(sent.values())
    return Result({"seconds_to_converge": seconds, **result.figures}, result.requests)
