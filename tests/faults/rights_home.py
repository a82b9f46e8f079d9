"""memop's rights outside the namespaces that it serves: its Lease, its webhooks' certificate, who may read its metrics.

Each case is a memop that lacks one of them, with a namespace, a ServiceAccount and webhook configurations of its own.
"""

import base64
import ssl
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from memop import rights
from memop.refs import LEASES, MUTATING_WEBHOOKS, SECRETS, SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS, VALIDATING_WEBHOOKS
from memop.settings import Settings
from tests.faults.rights_table import Right, each, granted
from tests.support import service_account
from tests.support.kubectl import Json, Kubectl, eventually
from tests.support.operator import Operator, free_port

LOSS = 8.0  # seconds for which a promise was not kept although those of other rights were
READER = "reader"


@dataclass(frozen=True)
class Case:
    """memop without the right `lacks`; `spoiled`: its certificate is there already, and is none."""

    lacks: Right | None
    spoiled: bool = False


class Home:
    """One memop; what it has in the cluster is all called the same."""

    def __init__(self, directory: Path, case: Case) -> None:
        directory.mkdir()
        self._directory, self._case = directory, case
        self._name = f"rights-{uuid.uuid4().hex[:8]}"
        self._kubectl = Kubectl(self._name)
        self._metrics = f"127.0.0.1:{free_port()}"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.callback(self._clean_up)
        self._install()
        self._token = self._kubectl("create", "token", READER).stdout.strip()
        self._memop = Operator(
            self._directory / "memop.log",
            f"--kubeconfig={service_account.kubeconfig(self._directory, namespace=self._name)}",
            f"--watch-namespaces={self._name}",
            # A leader that cannot renew ends, and is to be looked at before.
            *("--leader-elect", "--leader-election-lease-duration=100s", "--leader-election-renew-deadline=90s"),
            "--leader-election-retry-period=1s",
            *("--enable-webhooks", f"--webhook-name={self._name}", f"--webhook-port={free_port()}"),
            *("--metrics-secure=true", f"--metrics-bind-address={self._metrics}"),
        )
        self._stack.callback(self._memop.__exit__)
        self._memop.start(ready=False)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def assert_leads(self) -> None:
        """It holds the Lease, and renews it."""
        lease = self._kubectl.get("lease", Settings().leader_election_id)["spec"]
        assert lease.get("renewTime") != lease.get("acquireTime"), "the Lease was never renewed"
        assert self._memop.poll() is None, "memop has ended"

    def assert_certified(self) -> None:
        assert self._certificate("tls.crt").startswith("-----BEGIN CERTIFICATE-----"), "that is no certificate"

    def assert_admission_trusts(self) -> None:
        self._assert_told("mutatingwebhookconfiguration")

    def assert_validation_trusts(self) -> None:
        self._assert_told("validatingwebhookconfiguration")

    def assert_scraped(self) -> None:
        """Who may read the metrics does."""
        context = ssl._create_unverified_context()  # noqa: S323 - self-signed, and not what is in question
        request = urllib.request.Request(f"https://{self._metrics}/metrics")
        request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with urllib.request.urlopen(request, timeout=5, context=context) as answer:  # noqa: S310 - https
                assert b"rest_client_requests_total" in answer.read()
        except OSError as error:
            raise AssertionError(f"/metrics: {error}") from error

    def _assert_told(self, kind: str) -> None:
        [webhook] = self._kubectl.get(kind, self._name)["webhooks"]
        told = base64.b64decode(webhook["clientConfig"].get("caBundle", "")).decode()
        assert told, f"the {kind} names no CA"
        assert told == self._certificate("ca.crt"), f"the {kind} names another CA"

    def _certificate(self, part: str) -> str:
        return base64.b64decode(self._kubectl.get("secret", f"{self._name}-cert")["data"][part]).decode()

    def _install(self) -> None:
        self._kubectl("create", "namespace", self._name)
        accounts = (
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": n}} for n in (rights.NAME, READER)
        )
        own = self._left([*rights.lease(), *rights.webhook_secret()])
        cluster = self._left([*rights.webhook_configurations(), *rights.metrics()])
        self._kubectl.apply(
            *accounts,
            *granted("Role", rights.NAME, own, namespace=self._name, home=self._name),
            *granted("ClusterRole", self._name, cluster, namespace="", home=self._name),
            *(self._configuration(kind) for kind in ("Mutating", "Validating")),
            *([self._spoiled()] if self._case.spoiled else []),
        )
        self._kubectl("create", "clusterrole", f"{self._name}-{READER}", "--verb=get", "--non-resource-url=/metrics")
        binding = (f"--clusterrole={self._name}-{READER}", f"--serviceaccount={self._name}:{READER}")
        self._kubectl("create", "clusterrolebinding", f"{self._name}-{READER}", *binding)

    def _left(self, rules: Iterable[Json]) -> list[Right]:
        """The rights that it has, its webhooks being called otherwise than memop's."""
        return [
            right._replace(name=right.name.replace(Settings().webhook_name, self._name))
            for right in each(rules)
            if right != self._case.lacks
        ]

    def _configuration(self, kind: str) -> Json:
        """Of webhooks that are never called."""
        rule = {
            "apiGroups": ["none.example.com"],
            "apiVersions": ["v1"],
            "resources": ["none"],
            "operations": ["CREATE"],
        }
        return {
            "apiVersion": MUTATING_WEBHOOKS.api_version,
            "kind": f"{kind}WebhookConfiguration",
            "metadata": {"name": self._name},
            "webhooks": [
                {
                    "name": "none.example.com",
                    "admissionReviewVersions": ["v1"],
                    "sideEffects": "None",
                    "rules": [rule],
                    "clientConfig": {"service": {"namespace": self._name, "name": self._name}},
                }
            ],
        }

    def _spoiled(self) -> Json:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": f"{self._name}-cert", "labels": {"app.kubernetes.io/managed-by": "memop"}},
            "stringData": {"tls.crt": "spoiled", "tls.key": "spoiled"},
        }

    def _clean_up(self) -> None:
        kinds = "mutatingwebhookconfiguration,validatingwebhookconfiguration,clusterrole,clusterrolebinding"
        self._kubectl("delete", kinds, self._name, f"{self._name}-{READER}", "--ignore-not-found")
        self._kubectl("delete", "namespace", self._name, "--wait=false", "--ignore-not-found")


