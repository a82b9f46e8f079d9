"""`make demo`: from nothing to a value read back from a memcached that memop made."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from pymemcache.client.base import Client

from hack.cluster.__main__ import main as cluster_command
from hack.cluster.cluster import Cluster, Record
from hack.cluster.errors import ClusterError
from hack.cluster.layout import DEFAULT_NAME, Layout
from hack.cluster.processes import wait_for
from hack.cluster.progress import Progress

MANIFEST = """\
apiVersion: memcached.c5c3.io/v1beta1
kind: Memcached
metadata:
  name: demo
spec:
  replicas: 2
"""
PODS = "app.kubernetes.io/instance=demo,app.kubernetes.io/name=memcached"


def main(argv: list[str]) -> int:
    """`hack.demo` brings the cluster up and enters it; `hack.demo inside` is the part that talks to it."""
    if argv == ["inside"]:
        return inside(Progress())
    code = cluster_command(["up"])
    if code:
        return code
    cluster = Cluster(Layout.of(DEFAULT_NAME), Progress())
    record = cluster.record()
    if record is None:
        raise ClusterError("the cluster went away", hint="make demo")
    start_operator(cluster, record)
    command = cluster.enter([sys.executable, "-m", "hack.demo", "inside"])
    return subprocess.run(command, env={**os.environ, **cluster.environment(record)}, check=False).returncode


def start_operator(cluster: Cluster, record: Record) -> None:
    """memop becomes one of the cluster's processes, so that `down` ends it too."""
    running = cluster.table.find("memop")
    if running is not None and running.alive():
        cluster.progress.say(f"memop is already running; log: {running.log}")
        return
    command = cluster.enter([sys.executable, "-m", "memop.cli", "run", "--metrics-secure=false"])
    process = cluster.table.start("memop", command, environment=cluster.environment(record))
    cluster.progress.say(f"memop runs; log: {process.log}")


def inside(progress: Progress) -> int:
    with progress.phase("CRDs", "installed"):
        printed = subprocess.run([sys.executable, "-m", "memop.cli", "crds"], capture_output=True, check=True)
        kubectl("apply", "--server-side", "-f", "-", input_=printed.stdout.decode())
        await_condition("crd/memcacheds.memcached.c5c3.io", "Established")
    print(f"\n$ kubectl apply -f - <<EOF\n{MANIFEST}EOF\n")
    kubectl("apply", "-f", "-", input_=MANIFEST)
    with progress.phase("Memcached demo"):
        await_condition("memcached/demo", "Ready")
    print(kubectl("get", "memcached/demo", "deployment/demo", "service/demo"))
    if os.environ["MEMOP_CLUSTER_LEVEL"] != "3":
        progress.say("This cluster has no real pods (level 2), so there is nothing to read back: run as root for that.")
        return 0
    for pod in json.loads(kubectl("get", "pods", "-l", PODS, "-o", "json"))["items"]:
        read_back(pod, progress)
    progress.say(NEXT.format(python=Path(sys.executable).relative_to(Path.cwd())))
    return 0


def read_back(pod: dict[str, Any], progress: Progress) -> None:
    """Set and get through the memcached protocol, on this very pod; forwarded, as kind's pods have no route here."""
    name = pod["metadata"]["name"]
    with forwarded(name) as port, closing(Client(("127.0.0.1", port), connect_timeout=5, timeout=5)) as cache:
        cache.set("greeting", f"hello from {name}", noreply=False)
        value = cache.get("greeting")
    if value is None:
        raise SystemExit(f"{name} did not give back what was set")
    progress.say(f"pod {name}, port 11211:  get greeting → {value.decode()}")


@contextmanager
def forwarded(pod: str) -> Iterator[int]:
    """A local port that leads to a pod's memcached."""
    command = ["kubectl", "port-forward", f"pod/{pod}", ":11211"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline() if process.stdout else ""
            found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+)", said)
            if found is None:
                raise SystemExit(f"{' '.join(command)}: {said.strip() or 'see above'}")
            yield int(found[1])
        finally:
            process.terminate()


def await_condition(target: str, condition: str) -> None:
    """Not `kubectl wait`: that fails on an object which has no conditions yet."""
    path = f'jsonpath={{.status.conditions[?(@.type=="{condition}")].status}}'
    wait_for(
        lambda: kubectl("get", target, "-o", path) == "True",
        seconds=120,
        failure=lambda: ClusterError(f"{target} is not {condition}:\n{kubectl('get', target, '-o', 'yaml')}"),
    )


def kubectl(*arguments: str, input_: str | None = None) -> str:
    done = subprocess.run(["kubectl", *arguments], input=input_, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


NEXT = """
What to try next (every command reaches the cluster through `{python} -m hack.cluster exec --`):
  kubectl scale memcached/demo --replicas=3     the scale subresource
  kubectl delete deployment/demo                memop makes it again
  kubectl get memcached/demo -o yaml            conditions, serverList
  kubectl explain memcached.spec                every field
  make demo-down                                end it, leaving nothing behind
"""

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ClusterError as error:
        sys.exit(error.render())
