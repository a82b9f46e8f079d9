"""An admission webhook that changes what memop applies is not fought, but told of."""

import base64
import itertools
import json
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from memop.webhooks.certificates import issue
from tests.support.apiserver import writes
from tests.support.kubectl import Json, Kubectl, condition, eventually, memcached
from tests.support.operator import Operator

SERIAL = itertools.count()


class Mirror(BaseHTTPRequestHandler):
    """Rewrites the image, as for a mirror, and stamps every admission: no two answers are alike."""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        patch = [
            {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "mirror/memcached:1.6"},
            {"op": "add", "path": "/metadata/labels/stamp", "value": str(next(SERIAL))},
        ]
        response = {
            "uid": review["request"]["uid"],
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
        }
        body = json.dumps(
            {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing to standard error."""


@pytest.fixture
def mirror(kubectl: Kubectl, tmp_path: Path) -> Iterator[str]:
    """The webhook, asked about the Deployments of the test's namespace; its configuration's name."""
    pair = issue(["127.0.0.1"], now=datetime.now(UTC), days=1)
    (tmp_path / "crt").write_text(pair.cert)
    (tmp_path / "key").write_text(pair.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    name = f"{kubectl.namespace}-mirror"
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["deployments"],
    }
    webhook: Json = {
        "name": "mirror.example.com",
        "clientConfig": {
            "url": f"https://127.0.0.1:{server.server_port}/",
            "caBundle": base64.b64encode(pair.ca.encode()).decode(),
        },
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": kubectl.namespace}},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
    }
    kubectl.apply(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [webhook],
        }
    )
    time.sleep(2)  # the API server's own cache of configurations has no other sign
    yield name
    kubectl("delete", "mutatingwebhookconfiguration", name, "--ignore-not-found")
    server.shutdown()
    server.server_close()
    thread.join()


def image(kubectl: Kubectl) -> str:
    [container] = kubectl.get("deployment", "pool")["spec"]["template"]["spec"]["containers"]
    return str(container["image"])


def test_a_webhook_that_changes_every_apply_is_told_of_and_not_fought(
    kubectl: Kubectl, mirror: str, operator: Operator
) -> None:
    before = writes(kubectl)
    kubectl.apply(memcached("pool"))
    eventually(lambda: kubectl.get("deployment", "pool"))

    def assert_told() -> None:
        notes = [e["note"] for e in kubectl.list("events.events.k8s.io") if e["reason"] == "Contested"]
        assert any("mirror/memcached:1.6" in note for note in notes), notes

    eventually(assert_told)
    time.sleep(10)
    assert 2 <= (writes(kubectl) - before)["APPLY deployments"] <= 5  # at once, after 1, 2, 4 and 8 s
    assert image(kubectl) == "mirror/memcached:1.6"
    degraded = condition(kubectl.get("memcached", "pool"), "Degraded")
    assert degraded["reason"] == "Degraded"  # no pods here; the webhook's doing is no trouble of the pool's
    kubectl("delete", "mutatingwebhookconfiguration", mirror)
    eventually(lambda: assert_image(kubectl, "memcached:1.6"), timeout=60)


def assert_image(kubectl: Kubectl, wanted: str) -> None:
    assert image(kubectl) == wanted