Check = Callable[[Home], None]


@dataclass(frozen=True)
class Promise:
    """One of an area, such as the webhooks' trust, fails with others of it, but with none of another area."""

    words: str
    area: str
    check: Check


PROMISES = {
    (resource.group, resource.plural): promise
    for promise, resources in (
        (Promise("a leader is found, and leads on", "leadership", Home.assert_leads), (LEASES,)),
        (Promise("the webhooks have a certificate", "webhooks", Home.assert_certified), (SECRETS,)),
        (Promise("defaulting is trusted", "webhooks", Home.assert_admission_trusts), (MUTATING_WEBHOOKS,)),
        (Promise("validation is trusted", "webhooks", Home.assert_validation_trusts), (VALIDATING_WEBHOOKS,)),
        (
            Promise("who may read the metrics does", "metrics", Home.assert_scraped),
            (TOKEN_REVIEWS, SUBJECT_ACCESS_REVIEWS),
        ),
    )
    for resource in resources
}
RIGHTS = [
    *each(rights.lease()),
    *each(rights.webhook_secret()),
    *each(rights.webhook_configurations()),
    *each(rights.metrics()),
]
LACKING = {
    str(right): Case(right, spoiled=(right.resource, right.verb) == (SECRETS.plural, "update")) for right in RIGHTS
}
WHOLE = {"nothing": Case(None), "nothing, and its certificate is spoiled": Case(None, spoiled=True)}


def observe(directory: Path, case: Case) -> dict[str, str]:
    """By promise that was not kept, what speaks against it. Those of other areas than the lacking right's are kept."""
    promises = list(dict.fromkeys(PROMISES.values()))
    area = None if case.lacks is None else promise(case.lacks).area
    with Home(directory, case) as home:
        for other in promises:
            if other.area != area:
                eventually(partial(other.check, home), timeout=60, interval=0.5)
        deadline = time.monotonic() + LOSS
        broken = {other.words: "not looked at" for other in promises if other.area == area}
        while broken and time.monotonic() < deadline:
            broken = {other.words: _trouble(other, home) for other in promises if other.words in broken}
            broken = {words: trouble for words, trouble in broken.items() if trouble}
            time.sleep(0.5)
        return broken


def promise(right: Right) -> Promise:
    """The one that takes the right."""
    return PROMISES[right.group, right.resource]


def _trouble(promise: Promise, home: Home) -> str:
    """What speaks against it now; empty where it is kept."""
    try:
        promise.check(home)
    except AssertionError as error:
        return str(error)
    return ""
