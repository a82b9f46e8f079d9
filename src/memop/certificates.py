"""The certificate that webhooks are served with, where no files are given: memop makes it, shares it and renews it.

It stands in a Secret of memop's own namespace; whichever replica comes first makes it, the others take it, and every
write carries the resourceVersion it is based on. The webhook configurations get the CAs as their `caBundle`, by every
replica: the Secret says what they shall be, so that none waits for a leader.

A change of certificate fails no admission: at two thirds of its life the next one is put beside it (`next.crt`), and
its CA into the bundle; OVERLAP later, when the configurations have that bundle, it takes the first one's place. The old
CA stays in the bundle until it ends, for replicas that have not looked yet. A Secret that was deleted or spoiled is
made anew in the same way, from what is being served, with a new certificate beside it.
"""

import asyncio
import base64
import binascii
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec
import structlog

from memop.clock import Clock
from memop.errors import BadResponse, ConfigurationError, MemopError, NotFound
from memop.pem import CLOCK_SKEW, Authority, Certificate, authorities, bundle, distrusted, validity
from memop.refs import MUTATING_WEBHOOKS, SECRETS, VALIDATING_WEBHOOKS, Key, Resource

Json = Any
Make = Callable[[Sequence[str], datetime, float], Awaitable[Certificate]]

LIFETIME_DAYS = 365.0
OVERLAP = timedelta(minutes=10)  # in which API servers and other replicas learn of a new CA
PERIOD = 60.0  # seconds between two looks
RETRY = 5.0  # seconds after a failure
PASS_TIMEOUT = 120.0  # seconds for one look and what it leads to
CHILD_TIMEOUT = 60.0  # seconds for the process that makes a certificate

log = structlog.stdlib.get_logger(__name__)

JSON_PATCH = "application/json-patch+json"
MANAGED_BY = {"app.kubernetes.io/managed-by": "memop"}


class Api(Protocol):
    """What of the client is used."""

    async def get(self, resource: Resource, key: Key) -> bytes: ...
    async def create(self, resource: Resource, namespace: str, body: Any) -> bytes: ...
    async def replace(self, resource: Resource, key: Key, body: Any) -> bytes: ...
    async def patch(self, resource: Resource, key: Key, body: Any, *, content_type: str) -> bytes: ...


def make(names: Sequence[str], now: datetime, days: float) -> Certificate:
    """Have a process of its own make a certificate: cryptography costs 9 MiB for as long as a process lives.

    Raises: ConfigurationError.
    """
    command = [sys.executable, "-m", "memop.webhooks.certificates", str(now.timestamp()), str(days), *names]
    try:
        done = subprocess.run(command, capture_output=True, timeout=CHILD_TIMEOUT, check=True)  # noqa: S603 - our own
        return msgspec.json.decode(done.stdout, type=Certificate)
    except subprocess.CalledProcessError as error:
        raise ConfigurationError(f"no certificate could be made: {error.stderr.decode().strip()[-500:]}") from error
    except (OSError, subprocess.TimeoutExpired, msgspec.MsgspecError) as error:
        raise ConfigurationError(f"no certificate could be made: {error}") from error


async def make_aside(names: Sequence[str], now: datetime, days: float) -> Certificate:
    """`make`, without holding up the loop."""
    return await asyncio.to_thread(make, names, now, days)


@dataclass(frozen=True, slots=True)
class _State:
    """What the Secret holds: the certificate in use, the one to come, and every CA to trust."""

    current: Certificate
    upcoming: Certificate | None
    cas: tuple[Authority, ...]


