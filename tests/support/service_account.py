"""memop's own ServiceAccount, with the rights of the shipped manifests and no others, and what it asked for."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from memop import rights
from tests.support.kubectl import Json, Kubectl

USER = f"system:serviceaccount:{rights.NAMESPACE}:{rights.NAME}"
# Beside the cluster-wide ones: Roles in memop's own namespace.
GRANTED = ("lease.yaml", "cluster/operator.yaml", "cluster/metrics.yaml", "webhook/certificate.yaml")


def install() -> Kubectl:
    """Namespace, ServiceAccount and rights; kubectl in that namespace."""
    home = Kubectl(rights.NAMESPACE)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": rights.NAME}}
    home.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": rights.NAMESPACE}})
    home.apply(account, *(body for file in GRANTED for body in rights.manifests()[file]))
    return home


def kubeconfig(directory: Path, account: str = rights.NAME, namespace: str = rights.NAMESPACE) -> Path:
    """That of the tests, for a ServiceAccount of the namespace, which is also the context's; where it was written."""
    kubectl = Kubectl(namespace)
    config: Json = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json").stdout)
    token = kubectl("create", "token", account, "--duration=12h").stdout.strip()
    config["users"] = [{"name": account, "user": {"token": token}}]
    config["contexts"] = [
        {
            "name": account,
            "context": {"cluster": config["clusters"][0]["name"], "user": account, "namespace": namespace},
        }
    ]
    config["current-context"] = account
    path = directory / f"{account}.kubeconfig"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def audited(log: Path) -> Iterator[Json]:
    """The audit events of memop's requests."""
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            event: Json = json.loads(line)
            if event["user"]["username"] == USER:
                yield event


def refused(log: Path) -> Counter[str]:
    """Each request of memop's that its rights did not cover, with how often it was made."""
    return Counter(
        f"{event['verb']} {event['requestURI'].partition('?')[0]}"
        for event in audited(log)
        if event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
    )
