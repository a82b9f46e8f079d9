"""The webhooks' certificate changes while the API server asks: no admission fails, and none goes by unasked."""

import base64
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from threading import Event, Thread

import pytest

from memop.pem import Certificate
from memop.webhooks.certificates import issue
from tests.apiserver.test_admission import (
    CONFIG,
    DENIED,
    KINDS,
    NAME,
    Answer,
    Api,
    calls,
    configurations,
    memcached,
    told,
)
from tests.support.fixtures import OperatorFactory
from tests.support.kubectl import Json, Kubectl, eventually
from tests.support.operator import free_port

SECRET = f"/api/v1/namespaces/default/secrets/{NAME}-cert"
GOOD = memcached("pool")
BAD = memcached("pool", security={"containerSecurityContext": {"privileged": True}})  # for the webhook alone

# A year in seconds: the next certificate is made after 4 s and used 3 s later; it and its CA end after 30 s.
HASTE = """
import sys
from datetime import timedelta
import memop.pem
memop.pem.CLOCK_SKEW = timedelta(seconds=48)
if "memop.cli" in sys.orig_argv:  # and not in the processes that make certificates
    import memop.certificates
    memop.certificates.LIFETIME_DAYS = 30 / 86400
    memop.certificates.OVERLAP = timedelta(seconds=3)
    memop.certificates.PERIOD = 1.0
"""
SECONDS = 60.0
RATE = 20.0  # admissions a second
WORKERS = 4

MakeApi = Callable[[], Api]


@pytest.fixture
def make_api(kubectl: Kubectl, tmp_path: Path) -> Iterator[MakeApi]:
    """Connections of one's own, one for each thread."""
    made: list[Api] = []

    def make() -> Api:
        made.append(Api(kubectl, tmp_path))
        return made[-1]

    yield make
    for api in made:
        api.close()


def why_not_admitted(answer: Answer, manifest: Json) -> str:
    """Empty when both webhooks saw it: one fills in, the other refuses what nobody else does."""
    if manifest is GOOD:
        passed = answer.code == 201 and answer.body["spec"] == {"replicas": 1, "memcached": CONFIG}
    else:
        passed = answer.code == 422 and answer.body["message"].startswith(DENIED)
    return "" if passed else f"{answer.code}: {answer.body.get('message', answer.body)}"


class Load:
    """Admissions at a steady rate, from several connections, until stopped."""

    def __init__(self, make_api: MakeApi) -> None:
        self.admissions = 0
        self.failures: list[str] = []
        self._stop = Event()
        self._threads = [Thread(target=self._run, args=(make_api(), number)) for number in range(WORKERS)]

    def _run(self, api: Api, number: int) -> None:
        start = time.monotonic() + number / RATE
        turn = 0
        while not self._stop.wait(max(0.0, start + turn * WORKERS / RATE - time.monotonic())):
            manifest = BAD if turn % 4 == 3 else GOOD
            if why := why_not_admitted(api.create(manifest), manifest):
                self.failures.append(why)
            self.admissions += 1
            turn += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()