class CertificateKeeper:
    """Keeps Secret, webhook configurations and what is served in step.

    `name` is the webhook Service's and both configurations' name; the Secret is `<name>-cert`. `serve` takes a
    certificate into use.
    """

    def __init__(
        self,
        client: Api,
        *,
        name: str,
        namespace: str,
        serve: Callable[[Certificate], None],
        clock: Clock,
        make: Make = make_aside,
    ) -> None:
        self._client = client
        self._configurations = Key("", name)
        self._secret = Key(namespace, f"{name}-cert")
        host = f"{name}.{namespace}.svc"
        # localhost: for an API server on the same machine, told of by `url` (development, tests).
        self._names = (host, f"{host}.cluster.local", f"{name}.{namespace}", "localhost")
        self._serve = serve
        self._clock = clock
        self._make = make
        self._served: _State | None = None
        self._trouble = "not looked for yet"

    def health(self) -> str | None:
        """Why webhooks cannot be served yet; None when they can."""
        return None if self._served else f"no certificate: {self._trouble}"

    def trouble(self) -> str | None:
        """What the last look failed at, if it did."""
        return self._trouble or None

    async def run(self) -> None:
        """Look, mend, and look again; failures are logged and tried again."""
        failures = 0
        while True:
            try:
                async with asyncio.timeout(PASS_TIMEOUT):
                    await self._pass()
                self._trouble, failures = "", 0
            except (MemopError, TimeoutError) as error:
                self._trouble, failures = str(error) or f"no answer within {PASS_TIMEOUT:g} s", failures + 1
                log.warning("the webhook certificate could not be kept", secret=str(self._secret), error=self._trouble)
            pause = min(RETRY * 2 ** (min(failures, 10) - 1), PERIOD) if failures else PERIOD
            await self._clock.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spread only

    async def _pass(self) -> None:
        now = self._clock.now()
        secret = await self._look()
        state = _read(secret, now)
        if state is None or not self._sound(state, now):
            state = await self._afresh(state, now)
            secret = await self._write(secret, state)
        else:
            self._take(state)  # its CA was published before it became the current one
            if state.upcoming is None and _due(state.current, now):
                fresh = await self._make(self._names, now, LIFETIME_DAYS)
                state = _State(state.current, fresh, _alive((*authorities(fresh.ca), *state.cas), now))
                secret = await self._write(secret, state)
                log.info("the next webhook certificate was made", secret=str(self._secret))
        if self._served is None:
            self._take(state)  # whatever else fails: without one nothing is served at all
        await self._publish(bundle(state.cas))
        if state.upcoming is not None and now >= validity(state.upcoming)[0] + CLOCK_SKEW + OVERLAP:
            state = replace(state, current=state.upcoming, upcoming=None)
            await self._write(secret, state)
        self._take(state)

    async def _look(self) -> Json:
        """The Secret, or None. Raises: ConfigurationError for one that is not memop's."""
        try:
            secret = _decode(await self._client.get(SECRETS, self._secret), "Secret")
        except NotFound:
            return None
        labels = secret.get("metadata", {}).get("labels") or {}
        if not labels.items() >= MANAGED_BY.items():
            raise ConfigurationError(
                f"Secret {self._secret} is not memop's: delete it, or mount it and name it by --webhook-cert-path"
            )
        return secret

    async def _afresh(self, broken: _State | None, now: datetime) -> _State:
        """A state for a Secret that is missing or spoiled; what is being served is kept until the new one is known."""
        fresh = await self._make(self._names, now, LIFETIME_DAYS)
        log.info("a webhook certificate was made", secret=str(self._secret))
        served = self._served
        if served is not None and self._sound(served, now):
            return _State(served.current, fresh, _alive((*authorities(fresh.ca), *served.cas), now))
        return _State(fresh, None, _alive((*authorities(fresh.ca), *(broken.cas if broken else ())), now))

    def _sound(self, state: _State, now: datetime) -> bool:
        whole = replace(state.current, ca=bundle(state.cas))
        return all(distrusted(whole, name) is None for name in self._names) and now < validity(whole)[1]

    async def _write(self, secret: Json, state: _State) -> Json:
        """The Secret as written. Raises: AlreadyExists, Conflict where another replica was quicker."""
        fields = {"ca.crt": bundle(state.cas), "tls.crt": state.current.cert, "tls.key": state.current.key}
        if state.upcoming is not None:
            fields |= {"next.crt": state.upcoming.cert, "next.key": state.upcoming.key}
        data = {name: base64.b64encode(text.encode()).decode() for name, text in fields.items()}
        if secret is not None:
            return _decode(await self._client.replace(SECRETS, self._secret, secret | {"data": data}), "Secret")
        body = {
            "apiVersion": SECRETS.api_version,
            "kind": SECRETS.kind,
            "metadata": {"namespace": self._secret.namespace, "name": self._secret.name, "labels": MANAGED_BY},
            "type": "kubernetes.io/tls",
            "data": data,
        }
        return _decode(await self._client.create(SECRETS, self._secret.namespace, body), "Secret")

    async def _publish(self, cas: str) -> None:
        """Have both configurations trust `cas`; one that is not installed needs nothing."""
        wanted = base64.b64encode(cas.encode()).decode()
        for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            try:
                found = _decode(await self._client.get(resource, self._configurations), resource.kind)
            except NotFound:
                continue
            operations: list[Json] = []
            for number, webhook in enumerate(found.get("webhooks") or ()):
                if webhook["clientConfig"].get("caBundle") != wanted:
                    # Somebody may have put the list into another order meanwhile.
                    operations.append({"op": "test", "path": f"/webhooks/{number}/name", "value": webhook["name"]})
                    path = f"/webhooks/{number}/clientConfig/caBundle"
                    operations.append({"op": "add", "path": path, "value": wanted})
            if operations:
                await self._client.patch(resource, self._configurations, operations, content_type=JSON_PATCH)
                log.info("the API server was told whom to trust", configuration=f"{resource} {self._configurations}")

    def _take(self, state: _State) -> None:
        if self._served is None or self._served.current.cert != state.current.cert:
            self._serve(state.current)
            log.info("webhooks are served with another certificate", until=str(validity(state.current)[1]))
        self._served = state


def _read(secret: Json, now: datetime) -> _State | None:
    """What the Secret holds, or None where there is none or half of it is missing."""
    fields = {name: _text(value) for name, value in ((secret or {}).get("data") or {}).items()}
    if not fields.get("tls.crt") or not fields.get("tls.key"):
        return None
    cas = _alive(authorities(fields.get("ca.crt", "")), now)
    current, upcoming = (Certificate(fields.get(f"{one}.crt", ""), fields.get(f"{one}.key", "")) for one in _PAIRS)
    known = replace(upcoming, ca=bundle(cas))
    return _State(current, upcoming if upcoming.cert and _readable(known) else None, cas)


_PAIRS = ("tls", "next")


def _readable(certificate: Certificate) -> bool:
    try:
        validity(certificate)
    except ConfigurationError:
        return False
    return True


def _due(certificate: Certificate, now: datetime) -> bool:
    """Whether two thirds of its life are over."""
    start, end = validity(certificate)
    return now >= start + (end - start) * 2 / 3


def _alive(cas: Sequence[Authority], now: datetime) -> tuple[Authority, ...]:
    return tuple(ca for ca in cas if now < ca.not_after)


def _text(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _decode(body: bytes, what: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise BadResponse(f"not a {what}: {error}") from error
