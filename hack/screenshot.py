"""docs/images/status.svg, from what `memop status` prints of pools that really run, under traffic.

python -m hack.cluster up --level 3 --provider binaries --name shot
python -m hack.cluster exec --name shot -- .venv/bin/python -m hack.screenshot docs/images/status.svg
python -m hack.cluster down --name shot
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path

from pymemcache.client.base import Client
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from hack.demo import await_condition, kubectl

MEMOP = (sys.executable, "-m", "memop.cli")
SHOWN = (("memop", "status"), ("memop", "status", "--pods"))
WIDTH = 136
# Values of 500 bytes, written to each pod or to the cluster's Service; keys read that are there, and that are not.
SESSIONS, PAGES, CARTS = (30_000, 30_000, 800), (60_000, 30_000, 12_000), (20_000, 20_000, 2_000)
MANIFEST = """\
apiVersion: memcached.c5c3.io/v1beta1
kind: Memcached
metadata: {name: sessions}
spec: {replicas: 3}
---
apiVersion: memcached.c5c3.io/v1beta1
kind: Memcached
metadata: {name: pages}
spec: {replicas: 2, memcached: {maxMemoryMB: 32}}
---
apiVersion: memcached.c5c3.io/v1alpha1
kind: MemcachedCluster
metadata: {name: carts}
spec: {shards: 2, replicasPerShard: 2}
"""


def main(path: str) -> None:
    kubectl("apply", "--server-side", "-f", "-", input_=printed(*MEMOP, "crds"))
    for plural in ("memcacheds", "memcachedclusters"):
        await_condition(f"crd/{plural}.memcached.c5c3.io", "Established")
    kubectl("apply", "-f", "-", input_=MANIFEST)
    with subprocess.Popen([*MEMOP, "run", "--metrics-bind-address=0"], stderr=subprocess.DEVNULL) as operator:
        try:
            for target in ("memcached/sessions", "memcached/pages", "memcachedcluster/carts"):
                await_condition(target, "Ready")
            traffic()
            Path(path).write_text(picture())
        finally:
            operator.terminate()


def traffic() -> None:
    for name, load in (("sessions", SESSIONS), ("pages", PAGES)):
        selector = f"app.kubernetes.io/name=memcached,app.kubernetes.io/instance={name}"
        for pod in json.loads(kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]:
            drive(pod["status"]["podIP"], *load)
    drive(kubectl("get", "service/carts", "-o", "jsonpath={.spec.clusterIP}"), *CARTS)


def drive(address: str, written: int, found: int, missed: int) -> None:
    """The newest keys are read, for the oldest may have been evicted. Many connections: each has one of the threads."""
    keys = [f"key-{number}" for number in range(written)]
    for cache, some in batches(address, keys):
        cache.set_many(dict.fromkeys(some, b"x" * 500), noreply=False)
    for cache, some in batches(address, [*keys[written - found :], *(f"none-{number}" for number in range(missed))]):
        cache.get_many(some)


def batches(address: str, keys: list[str]) -> Iterator[tuple[Client, list[str]]]:
    for start in range(0, len(keys), 100):
        with closing(Client((address, 11211), connect_timeout=5, timeout=5)) as cache:
            yield cache, keys[start : start + 100]


def picture() -> str:
    """SVG. Its own fonts only: a page that shows it loads nothing from elsewhere."""
    console = Console(record=True, width=WIDTH, file=StringIO(), legacy_windows=False)
    for command in SHOWN:
        console.print(Text.assemble(("$ ", "green"), " ".join(command)))
        console.print(Text.from_ansi(printed(*MEMOP, *command[1:], "-o", "table").rstrip()))
        console.print()
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title="memop status", theme=MONOKAI, code_format=form, unique_id="status")


def printed(*command: str) -> str:
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
