"""The composition root: builds every part, starts them in order, stops them in reverse."""

import asyncio
import ctypes
import random
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import structlog
from prometheus_client import CollectorRegistry, disable_created_metrics

from memop import __version__, logs
from memop.certificates import CertificateKeeper, make
from memop.client import Client, connect
from memop.clock import Clock
from memop.controller import Controller, Reconcile
from memop.events import EventRecorder
from memop.informers.handlers import controller_owner, enqueue, own_key
from memop.informers.informer import Informer
from memop.informers.store import Indexes
from memop.leader import LeaderElector
from memop.metrics import (
    ClientMetrics,
    ControllerMetrics,
    InformerMetrics,
    LeaderMetrics,
    OperatorMetrics,
    QueueMetrics,
    WebhookMetrics,
)
from memop.reconcilers.apply import Applier, own_name
from memop.reconcilers.cluster import children as cluster_children
from memop.reconcilers.cluster import instance as cluster_instance
from memop.reconcilers.cluster import labels as cluster_labels
from memop.reconcilers.cluster import reconciler as cluster
from memop.reconcilers.compat import reconciler as compat
from memop.reconcilers.compat.kinds import CHILDREN, FOREIGN_KINDS
from memop.reconcilers.memcached import children as memcached_children
from memop.reconcilers.memcached import instance as memcached_instance
from memop.reconcilers.memcached import reconciler as memcached
from memop.reconcilers.memcached.memory import memory
from memop.reconcilers.memcached.metrics import InstanceCollector
from memop.reconcilers.objects import MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL, Live, decoder
from memop.reconcilers.secrets import SecretReader
from memop.reconcilers.sync.caches import INDEXES, Sources
from memop.reconcilers.sync.reconciler import ReplicaSync
from memop.reconcilers.sync.source import Source
from memop.refs import CONFIG_MAPS, DEPLOYMENTS, MEMCACHED_CLUSTERS, MEMCACHEDS, STATEFUL_SETS, Key, Resource
from memop.server import Health, ReloadingCertificate, Server, TokenGate
from memop.settings import Settings
from memop.webhooks.cluster import ClusterPolicy
from memop.webhooks.review import KINDS, TASKS, Reviewer, Task
from memop.webhooks.review import path as webhook_path
from memop.workqueue import INITIAL, WorkQueue

T = TypeVar("T")

log = structlog.stdlib.get_logger(__name__)


def run(settings: Settings) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Raises: ConfigurationError, LeadershipLost, or whatever ended a part that must not end.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, that client-go's dashboards do not know
    logs.configure(settings.log_level, settings.log_format or ("console" if sys.stderr.isatty() else "json"))
    with _unwrapped():
        asyncio.run(_main(settings))


