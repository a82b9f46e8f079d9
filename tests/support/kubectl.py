"""kubectl as the tests' eyes and hands: a client that shares no code with memop."""

import json
import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
Json = dict[str, Any]


def eventually(check: Callable[[], T], *, timeout: float = 60.0, interval: float = 0.2) -> T:
    """Call `check` until all that it asserts and looks up is so, and give back what it returns."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return check()
        except (AssertionError, LookupError):
            if time.monotonic() > deadline:
                raise
            time.sleep(interval)


class Kubectl:
    """kubectl with KUBECONFIG from the environment, in one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def __call__(self, *args: str, input: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:  # noqa: A002
        command = ["kubectl", "--namespace", self.namespace, *args]
        done = subprocess.run(command, input=input, capture_output=True, text=True, check=False, timeout=120)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done

    def apply(self, *objects: Json, manager: str = "tests") -> None:
        """Server-side apply, as a user would."""
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-", input=body)

    def create(self, body: Json) -> Json:
        created: Json = json.loads(self("create", "-o", "json", "-f", "-", input=json.dumps(body)).stdout)
        return created

    def install(self, crd: str) -> None:
        """Apply CRD YAML and wait until it is served; `kubectl wait` fails on one that has no conditions yet."""
        names = self("apply", "--server-side", "--force-conflicts", "-o", "name", "-f", "-", input=crd).stdout.split()
        for name in names:
            eventually(partial(self, "wait", "--for=condition=Established", name, "--timeout=30s"))

    def find(self, kind: str, name: str) -> Json | None:
        done = self("get", kind, name, "--ignore-not-found", "--show-managed-fields", "-o", "json")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def get(self, kind: str, name: str) -> Json:
        found = self.find(kind, name)
        assert found is not None, f"{kind} {self.namespace}/{name} does not exist"
        return found

    def list(self, kind: str, selector: str = "") -> list[Json]:
        items: list[Json] = json.loads(self("get", kind, "-l", selector, "-o", "json").stdout)["items"]
        return items

    def patch(self, kind: str, name: str, body: Json) -> None:
        """A merge patch."""
        self("patch", kind, name, "--type=merge", "-p", json.dumps(body))

    def strategic_patch(self, kind: str, name: str, body: Json) -> None:
        """A patch that merges lists by their keys, as `kubectl edit` sends it."""
        self("patch", kind, name, "--type=strategic", "-p", json.dumps(body))

    def delete(self, kind: str, name: str, *, wait: bool = True) -> None:
        self("delete", kind, name, f"--wait={str(wait).lower()}")


def condition(cr: Json, type_: str) -> Json:
    """A condition of a CR's status; all empty where it is not stated."""
    stated = (item for item in cr.get("status", {}).get("conditions", ()) if item["type"] == type_)
    return next(stated, {"status": "", "reason": "", "message": ""})


def memcached(name: str, version: str = "v1beta1", /, annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    """A manifest of a `Memcached`."""
    return {
        "apiVersion": f"memcached.c5c3.io/{version}",
        "kind": "Memcached",
        "metadata": {"name": name, **({"annotations": annotations} if annotations else {})},
        "spec": spec,
    }
