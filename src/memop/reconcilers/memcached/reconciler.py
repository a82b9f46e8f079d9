"""`Memcached`: observe, decide, apply children, apply status, say when to look again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from memop.api.conditions import Problem
from memop.clock import Clock, rfc3339
from memop.controller import Done
from memop.errors import NamespaceTerminating
from memop.events import Recorder
from memop.informers.informer import Informer
from memop.informers.store import Cause
from memop.metrics import OperatorMetrics
from memop.reconcilers.apply import Applier, Child
from memop.reconcilers.memcached import children as builders
from memop.reconcilers.memcached.instance import Instance, Options
from memop.reconcilers.memcached.observe import Observed, observe
from memop.reconcilers.memcached.status import status
from memop.reconcilers.memcached.tls import secret_name as certificate_secret
from memop.reconcilers.memcached.workload import secret_names
from memop.reconcilers.objects import Json, Live
from memop.reconcilers.report import contests, done, record, repairs, turns
from memop.reconcilers.secrets import Secret, SecretReader, secret_hash
from memop.refs import CERTIFICATES, MEMCACHEDS, Key, Resource

FIELD_MANAGER = "memop-memcached"


class MemcachedReconciler:
    """Keeps the children and the status of every `Memcached` as its spec says."""

    def __init__(
        self,
        *,
        memcacheds: Informer[Live],
        workloads: Mapping[Resource, Informer[Live]],
        secrets: SecretReader,
        applier: Applier,
        events: Recorder,
        clock: Clock,
        metrics: OperatorMetrics,
        options: Options,
    ) -> None:
        self._memcacheds = memcacheds.reader
        self._workloads = {kind: informer.reader for kind, informer in workloads.items()}
        self._secrets = secrets
        self._applier = applier
        self._events = events
        self._clock = clock
        self._metrics = metrics
        self._options = options

    def noticed(self, old: Live | None, new: Live | None, cause: Cause) -> None:
        """Handler of the CRs' informer: before what is listed at first, no Secret was read."""
        if new is None or cause is Cause.INITIAL:
            return
        if old is None or (old.uid, old.generation) != (new.uid, new.generation):
            self._secrets.changed(new.key)

    async def reconcile(self, key: Key) -> Done:
        """One pass over one CR. Raises what the API server refused, once the status tells of it, to back off."""
        observed = self._observe(key)
        if observed is None:
            self._metrics.forget(key)
            self._applier.forget(key)
            self._secrets.forget(key)
            return Done()
        with self._metrics.reconciling(key):
            names = [] if observed.instance is None else secret_names(observed.instance)
            secrets = await self._secrets.read(key, names)
            wanted, problems = decide(observed, secrets, self._applier.unserved(key.namespace))
            children: list[Child] = []
            found = None
            try:
                if wanted is not None:
                    first = not observed.told_generation
                    children = await self._applier.children(observed.cr, wanted, first=first)
                elif observed.workload is None:  # nobody puts our labels back now, and the cache needs them
                    found = await self._find(observed)
            except NamespaceTerminating:
                return Done()
            await self._tell(observed, children, problems, found)
            return done(children, self._secrets.due(key))

    async def _find(self, observed: Observed) -> Live | None:
        kinds = self._workloads if observed.instance is None else (observed.instance.workload,)
        for kind in kinds:
            if (live := await self._applier.find(kind.kind, observed.cr.key)) is not None:
                return live
        return None

    def _observe(self, key: Key, *, found: Live | None = None, before: Observed | None = None) -> Observed | None:
        return observe(
            key,
            memcacheds=self._memcacheds,
            workloads=self._workloads,
            options=self._options,
            found=found,
            before=before,
        )

    async def _tell(
        self, acted_on: Observed, children: Sequence[Child], problems: Sequence[Problem], found: Live | None
    ) -> None:
        """Status and events of what the caches, our own writes included, show now.

        Where the CR moved on meanwhile its key is queued again already, and that pass tells.
        """
        observed = self._observe(acted_on.cr.key, found=found, before=acted_on)
        if observed is None or (observed.cr.uid, observed.cr.generation) != (acted_on.cr.uid, acted_on.cr.generation):
            return
        problems = [*problems, *(child.problem for child in children if child.problem)]
        unserved = self._applier.unserved(acted_on.cr.key.namespace)
        after = status(observed, problems, unserved=unserved, now=rfc3339(self._clock.now()))
        news = contests(children)
        if observed.told_generation == observed.cr.generation:
            news += repairs(observed.conditions, children)
        if await self._applier.status(observed.cr, after):
            news += turns(observed.conditions, after)
        record(news, self._events, observed.cr, MEMCACHEDS)


def decide(
    observed: Observed, secrets: Mapping[str, Secret], unserved: Mapping[str, str]
) -> tuple[list[Json] | None, list[Problem]]:
    """All the children wanted now, or None where they are to be left as they are, and what keeps memop from more.

    `secrets` are those that the pods read; `unserved` says of kinds that the cluster lacks or forbids why.
    """
    problems = [("InvalidSpec", observed.invalid)] if observed.invalid else []
    if observed.instance is None:
        return None, problems
    if observed.rollout.refusal:
        problems.append(("Rejected", observed.rollout.refusal))
    unread = {name: secret.refusal for name, secret in secrets.items() if secret.version is None}
    # Of one that was not read nothing can be said: the pods are left as they are.
    digest = observed.secret_hash if unread else secret_hash(secrets)
    wanted = builders.children(replace(observed.instance, secret_hash=digest))
    if any(child["kind"] == CERTIFICATES.kind for child in wanted) and CERTIFICATES.kind in unserved:
        why = f"no Certificate is made until the cluster serves them: {unserved[CERTIFICATES.kind]}"
        problems.append(("CertificateUnavailable", why))
    if missing := [name for name, refusal in unread.items() if not refusal]:
        problems.append(("SecretNotFound", _missing(missing, observed.instance)))
    problems += [("Rejected", f"Secret {name}: {refusal}") for name, refusal in unread.items() if refusal]
    if observed.paused:
        return None, problems
    return [child for child in wanted if child["kind"] not in unserved], problems


def _missing(names: Sequence[str], instance: Instance) -> str:
    tls = instance.spec.enabled_tls
    issued = certificate_secret(instance, tls) if tls is not None and tls.issuer_ref is not None else None
    which = ", ".join(
        f"{instance.key.namespace}/{name} ({'cert-manager is to make it' if name == issued else 'yours to make'})"
        for name in names
    )
    return f"no Secret {which}: running pods stay as they are, and new ones wait for it"