class Balancer:
    """A Service: each connection goes to the next one of `targets`."""

    def __init__(self, port: int, *targets: int) -> None:
        self._turns = cycle(targets)
        self._listening = socket.create_server(("127.0.0.1", port))
        self._open: list[socket.socket] = []
        self._threads = [Thread(target=self._accept)]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                down, _ = self._listening.accept()
                up = socket.create_connection(("127.0.0.1", next(self._turns)))
                self._open += [down, up]
                for pair in ((down, up), (up, down)):
                    self._threads.append(Thread(target=self._pipe, args=pair))
                    self._threads[-1].start()

    def _pipe(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def __enter__(self) -> None:
        self._threads[0].start()

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for one in (self._listening, *self._open):
            one.close()


def serial(port: int, ca: str) -> str:
    """The number of the certificate served. Raises: ssl.SSLError where who trusts `ca` would not connect."""
    context = ssl.create_default_context(cadata=ca)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        certificate = connection.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


def bundles(api: Api) -> set[str]:
    """What the API server trusts."""
    found = [api.ask("GET", f"/apis/admissionregistration.k8s.io/v1/{kind}s/{NAME}").body for kind in KINDS]
    hooks = [hook for one in found for hook in one["webhooks"]]
    return {base64.b64decode(hook["clientConfig"]["caBundle"]).decode() for hook in hooks}


@pytest.fixture
def haste(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """memop and the processes it starts renew certificates all the time."""
    (tmp_path / "sitecustomize.py").write_text(HASTE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.usefixtures("haste")
def test_no_admission_fails_while_certificates_and_cas_change(
    kubectl: Kubectl, start_operator: OperatorFactory, make_api: MakeApi
) -> None:
    api, load = make_api(), Load(make_api)
    service, *ports = free_port(), free_port(), free_port()
    served, trusted, distrust = set[str](), list[str](), list[str]()

    def look() -> None:
        for ca in bundles(api):
            trusted.append(ca)
            for port in ports:
                try:
                    served.add(serial(port, ca))
                except OSError as error:
                    distrust.append(f"{time.monotonic() - start:.1f} s: {error}")

    with Balancer(service, *ports), configurations(kubectl, service):
        replicas = [start_operator("--enable-webhooks", f"--webhook-port={port}") for port in ports]
        eventually(lambda: told(kubectl), timeout=20)
        before = [replica.metrics() for replica in replicas]
        start = time.monotonic()
        with load.running():
            deleted = False
            while (passed := time.monotonic() - start) < SECONDS:
                look()
                if passed > SECONDS / 2 and not deleted:
                    deleted = api.ask("DELETE", SECRET).code == 200
                time.sleep(0.2)
        after = [replica.metrics() for replica in replicas]

    told_of = f"{load.admissions} admissions, {len(served)} certificates, {len(set(trusted))} bundles of CAs"
    print(told_of)  # noqa: T201 - with -s, the figures
    assert load.failures == []
    assert distrust == []
    assert load.admissions >= 0.9 * SECONDS * RATE
    for task in ("mutate", "validate"):
        counts = [calls(late, task) - calls(early, task) for early, late in zip(before, after, strict=True)]
        assert sum(counts) == load.admissions, (task, counts)
        assert min(counts) > 0
    assert deleted
    assert len(served) >= 4, told_of
    assert trusted[0] not in trusted[-1], "a CA that ended goes"


def put(directory: Path, certificate: Certificate) -> None:
    """As kubelet renews a mounted Secret: another directory behind the same link, at once."""
    fresh = directory / f"..{time.monotonic_ns()}"
    fresh.mkdir(parents=True)
    (fresh / "tls.crt").write_text(certificate.cert)
    (fresh / "tls.key").write_text(certificate.key)
    (directory / "..new").symlink_to(fresh.name)
    (directory / "..new").replace(directory / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")


def trust(api: Api, *certificates: Certificate) -> None:
    """What cert-manager does, say."""
    ca = base64.b64encode("".join(one.ca for one in certificates).encode()).decode()
    for kind in KINDS:
        path = f"/apis/admissionregistration.k8s.io/v1/{kind}s/{NAME}"
        hooks = range(len(api.ask("GET", path).body["webhooks"]))
        patch = [{"op": "replace", "path": f"/webhooks/{hook}/clientConfig/caBundle", "value": ca} for hook in hooks]
        assert api.ask("PATCH", path, patch, Content_Type="application/json-patch+json").code == 200


def test_certificate_files_are_taken_into_use_when_they_change(
    kubectl: Kubectl, start_operator: OperatorFactory, make_api: MakeApi, tmp_path: Path
) -> None:
    one, two = (issue(["localhost"], now=datetime.now(UTC), days=1) for _ in range(2))
    port, api, load = free_port(), make_api(), Load(make_api)
    put(tmp_path / "mounted", one)

    def assert_served(ca: str, other: str) -> None:
        assert serial(port, ca) != other

    with configurations(kubectl, port, one.ca):
        operator = start_operator(
            "--enable-webhooks", f"--webhook-port={port}", f"--webhook-cert-path={tmp_path / 'mounted'}"
        )
        eventually(lambda: told(kubectl), timeout=20)
        first = serial(port, one.ca)
        with load.running():
            trust(api, one, two)
            put(tmp_path / "mounted", two)
            eventually(lambda: assert_served(one.ca + two.ca, first), timeout=5)
            trust(api, two)
            put(tmp_path / "mounted", Certificate(two.cert[:300], two.key))
            time.sleep(3)
            assert serial(port, two.ca) != first
        assert load.failures == []
        assert load.admissions > 50
        assert bundles(api) == {two.ca}
        assert api.ask("GET", SECRET).code == 404, "memop makes none of its own"
        told_of = [line["msg"] for line in operator.log() if line["msg"].startswith("the certificate was")]
        assert told_of[:2] == ["the certificate was reloaded", "the certificate was not reloaded"]
