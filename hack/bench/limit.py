"""The least that an operator's writes can cost: the same bodies from a bare aiohttp client with nothing else to do.

This is that client, a process of its own. A line `NAMESPACE NAME UID REPLICAS` on stdin tells it of a CR, and it
applies the children and then the status, for at most so many CRs at once. It says `ready`, and at the end how it went.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from yarl import URL

# What a template has where CRs differ. The number stands for replicas.
NAMESPACE, NAME, UID, REPLICAS = "@NAMESPACE@", "@NAME@", "@UID@", 987654321
_MANAGER = "bench-limit"
_HEADERS = {"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"}


class Call(msgspec.Struct):
    """One apply, as templates."""

    path: str
    body: str


class Done(msgspec.Struct):
    """What the client says at its end; `finished_at` is monotonic, which all processes share."""

    finished_at: float
    cpu_seconds: float
    writes: int


def call(path: str, body: dict[str, Any], cr: dict[str, Any]) -> Call:
    """The apply of `body`, made for `cr`, as a template for every CR."""
    meta = cr["metadata"]
    if body["kind"] == "Deployment" and body.get("spec", {}).get("replicas") == cr["spec"]["replicas"]:
        body = {**body, "spec": {**body["spec"], "replicas": REPLICAS}}
    text = f"{path}?fieldManager={_MANAGER}&force=true\n{msgspec.json.encode(body).decode()}"
    # The uid first: no other name can be part of it.
    for value, placeholder in ((meta["uid"], UID), (meta["namespace"], NAMESPACE), (meta["name"], NAME)):
        text = text.replace(value, placeholder)
    target, _, filled = text.partition("\n")
    return Call(target, filled)


def fill(template: bytes, namespace: bytes, name: bytes, uid: bytes, replicas: bytes) -> bytes:
    template = template.replace(NAMESPACE.encode(), namespace).replace(NAME.encode(), name)
    return template.replace(UID.encode(), uid).replace(str(REPLICAS).encode(), replicas)


async def _run(arguments: argparse.Namespace) -> int:
    calls = msgspec.json.decode(arguments.bodies.read_bytes(), type=list[Call])
    templates = [(call.path.encode(), call.body.encode()) for call in calls]
    context = ssl.create_default_context(cafile=arguments.authority)
    context.load_cert_chain(arguments.certificate, arguments.key)
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    writes = 0
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    connector = aiohttp.TCPConnector(limit=0, ssl=context)
    async with aiohttp.ClientSession(connector=connector, headers=_HEADERS) as session:

        async def pump() -> None:
            while line := await reader.readline():
                lines.put_nowait(line)
            for _ in range(arguments.at_once):
                lines.put_nowait(b"")

        async def work() -> None:
            nonlocal writes
            while line := await lines.get():
                words = line.split()
                for path, body in templates:
                    url = URL(arguments.server + fill(path, *words).decode(), encoded=True)
                    async with session.patch(url, data=fill(body, *words)) as response:
                        answer = await response.read()
                    if response.status not in (200, 201):
                        raise SystemExit(f"{url}: {response.status} {answer.decode(errors='replace')[:500]}")
                    writes += 1

        print("ready", flush=True)
        cpu = time.process_time()
        async with asyncio.TaskGroup() as group:
            group.create_task(pump())
            for _ in range(arguments.at_once):
                group.create_task(work())
        done = Done(time.monotonic(), time.process_time() - cpu, writes)
    print(msgspec.json.encode(done).decode(), flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.bench.limit")
    parser.add_argument("--server", required=True)
    for flag in ("--authority", "--certificate", "--key", "--bodies"):
        parser.add_argument(flag, type=Path, required=True)
    parser.add_argument("--at-once", type=int, required=True)
    return asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
