"""The webhook certificate on virtual time: made once, shared, renewed without an admission failing, mended."""

import asyncio
import base64
import functools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

import memop.certificates as module
from memop.certificates import JSON_PATCH, LIFETIME_DAYS, OVERLAP, PERIOD, CertificateKeeper
from memop.errors import AlreadyExists, Conflict, Forbidden, NotFound, Unreachable
from memop.pem import Certificate, authorities, distrusted, validity
from memop.refs import MUTATING_WEBHOOKS, SECRETS, VALIDATING_WEBHOOKS, Key, Resource
from memop.webhooks.certificates import issue
from tests.unit.virtual_time import EPOCH, VirtualClock

Json = Any
SECRET, CONFIGURATION = Key("memop-system", "memop-webhook-cert"), Key("", "memop-webhook")
HOST = "memop-webhook.memop-system.svc"
DAY = 86400.0


class FakeApi:
    """One Secret and two configurations with optimistic concurrency; `fault` runs before every request."""

    def __init__(self) -> None:
        hooks = [{"name": "a.memop", "clientConfig": {"service": {}}}, {"name": "b.memop", "clientConfig": {}}]
        self.objects: dict[Resource, Json] = {
            resource: {"webhooks": deepcopy(hooks)} for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)
        }
        self.version = 0
        self.writes: list[str] = []
        self.fault: Callable[[str, Resource], Awaitable[None]] | None = None

    async def _arrive(self, verb: str, resource: Resource) -> None:
        await asyncio.sleep(0.01)
        if self.fault is not None:
            await self.fault(verb, resource)

    def store(self, secret: Json) -> bytes:
        self.version += 1
        metadata = secret["metadata"] | {"resourceVersion": str(self.version)}
        self.objects[SECRETS] = deepcopy(secret) | {"metadata": metadata}
        return msgspec.json.encode(self.objects[SECRETS])

    async def get(self, resource: Resource, key: Key) -> bytes:
        assert key == (SECRET if resource is SECRETS else CONFIGURATION)
        await self._arrive("get", resource)
        if resource not in self.objects:
            raise NotFound("not found", status=404)
        return msgspec.json.encode(self.objects[resource])

    async def create(self, resource: Resource, namespace: str, body: Json) -> bytes:
        assert (resource, namespace, body["metadata"]["name"]) == (SECRETS, SECRET.namespace, SECRET.name)
        await self._arrive("create", resource)
        if SECRETS in self.objects:
            raise AlreadyExists("it is there", status=409)
        self.writes.append("create")
        return self.store(body)

    async def replace(self, resource: Resource, key: Key, body: Json) -> bytes:
        await self._arrive("replace", resource)
        if SECRETS not in self.objects or body["metadata"].get("resourceVersion") != str(self.version):
            raise Conflict("it moved", status=409)
        self.writes.append("replace")
        return self.store(body)

    async def patch(self, resource: Resource, key: Key, body: Json, *, content_type: str) -> bytes:
        assert (key, content_type) == (CONFIGURATION, JSON_PATCH)
        await self._arrive("patch", resource)
        for step in body:
            _, _, number, *rest = step["path"].split("/")
            webhook = self.objects[resource]["webhooks"][int(number)]
            if step["op"] == "test":
                assert webhook[rest[0]] == step["value"]
            else:
                webhook[rest[0]][rest[1]] = step["value"]
        self.writes.append(f"patch {resource.kind}")
        return b"{}"

    def bundles(self) -> set[str]:
        """The caBundles of all webhooks."""
        found = (self.objects.get(resource, {"webhooks": []}) for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS))
        hooks = [hook["clientConfig"].get("caBundle", "") for one in found for hook in one["webhooks"]]
        return {base64.b64decode(text).decode() for text in hooks}


class Replica:
    def __init__(self, api: FakeApi, clock: VirtualClock) -> None:
        self.served: list[Certificate] = []
        self.made = 0
        self.keeper = CertificateKeeper(
            api,
            name=CONFIGURATION.name,
            namespace=SECRET.namespace,
            serve=self.served.append,
            clock=clock,
            make=self.make,
        )

    async def make(self, names: Sequence[str], now: datetime, days: float) -> Certificate:
        self.made += 1
        await asyncio.sleep(0.3)
        return issue(names, now=now, days=days)

    @contextmanager
    def running(self) -> Iterator[None]:
        task = asyncio.create_task(self.keeper.run())
        try:
            yield
            assert not task.done(), task.exception()
        finally:
            task.cancel()

    @property
    def current(self) -> Certificate:
        return self.served[-1]


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


