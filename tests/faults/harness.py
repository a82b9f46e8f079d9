"""What every fault test shares: a scenario played on a stage, and an outcome that no fault may change.

A kind joins by a `Scenario` (tests/faults/scenarios.py): what its user does, step by step, what he sees when it is
done, and which kinds are compared. An undisturbed run of it is the reference of every disturbed one.

Runs share nothing but the cluster, so that many go on at once: see `Pool`.
"""

import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any, Generic, TypeVar

from tests.support.kubectl import Json, Kubectl, eventually
from tests.support.operator import Operator
from tests.support.proxy import FaultProxy, Match, Request

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

CONCURRENT = 8  # runs at once: they mostly wait
QUIET = 1.5  # seconds without a write after each step
SILENCE = 4.0  # seconds without any request at the end
# Of the server's own making, and other in every run; uids and the namespace are replaced by names.
VOLATILE = frozenset({"resourceVersion", "creationTimestamp", "time", "lastTransitionTime", "lastUpdateTime"})
_UNORDERED = frozenset({"conditions", "managedFields"})
_TIME = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_SUM = re.compile(r'(?<=")-- \d+(?=\\n)')  # of a config of proxies, which names pods with their namespace
CONFIG_HASH = "memcached.c5c3.io/config-hash"  # of a cluster's ConfigMap, and told by others of its objects

Snapshot = dict[str, Json]
"""`resource/name` → the object without what is never the same."""


@dataclass(frozen=True)
class Step:
    """`act` does what a user does; `check` asserts what he sees once it is done, in undisturbed runs.

    Disturbed ones must show the very same objects.
    """

    name: str
    act: Callable[[Kubectl], object]
    check: Callable[[Kubectl], object]


@dataclass(frozen=True, eq=False)
class Scenario:
    """The life of a CR; after each step the objects of `kinds` are compared, less the fields named in `mask`.

    Of the kinds in `told_by_others` the status is left out: a controller of the cluster tells it in its own time.
    """

    name: str
    kinds: Mapping[str, str]  # resource, or resource.group -> the path of its API version
    steps: tuple[Step, ...]
    mask: frozenset[str] = VOLATILE
    told_by_others: frozenset[str] = frozenset()
    most_writes: int = 90  # an undisturbed run has half as many; a fight has no end


@dataclass(frozen=True)
class Outcome:
    """What a run came to; `creates` and `deletes` count by object, as the API server answered memop."""

    snapshots: dict[str, Snapshot]
    creates: Counter[str]
    deletes: Counter[str]

    def assert_equals(self, reference: "Outcome") -> None:
        for step, snapshot in reference.snapshots.items():
            assert_same(self.snapshots[step], snapshot, step)
        assert self.creates == reference.creates, f"made: {self.creates}"
        assert self.deletes == reference.deletes, f"deleted: {self.deletes}"


class Stage:
    """A namespace, a proxy and a memop for one run; the run starts memop, once the proxy's rules are set."""

    def __init__(self, kubectl: Kubectl, proxy: FaultProxy, operator: Operator) -> None:
        self.kubectl = kubectl
        self.proxy = proxy
        self.operator = operator
        self.step = ""  # empty until memop is ready
        self.began: dict[str, float] = {}  # step -> time.monotonic() when its user acted

    def during(self, *steps: str, match: Callable[[Request], bool]) -> Callable[[Request], bool]:
        """For rules: what `match` takes, in these steps."""
        return lambda request: self.step in steps and match(request)

    def answers(self, match: Callable[[Request], bool] = Match()) -> list[Request]:  # noqa: B008 - immutable
        """The requests so far that `match` takes, in their order."""
        return [request for request in list(self.proxy.requests) if match(request)]

    def enter(self, step: str) -> None:
        self.step = step
        self.began[step] = time.monotonic()


@contextmanager
def stage(directory: Path, *flags: str) -> Iterator[Stage]:
    """A stage that leaves nothing behind but memop's log, in `directory`."""
    kubectl = Kubectl(f"f-{uuid.uuid4().hex[:8]}")
    kubectl("create", "namespace", kubectl.namespace)
    with ExitStack() as stack:
        stack.callback(kubectl, "delete", "namespace", kubectl.namespace, "--wait=false")
        proxy = stack.enter_context(FaultProxy(directory))
        scope = f"--watch-namespaces={kubectl.namespace}"
        operator = Operator(directory / "memop.log", f"--kubeconfig={proxy.kubeconfig}", scope, *flags)
        stack.callback(operator.__exit__)
        yield Stage(kubectl, proxy, operator)


def run(
    scenario: Scenario, stage: Stage, *, reference: Outcome | None = None, timeout: float = 120, start: bool = True
) -> Outcome:
    """Play `scenario` to its end; each step converges, within `timeout`, to what `reference` shows of it.

    With `start` memop is started first, and is ready before the first step.
    """
    if start:
        stage.operator.start(ready=False)
        eventually(stage.operator.assert_ready, timeout=timeout)
    snapshots: dict[str, Snapshot] = {}
    for step in scenario.steps:
        stage.enter(step.name)
        step.act(stage.kubectl)
        snapshots[step.name] = _converged(scenario, step, stage, reference, timeout)
    eventually(lambda: assert_silent(stage), timeout=timeout)
    assert stage.operator.poll() is None, "memop ended"
    ours = frozenset(map(_resource, scenario.kinds))
    return Outcome(snapshots, _of(ours, stage.proxy.created()), _of(ours, stage.proxy.deleted()))