@contextmanager
def _unwrapped() -> Iterator[None]:
    """The one error that ended a task group, out of its group, so that the command line can tell what happened."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None


async def _main(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock, registry = Clock(), CollectorRegistry()
    connection = await _unless(stop, connect(settings.kubeconfig))  # which may wait for an exec plugin
    if connection is None:
        return
    async with Client(
        connection,
        metrics=ClientMetrics(registry),
        clock=clock,
        user_agent=f"memop/{__version__}",
        qps=settings.kube_api_qps,
    ) as client:
        await App(settings, client, namespace=connection.namespace, clock=clock, registry=registry).run(stop)


class App:
    """Every part, built and not yet running."""

    def __init__(
        self, settings: Settings, client: Client, *, namespace: str, clock: Clock, registry: CollectorRegistry
    ) -> None:
        self._settings = settings
        self._namespace = namespace
        self._clock = clock
        self._client = client
        self._rng = random.Random()  # noqa: S311 - jitter
        self._informer_metrics = InformerMetrics(registry)
        self._queue_metrics, self._controller_metrics = QueueMetrics(registry), ControllerMetrics(registry)
        self._operator_metrics = OperatorMetrics(registry)
        self._identity = f"{socket.gethostname()}_{uuid.uuid4()}"
        self._events = EventRecorder(client, instance=self._identity, clock=clock, log=log)
        self._informers: list[Informer[Any]] = []
        self._background: asyncio.TaskGroup | None = None
        self._begun: list[asyncio.Task[None]] = []
        self._work: list[_Work] = []

        names = f"memcached,{cluster_labels.POOL},{cluster_labels.PROXY}"
        made_by_memop = f"{NAME_LABEL} in ({names}),{MANAGED_BY_LABEL}={MANAGED_BY}"
        optional, managers = memcached_children.OPTIONAL_KINDS, (memcached.FIELD_MANAGER, cluster.FIELD_MANAGER)
        memcacheds = self._informer(MEMCACHEDS, decoder(memcached.FIELD_MANAGER, subresource="status"), indexes=INDEXES)
        children = {
            kind: self._informer(kind, decoder(*managers), made_by_memop, optional=kind in optional)
            for kind in (*memcached_children.KINDS, *optional)
        }
        self._serve_memcacheds(memcacheds, children, registry)
        self._serve_clusters(children)
        self._serve_foreign_kinds()
        self._sources = self._sync_replicas(memcacheds)

        self._leader_metrics = LeaderMetrics(registry)
        self._elector = elector = self._build_elector() if settings.leader_elect else None
        if elector is not None:
            client.fence(lambda: elector.leading)
        self._webhook_certificate = self._build_webhook_certificate() if settings.enable_webhooks else None
        self._keeper = self._build_keeper()
        self._server = self._build_server(registry)

    def _serve_memcacheds(
        self, memcacheds: Informer[Live], children: Mapping[Resource, Informer[Live]], registry: CollectorRegistry
    ) -> None:
        settings, optional = self._settings, memcached_children.OPTIONAL_KINDS
        workloads = {kind: children[kind] for kind in (DEPLOYMENTS, STATEFUL_SETS)}
        options = memcached_instance.Options(
            image=settings.memcached_image,
            exporter_image=settings.exporter_image,
            default_uid=not settings.no_default_uid,
            allow_privileged_pods=settings.allow_privileged_pods,
            cluster_domain=settings.cluster_domain,
        )
        reconciler = memcached.MemcachedReconciler(
            memcacheds=memcacheds,
            workloads=workloads,
            secrets=SecretReader(
                self._client, interval=settings.secret_resync_interval, clock=self._clock, rng=self._rng
            ),
            applier=self._applier(MEMCACHEDS, memcached.FIELD_MANAGER, memcacheds, children, optional=optional),
            events=self._events,
            clock=self._clock,
            metrics=self._operator_metrics,
            options=options,
        )
        registry.register(
            InstanceCollector(
                memcacheds=memcacheds.reader,
                workloads={kind: informer.reader for kind, informer in workloads.items()},
                options=options,
            )
        )
        memcacheds.subscribe(reconciler.noticed)
        self._control_kind("memcached", memcacheds, reconciler.reconcile, children, optional=optional)

    def _serve_clusters(self, children: Mapping[Resource, Informer[Live]]) -> None:
        settings = self._settings
        clusters = self._informer(
            MEMCACHED_CLUSTERS, decoder(cluster.FIELD_MANAGER, subresource="status"), optional=True
        )
        managed = f"{NAME_LABEL}={{}},{MANAGED_BY_LABEL}={MANAGED_BY}"
        own = {
            MEMCACHEDS: self._informer(
                MEMCACHEDS, decoder(cluster.FIELD_MANAGER), managed.format(cluster_labels.POOL), name="pools"
            ),
            CONFIG_MAPS: self._informer(
                CONFIG_MAPS, decoder(cluster.FIELD_MANAGER), managed.format(cluster_labels.PROXY)
            ),
        }
        optional = cluster_children.OPTIONAL_KINDS
        kinds = {kind: own.get(kind) or children[kind] for kind in (*cluster_children.KINDS, *optional)}
        reconciler = cluster.ClusterReconciler(
            clusters=clusters,
            children=kinds,
            pool_workloads=children[STATEFUL_SETS],
            applier=self._applier(
                MEMCACHED_CLUSTERS,
                cluster.FIELD_MANAGER,
                clusters,
                kinds,
                optional=optional,
                names=cluster_children.names,
            ),
            events=self._events,
            clock=self._clock,
            options=cluster_instance.Options(
                builtin_image=settings.builtin_proxy_image,
                twemproxy_image=settings.twemproxy_image,
                mcrouter_image=settings.mcrouter_image,
                exporter_image=settings.exporter_image,
                default_uid=not settings.no_default_uid,
                allow_privileged_pods=settings.allow_privileged_pods,
                cluster_domain=settings.cluster_domain,
            ),
        )
        self._control_kind("memcachedcluster", clusters, reconciler.reconcile, kinds, optional=optional)

    def _serve_foreign_kinds(self) -> None:
        """Each of them is watched from when its definition is installed."""
        clusters = self._informer(
            MEMCACHED_CLUSTERS, decoder(compat.FIELD_MANAGER), CHILDREN, name="compat-clusters", optional=True
        )
        children, optional = {MEMCACHED_CLUSTERS: clusters}, (MEMCACHED_CLUSTERS,)
        for kind in FOREIGN_KINDS:
            foreign = self._informer(kind.resource, decoder(compat.FIELD_MANAGER, subresource="status"), optional=True)
            reconciler = compat.CompatReconciler(
                kind,
                foreign=foreign,
                clusters=clusters,
                applier=self._applier(kind.resource, compat.FIELD_MANAGER, foreign, children, optional=optional),
                events=self._events,
                clock=self._clock,
            )
            self._control_kind(str(kind.resource), foreign, reconciler.reconcile, children, optional=optional)

    def _sync_replicas(self, memcacheds: Informer[Live]) -> Sources:
        informer = partial(
            Informer[Source],
            self._client,
            namespaces=self._settings.watch_namespaces or ("",),
            clock=self._clock,
            metrics=self._informer_metrics,
            rng=self._rng,
        )
        sources = Sources(memcacheds, informer=informer, spawn=self._spawn)
        self._informers.append(sources.deployments)
        reconciler = ReplicaSync(
            self._client, memcacheds=memcacheds, workloads=sources, events=self._events, clock=self._clock
        )
        sources.feed(self._controller("replica-sync", memcacheds, reconciler.reconcile))
        return sources

    def _spawn(self, begun: Coroutine[Any, Any, None]) -> None:
        """Have what is begun while memop runs end with it."""
        if self._background is None:
            raise RuntimeError("memop does not run")
        self._begun.append(self._background.create_task(begun))

    def _applier(
        self,
        resource: Resource,
        manager: str,
        owners: Informer[Live],
        children: Mapping[Resource, Informer[Live]],
        *,
        optional: Collection[Resource] = (),
        names: Callable[[str, str], Iterable[str]] = own_name,
    ) -> Applier:
        return Applier(
            self._client,
            resource=resource,
            manager=manager,
            owners=owners,
            children=children,
            optional=optional,
            names=names,
            clock=self._clock,
            metrics=self._operator_metrics,
        )

    def _control_kind(
        self,
        name: str,
        owners: Informer[Live],
        reconcile: Reconcile,
        children: Mapping[Resource, Informer[Live]],
        *,
        optional: Collection[Resource] = (),
    ) -> None:
        """A controller that looks at an owner when it or its child changes, or when a kind of child is served now."""
        queue = self._controller(name, owners, reconcile)
        owners.subscribe(enqueue(queue, own_key, changed=_matters))
        for kind, informer in children.items():
            informer.subscribe(enqueue(queue, controller_owner(owners.resource.group, owners.resource.kind)))
            if kind in optional:
                informer.when_listed(partial(_enqueue_all, queue, owners))

    def _controller(self, name: str, owners: Informer[Live], reconcile: Reconcile) -> WorkQueue[Key]:
        queue: WorkQueue[Key] = WorkQueue(name, clock=self._clock, metrics=self._queue_metrics)
        controller = Controller(
            name,
            queue,
            reconcile,
            # What cannot be seen now may have been taken back: no wish is acted on while its watch is broken.
            gate=lambda: owners.current,
            workers=self._settings.max_concurrent_reconciles,
            clock=self._clock,
            metrics=self._controller_metrics,
        )
        self._work.append(_Work(queue, controller))
        return queue

    def _informer(
        self,
        resource: Resource,
        decode: Callable[[bytes | msgspec.Raw], Live],
        label_selector: str = "",
        *,
        name: str = "",
        optional: bool = False,
        indexes: Indexes[Live] | None = None,
    ) -> Informer[Live]:
        informer = Informer(
            self._client,
            resource,
            decode,
            label_selector=label_selector,
            namespaces=self._settings.watch_namespaces or ("",),
            clock=self._clock,
            metrics=self._informer_metrics,
            rng=self._rng,
            name=name,
            optional=optional,
            indexes=indexes,
        )
        self._informers.append(informer)
        return informer

    def _build_server(self, registry: CollectorRegistry) -> Server:
        settings = self._settings
        secure = settings.metrics_secure and settings.metrics_bind_address not in ("", "0")
        keeper, webhooks = self._keeper, self._webhook_certificate
        metrics = WebhookMetrics(registry) if webhooks else None
        server = Server(
            registry=registry,
            health=Health(
                live={},
                ready={
                    **{f"informer-{informer.name}": partial(_unready, informer) for informer in self._informers},
                    **({"webhooks": keeper.health} if keeper else {}),
                },
                info={
                    **{f"informer-{informer.name}": informer.health for informer in self._informers},
                    "replicas-from": self._sources.health,
                    "lease": self._standing,
                    **({"webhook-certificate": keeper.trouble} if keeper else {}),
                },
            ),
            health_address=settings.health_probe_bind_address,
            metrics_address=settings.metrics_bind_address,
            metrics_certificate=self._metrics_certificate() if secure else None,
            gate=TokenGate(self._client, self._clock) if secure else None,
            webhook_address=f":{settings.webhook_port}" if webhooks else "0",
            webhook_certificate=webhooks,
            webhook_metrics=metrics,
        )
        if webhooks and metrics:
            metrics.expiry.set_function(lambda: webhooks.expires)
            policy = ClusterPolicy(
                allow_privileged_pods=settings.allow_privileged_pods,
                derived_memory=lambda config, tls: memory(config, tls=tls),
                twemproxy_image=settings.twemproxy_image,
            )
            for kind, task in product(KINDS, TASKS):
                server.add_hook(webhook_path(task, kind), partial(_review, Reviewer(policy), task))
        return server

    def _build_webhook_certificate(self) -> ReloadingCertificate:
        directory = self._settings.webhook_cert_path
        return ReloadingCertificate(*(Path(directory, name) for name in ("tls.crt", "tls.key") if directory))

    def _build_keeper(self) -> CertificateKeeper | None:
        """None where webhooks are served with files, or not at all."""
        certificate, settings = self._webhook_certificate, self._settings
        if certificate is None or settings.webhook_cert_path:
            return None
        return CertificateKeeper(
            self._client,
            name=settings.webhook_name,
            namespace=self._namespace,
            serve=certificate.use,
            clock=self._clock,
        )

    def _metrics_certificate(self) -> ReloadingCertificate:
        directory = self._settings.metrics_cert_path
        if directory:
            return ReloadingCertificate(Path(directory, "tls.crt"), Path(directory, "tls.key"))
        certificate = ReloadingCertificate()
        certificate.use(make(["localhost", socket.gethostname()], self._clock.now(), 3650))
        return certificate

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set: server and warm caches on every replica, controllers where the Lease is held.

        Raises: LeadershipLost; an error of a part that must not end. Both end everything at once.
        """
        log.info("memop starts", version=__version__, namespaces=list(self._settings.watch_namespaces) or "all")
        async with asyncio.TaskGroup() as self._background:
            background = self._background
            tasks = [
                background.create_task(self._server.run(), name="server"),
                background.create_task(self._events.run(), name="events"),
                *(background.create_task(informer.run(), name=informer.name) for informer in self._informers),
                *(background.create_task(keeper.run(), name="certificates") for keeper in [self._keeper] if keeper),
                background.create_task(self._trim(), name="trim"),
            ]
            await self._lead(stop)
            for task in (*tasks, *self._begun):
                task.cancel()
        log.info("memop ends")

    async def _lead(self, stop: asyncio.Event) -> None:
        elector = self._elector
        if elector is None:
            await self._act(stop)
            return
        await _unless(stop, elector.acquire())
        if elector.leading:
            async with asyncio.TaskGroup() as term:
                hold = term.create_task(elector.hold(), name="lease")
                await self._act(stop)
                hold.cancel()
        await elector.release()

    def _standing(self) -> str | None:
        return None if self._elector is None or self._elector.leading else "standing by for the Lease"

    def _build_elector(self) -> LeaderElector:
        settings = self._settings
        return LeaderElector(
            self._client,
            name=settings.leader_election_id,
            namespace=settings.leader_election_namespace or self._namespace,
            identity=self._identity,
            lease_seconds=settings.leader_election_lease_duration,
            renew_seconds=settings.leader_election_renew_deadline,
            retry_seconds=settings.leader_election_retry_period,
            clock=self._clock,
            gauge=self._leader_metrics.status,
            log=log,
        )

    async def _act(self, stop: asyncio.Event) -> None:
        """Reconcile until `stop`, then let what is in flight finish, within the shutdown timeout."""
        async with asyncio.TaskGroup() as acting:
            controllers = [
                acting.create_task(self._control(work.controller), name=work.controller.name) for work in self._work
            ]
            await stop.wait()
            for work in self._work:
                work.queue.shut_down(drop_waiting=True)
            try:
                async with asyncio.timeout(self._settings.shutdown_timeout):
                    for work in self._work:
                        await work.queue.drained()
            except TimeoutError:
                log.warning("reconciles in flight were cut short", seconds=self._settings.shutdown_timeout)
            for controller in controllers:
                controller.cancel()

    async def _control(self, controller: Controller) -> None:
        await self._settled()
        await controller.run()

    async def _settled(self) -> None:
        for informer in self._informers:
            await informer.wait_settled()

    async def _trim(self) -> None:
        """Give back what imports and first lists freed, 2.5 MiB and more, which glibc would keep for good."""
        await self._settled()
        with suppress(AttributeError):  # another libc
            ctypes.CDLL(None).malloc_trim(0)


class _Work(NamedTuple):
    queue: WorkQueue[Key]
    controller: Controller


def _enqueue_all(queue: WorkQueue[Key], informer: Informer[Live]) -> None:
    for obj in informer.reader.values():
        queue.add(obj.key, priority=INITIAL)


async def _review(reviewer: Reviewer, task: Task, body: bytes) -> bytes:
    return reviewer.review(task, body)


async def _unless(stop: asyncio.Event, waited_for: Coroutine[None, None, T]) -> T | None:
    """What `waited_for` returns; None, and it cancelled, when `stop` comes first."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(waited_for)
        stopped = group.create_task(stop.wait())
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        stopped.cancel()
    return None if task.cancelled() else task.result()


def _unready(informer: Informer[Any]) -> str | None:
    """A kind that is missing or forbidden fails no readiness: it would take everything else down too."""
    return None if informer.settled else informer.health() or "not synced yet"


def _matters(old: Live, new: Live) -> bool:
    """Whether an update of a CR is worth a look: its own status writes, mostly, are not.

    Where somebody else changed the status, fields have left what we own of it.
    """
    return (
        old.generation != new.generation
        or old.deleting != new.deleting
        or old.annotations != new.annotations
        or len(new.owned) < len(old.owned)
    )