async def idle(days: float) -> None:
    """Pass a long time, in which a look a minute would be no more than half a million of the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PERIOD", DAY)
        await asyncio.sleep(PERIOD * 1.5)
        await asyncio.sleep(days * DAY)
    await asyncio.sleep(1.3 * DAY)  # the look that was still to come


def trusts(pem: str, certificate: Certificate) -> bool:
    return distrusted(Certificate(certificate.cert, certificate.key, pem), HOST) is None


def admits(api: FakeApi, replica: Replica) -> bool:
    """Whether an API server that goes by the configurations would connect."""
    return all(trusts(pem, replica.current) for pem in api.bundles())


async def test_the_first_makes_it_tells_the_api_server_and_then_rests(api: FakeApi, clock: VirtualClock) -> None:
    replica = Replica(api, clock)
    assert replica.keeper.health() == "no certificate: not looked for yet"
    with replica.running():
        await asyncio.sleep(1)
        assert replica.keeper.health() is None
        assert replica.keeper.trouble() is None
        assert api.writes == ["create", "patch MutatingWebhookConfiguration", "patch ValidatingWebhookConfiguration"]
        assert admits(api, replica)
        secret = api.objects[SECRETS]
        assert secret["type"] == "kubernetes.io/tls"
        assert set(secret["data"]) == {"ca.crt", "tls.crt", "tls.key"}
        assert validity(replica.current)[1] == (EPOCH + timedelta(days=LIFETIME_DAYS)).replace(microsecond=0)
        await idle(100)
        assert (len(api.writes), replica.made, len(replica.served)) == (3, 1, 1)


async def test_two_that_start_at_once_serve_the_same(api: FakeApi, clock: VirtualClock) -> None:
    one, two = Replica(api, clock), Replica(api, clock)
    with one.running(), two.running():
        await asyncio.sleep(30)
        assert (one.made, two.made) == (1, 1)
        assert api.writes.count("create") == 1
        assert one.current.cert == two.current.cert
        assert admits(api, one)
    late = Replica(api, clock)
    with late.running():
        await asyncio.sleep(1)
        assert (late.made, late.current.cert) == (0, one.current.cert)


async def test_rotation_fails_no_admission_on_any_replica(api: FakeApi, clock: VirtualClock) -> None:
    one, two = Replica(api, clock), Replica(api, clock)
    with one.running(), two.running():
        await asyncio.sleep(30)
        first = one.current
        await idle(LIFETIME_DAYS * 2 / 3 - 4)
        assert one.current == first
        seen = {first.cert}
        while first.cert in {one.current.cert, two.current.cert}:
            await asyncio.sleep(30)
            assert admits(api, one)
            assert admits(api, two)
            seen |= {one.current.cert}
        assert len(seen) == 2
        assert one.current.cert == two.current.cert
        assert one.made + two.made <= 4
        # The old CA is still told of, for whoever serves the old certificate yet, and goes when it ends.
        assert all(trusts(pem, first) for pem in api.bundles())
        await idle(LIFETIME_DAYS)
        assert not any(trusts(pem, first) for pem in api.bundles())
        assert admits(api, one)
        assert all(len(authorities(pem)) <= 2 for pem in api.bundles())


async def test_the_next_certificate_waits_until_the_configurations_have_its_ca(
    api: FakeApi, clock: VirtualClock
) -> None:
    replica = Replica(api, clock)
    with replica.running():
        await asyncio.sleep(30)

        async def no_patches(verb: str, resource: Resource) -> None:
            if verb == "patch":
                raise Forbidden("no", status=403)

        api.fault = no_patches
        await idle(244)
        assert len(replica.served) == 1
        assert replica.keeper.trouble() == "no"
        assert replica.keeper.health() is None
        api.fault = None
        await asyncio.sleep(2 * PERIOD)
        assert len(replica.served) == 2
        assert admits(api, replica)


async def test_a_deleted_secret_is_made_anew_with_another_certificate_and_no_gap(
    api: FakeApi, clock: VirtualClock
) -> None:
    one, two = Replica(api, clock), Replica(api, clock)
    with one.running(), two.running():
        await asyncio.sleep(30)
        first = one.current
        del api.objects[SECRETS]
        for _ in range(100):
            await asyncio.sleep(OVERLAP.total_seconds() / 50)
            assert admits(api, one)
            assert admits(api, two)
        assert one.current.cert == two.current.cert != first.cert


def _spoil(secret: Json, change: str) -> None:
    data = secret["data"]
    match change:
        case "no data":
            del secret["data"]
        case "no base64":
            data["tls.crt"] = "%%%"
        case "another key":
            data["tls.key"] = base64.b64encode(issue(["x"], now=EPOCH, days=9).key.encode()).decode()
        case "another ca":
            data["ca.crt"] = base64.b64encode(issue(["x"], now=EPOCH, days=9).ca.encode()).decode()
        case "no ca":
            data["ca.crt"] = ""
        case "half":
            data["tls.crt"] = data["tls.crt"][:400]


GARBAGE = ["no data", "no base64", "another key", "another ca", "no ca", "half"]


@pytest.mark.parametrize("change", GARBAGE)
async def test_a_spoiled_secret_is_mended_from_what_is_served(api: FakeApi, clock: VirtualClock, change: str) -> None:
    replica = Replica(api, clock)
    with replica.running():
        await asyncio.sleep(30)
        first = replica.current
        secret = api.objects[SECRETS]
        _spoil(secret, change)
        secret["metadata"]["labels"]["keep"] = "me"
        api.store(secret)
        for _ in range(100):
            await asyncio.sleep(OVERLAP.total_seconds() / 50)
            assert admits(api, replica)
        assert replica.current.cert != first.cert
        assert api.objects[SECRETS]["metadata"]["labels"]["keep"] == "me"


@pytest.mark.parametrize("change", GARBAGE)
async def test_a_replica_that_starts_upon_garbage_makes_its_own(api: FakeApi, clock: VirtualClock, change: str) -> None:
    replica = Replica(api, clock)
    with replica.running():
        await asyncio.sleep(1)
    _spoil(api.objects[SECRETS], change)
    fresh = Replica(api, clock)
    with fresh.running():
        await asyncio.sleep(1)
        assert (fresh.made, admits(api, fresh)) == (1, True)
        assert fresh.current.cert != replica.current.cert


async def test_one_that_ended_while_nobody_looked_is_replaced(api: FakeApi, clock: VirtualClock) -> None:
    replica = Replica(api, clock)
    with replica.running():
        await asyncio.sleep(1)
    await asyncio.sleep(2 * LIFETIME_DAYS * DAY)
    late = Replica(api, clock)
    with late.running():
        await asyncio.sleep(1)
        assert admits(api, late)
        assert validity(late.current)[1] > clock.now()
        assert {len(authorities(pem)) for pem in api.bundles()} == {1}


async def test_a_secret_that_is_somebody_elses_is_left_alone(api: FakeApi, clock: VirtualClock) -> None:
    api.store({"metadata": {"name": SECRET.name}, "data": {"tls.crt": "eA=="}})
    before = deepcopy(api.objects[SECRETS])
    replica = Replica(api, clock)
    with replica.running():
        await asyncio.sleep(600)
        assert "is not memop's" in (replica.keeper.health() or "")
        assert (api.objects[SECRETS], api.writes, replica.made) == (before, [], 0)
        del api.objects[SECRETS]
        await asyncio.sleep(2 * PERIOD)
        assert replica.keeper.health() is None


async def test_configurations_that_are_not_installed_or_lose_the_bundle(api: FakeApi, clock: VirtualClock) -> None:
    installed = {resource: api.objects.pop(resource) for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)}
    replica = Replica(api, clock)
    with replica.running():
        await asyncio.sleep(1)
        assert (api.writes, replica.keeper.health()) == (["create"], None)
        for _ in range(2):  # installed later; then put back by `kubectl replace`
            api.objects |= deepcopy(installed)
            await asyncio.sleep(2 * PERIOD)
            assert admits(api, replica)
        assert len(api.writes) == 5


async def test_an_api_server_that_fails_or_hangs_is_asked_again(api: FakeApi, clock: VirtualClock) -> None:
    async def hang(verb: str, resource: Resource) -> None:
        await asyncio.sleep(1e6)

    async def fail(verb: str, resource: Resource) -> None:
        raise Unreachable("no route")

    replica = Replica(api, clock)
    with replica.running():
        for fault, words in ((fail, "no route"), (hang, "no answer within")):
            api.fault = fault
            await asyncio.sleep(600)
            assert words in (replica.keeper.health() or "")
        api.fault = None
        await asyncio.sleep(200)
        assert replica.keeper.health() is None


async def test_a_certificate_that_cannot_be_made_or_served_ends_nothing(api: FakeApi, clock: VirtualClock) -> None:
    replica = Replica(api, clock)
    good = replica.keeper._make
    replica.keeper._make = functools.partial(_fail, clock)
    with replica.running():
        await asyncio.sleep(600)
        assert replica.keeper.health() == "no certificate: no entropy"
        replica.keeper._make = good
        await asyncio.sleep(2 * PERIOD)
        assert replica.keeper.health() is None


async def _fail(clock: VirtualClock, names: Sequence[str], now: datetime, days: float) -> Certificate:
    raise Unreachable("no entropy")