def snapshot(stage: Stage, scenario: Scenario) -> Snapshot:
    """All objects of the scenario's kinds, comparable across namespaces: uids are replaced by whose they are."""
    namespace = stage.kubectl.namespace
    found = {
        f"{kind}/{obj['metadata']['name']}": obj
        for kind, api in scenario.kinds.items()
        for obj in json.loads(stage.proxy.get(f"{api}/namespaces/{namespace}/{_resource(kind)}"))["items"]
    }
    text = json.dumps(found).replace(namespace, "NAMESPACE")
    text = re.sub(r'(ReplicaSet \\"[a-z0-9-]+)-[a-z0-9]+', r"\1", text)  # a hash over the hash of Secrets
    text = _SUM.sub("-- SUM", _TIME.sub("TIME", text))
    for name, obj in found.items():
        metadata = obj["metadata"]
        text = text.replace(metadata["uid"], f"uid of {name}")
        if config := metadata.get("annotations", {}).get(CONFIG_HASH):  # over the pods' names, with the namespace
            text = text.replace(config, f"hash of {name}")
        if (address := obj.get("spec", {}).get("clusterIP", "None")) != "None":
            text = text.replace(f'"{address}"', f'"address of {name}"')
    return {
        name: _masked(_untold(obj) if name.partition("/")[0] in scenario.told_by_others else obj, scenario.mask)
        for name, obj in json.loads(text).items()
    }


def assert_same(found: Snapshot, wanted: Snapshot, step: str) -> None:
    """Fails with what differs, line by line."""
    if found != wanted:
        before, after = (json.dumps(state, indent=1, sort_keys=True).splitlines() for state in (wanted, found))
        difference = unified_diff(before, after, "undisturbed", "found", lineterm="")
        raise AssertionError("\n".join([f"after {step!r}:", *difference]))


def assert_silent(stage: Stage) -> None:
    """memop asks nothing at all: neither writes nor lists, nor starts watches over and over."""
    requests = stage.answers(lambda request: request.resource != "leases")
    since = time.monotonic() - requests[-1].at
    assert since > SILENCE, f"a request {since:.1f} s ago, still: {', '.join(map(str, requests[-5:]))}"


def _converged(scenario: Scenario, step: Step, stage: Stage, reference: Outcome | None, timeout: float) -> Snapshot:
    """The state in which memop rests: the reference's, and without one the first that does not change any more."""
    wanted = reference.snapshots[step.name] if reference is not None else None

    def check() -> Snapshot:
        nonlocal wanted
        quiet = min(stage.proxy.quiet_for(), time.monotonic() - stage.began[step.name])
        assert quiet > QUIET, f"step {step.name!r}: a write {quiet:.1f} s ago, still"
        found = snapshot(stage, scenario)
        if reference is None:
            step.check(stage.kubectl)
            before, wanted = wanted, found
            assert found == before, "the reference has not settled"
        elif wanted is not None:
            assert_same(found, wanted, step.name)
        return found

    return eventually(check, timeout=timeout, interval=0.5)


def _resource(kind: str) -> str:
    return kind.partition(".")[0]


def _untold(obj: Json) -> Json:
    """Without the status, and who wrote it."""
    metadata = obj["metadata"]
    managers = [entry for entry in metadata["managedFields"] if entry.get("subresource") != "status"]
    kept = {name: value for name, value in obj.items() if name != "status"}
    return {**kept, "metadata": {**metadata, "managedFields": managers}}


def _masked(value: Any, mask: frozenset[str]) -> Any:
    """Without the masked fields; conditions and managers in an order of their own, as the server's depends on time."""
    if isinstance(value, list):
        return [_masked(item, mask) for item in value]
    if isinstance(value, dict):
        masked = {name: _masked(item, mask) for name, item in value.items() if name not in mask}
        return {name: sorted(item, key=_order) if name in _UNORDERED else item for name, item in masked.items()}
    return value


def _order(item: Json) -> str:
    return json.dumps(item, sort_keys=True)


def _of(kinds: frozenset[str], counts: Mapping[str, int]) -> Counter[str]:
    return Counter({name: count for name, count in counts.items() if name.partition("/")[0] in kinds})


class Pool(Generic[K, T]):
    """Runs jobs at once, the first ones first; each test waits for its own. A context manager."""

    def __init__(self, job: Callable[[K], T], keys: Sequence[K], *, concurrent: int = CONCURRENT) -> None:
        self._executor = ThreadPoolExecutor(concurrent, thread_name_prefix="run")
        self._futures: dict[K, Future[T]] = {key: self._executor.submit(job, key) for key in keys}

    def __enter__(self) -> "Pool[K, T]":
        return self

    def __exit__(self, *exc: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def result(self, key: K) -> T:
        return self._futures[key].result()
