"""Many namespaces, in each of which memop lacks one right at most, and what became of their CRs under its care.

Those whose memops would hold up others have one of their own; the others share a few, and with each group goes a
namespace where nothing is lacking, for comparison.
"""

import http.client
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from memop import rights
from memop.reconcilers.objects import PAUSED
from memop.refs import EVENTS, MEMCACHED_CLUSTERS, SECRETS, Resource
from tests.faults.clusters import let_time_pass
from tests.faults.rights_table import (
    FURTHER,
    KINDS,
    PROMISES,
    Course,
    Ground,
    Life,
    Objects,
    Promise,
    Ref,
    Right,
    conflict_told,
    each,
    granted,
    made,
    paused,
    ref,
    uid,
)
from tests.support import service_account
from tests.support.kubectl import Json, Kubectl, condition, eventually
from tests.support.operator import Operator

# From then on an informer that may list and not watch lists every 12.8 s at most (informers/watcher.py: five failures
# take up to 24.8 s), and so is late in one round when there are more rounds than lists.
LISTS_RARELY = 26.0
SHORTEST_PAUSE = 12.8
MOST_ROUNDS = 8
AT_ONCE = 6  # requests
IN_TIME = 1.0  # seconds more than it takes where nothing is lacking

_everywhere = Kubectl("")  # objects name their namespaces themselves
_RESOURCES = {(resource.group, resource.kind): resource for resource in (*KINDS, EVENTS, SECRETS)}


class Api:
    """`kubectl proxy`, asked by many threads at once: a kubectl for each request would cost more than all else."""

    def __enter__(self) -> Self:
        self._proxy = subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True)
        assert self._proxy.stdout is not None
        self._address = self._proxy.stdout.readline().rsplit(maxsplit=1)[-1]
        self._threads = ThreadPoolExecutor(AT_ONCE)
        return self

    def __exit__(self, *exc: object) -> None:
        self._threads.shutdown()
        with self._proxy:
            self._proxy.terminate()

    def list(self, kinds: Iterable[Resource]) -> Iterator[Json]:
        """All objects of the kinds, in all namespaces."""
        for resource, answer in self._ask(("GET", resource, resource.path(), None) for resource in kinds):
            for item in answer["items"]:
                yield item | {"apiVersion": resource.api_version, "kind": resource.kind}

    def apply(self, objects: Iterable[Json]) -> None:
        list(self._ask(("PATCH", *_place(obj, "?fieldManager=tests&force=true"), obj) for obj in objects))

    def delete(self, objects: Iterable[Json]) -> None:
        """What is gone already is no trouble."""
        list(self._ask(("DELETE", *_place(obj, "?propagationPolicy=Background"), None) for obj in objects))

    def _ask(self, requests: Iterable[tuple[str, Resource, str, Json | None]]) -> Iterator[tuple[Resource, Json]]:
        return self._threads.map(self._one, requests)

    def _one(self, request: tuple[str, Resource, str, Json | None]) -> tuple[Resource, Json]:
        method, resource, path, body = request
        connection = http.client.HTTPConnection(self._address, timeout=60)
        with closing(connection):
            headers = {"Content-Type": "application/apply-patch+yaml"} if body else {}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            told: Json = json.loads(answer.read())
        gone = method == "DELETE" and answer.status == 404
        assert answer.status < 300 or gone, f"{method} {path}: {told.get('message')}"
        return resource, told


def _place(obj: Json, query: str) -> tuple[Resource, str]:
    resource = _RESOURCES[ref(obj)[:2]]
    return resource, resource.path(obj["metadata"]["namespace"], obj["metadata"]["name"]) + query


@dataclass(frozen=True)
class Group:
    """Grounds that one memop serves; in `whole`, one of them or of another group, nothing is lacking."""

    name: str
    grounds: Sequence[Ground]
    whole: Ground


@dataclass(frozen=True)
class Verdict:
    """What became of the promise that takes a right: with all rights, and without this one; and what was told of it."""

    right: Right
    promise: Promise
    kept_with: bool
    kept_without: bool
    told: str

    def __str__(self) -> str:
        lost = "NOTHING" if self.kept_without else f"not so: {self.promise.words}"
        return f"{self.right!s:62} {lost:80} {self.told[:110]}"


@dataclass(frozen=True)
class Played:
    """How it ended; in `whole` nothing was lacking, and `metrics` are those of the memop that served it alone."""

    verdicts: Mapping[Right, Verdict]
    whole: Ground
    metrics: str


@contextmanager
def play(directory: Path, selected: Sequence[Right]) -> Iterator[Played]:
    """Have CRs lead their lives in a namespace for each of the rights; what is left goes at the end."""
    groups = _groups(selected)
    grounds = [ground for group in groups for ground in group.grounds]
    wholes = [ground for ground in grounds if ground.lacks is None]
    with ExitStack() as stack:
        stack.callback(_clean_up, grounds)
        api = stack.enter_context(Api())
        _allow(grounds)
        kubeconfig = service_account.kubeconfig(directory)
        memops = {group.name: _memop(directory, kubeconfig, group) for group in groups}
        for memop in memops.values():
            stack.callback(memop.__exit__)
            memop.start(ready=False)
        _apply(api, grounds, lambda life: life.before)
        for memop in memops.values():
            eventually(memop.assert_ready, timeout=90, interval=0.5)
        ready = time.monotonic()
        _apply(api, grounds, lambda life: [life.cr])
        eventually(lambda: _assert_began(api, grounds, wholes), timeout=120, interval=2)
        for ground in grounds:
            ground.was = ground.now
        _turn_off(api, grounds)
        _leave(api, grounds)
        time.sleep(max(ready + LISTS_RARELY - time.monotonic(), 0))
        _rounds(api, grounds, wholes)
        with suppress(AssertionError):  # the tests tell of it
            eventually(lambda: _assert_all_kept(api, grounds, groups), timeout=60, interval=2)
        time.sleep(IN_TIME)
        _look(api, grounds, EVENTS)
        verdicts = {
            ground.lacks: _verdict(ground.lacks, ground, group.whole)
            for group in groups
            for ground in group.grounds
            if ground.lacks is not None
        }
        yield Played(verdicts, groups[0].whole, memops[groups[0].name].metrics())


def _groups(selected: Sequence[Right]) -> list[Group]:
    """Namespaces by who serves them; the first group is the one in which every promise is to be kept."""
    prefix, names = f"rights-{uuid.uuid4().hex[:6]}", iter(range(1000))

    def ground(lacks: Right | None, promises: Iterable[Promise]) -> Ground:
        return Ground(f"{prefix}-{next(names)}", lacks, list(dict.fromkeys(promise.life for promise in promises)))

    whole = ground(None, [*PROMISES.values(), *FURTHER])
    groups = [Group("whole", [whole], whole)]
    members: dict[str, list[Right]] = {}
    for right in selected:
        members.setdefault(_served_by(right), []).append(right)
    for name, lacking in members.items():
        grounds = [ground(right, [PROMISES[right]]) for right in lacking]
        compared = ground(None, [PROMISES[right] for right in lacking]) if len(lacking) > 1 else None
        groups.append(Group(name, [*grounds, *([compared] if compared else [])], compared or whole))
    return groups


def _served_by(right: Right) -> str:
    """The name of the memop.

    CRs that may not be watched in one namespace are acted on in none for a minute; what may not be listed in one is
    looked up in all, where the right for that may be the lacking one.
    """
    if right.verb not in ("get", "list", "watch"):
        return "writes"
    owners = {(kind.group, kind.plural) for kind in (*rights.OWN_KINDS, *rights.OTHERS_KINDS)}
    if right.verb == "watch" and (right.group, right.resource) in owners:
        return f"watch-{right.resource}-{right.group}"
    return right.verb


def _memop(directory: Path, kubeconfig: Path, group: Group) -> Operator:
    namespaces = ",".join(ground.name for ground in group.grounds)
    return Operator(directory / f"{group.name}.log", f"--kubeconfig={kubeconfig}", f"--watch-namespaces={namespaces}")


# --- What an administrator and users do -------------------------------------------------------------------------


def _allow(grounds: Sequence[Ground]) -> None:
    """Roles alone, and nothing cluster-wide: checked."""
    home = {"name": rights.NAME, "namespace": rights.NAMESPACE}
    _send(*(_namespace(name) for name in (rights.NAMESPACE, *(ground.name for ground in grounds))))
    bodies: list[Json] = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": home}]
    for ground in grounds:
        allowed = (right for right in each(rights.served()) if right != ground.lacks)
        bodies += granted("Role", rights.NAME, allowed, namespace=ground.name, home=rights.NAMESPACE)
    _send(*bodies)
    asked = _everywhere("auth", "can-i", "list", "memcacheds", "-A", f"--as={service_account.USER}", check=False)
    assert asked.stdout.strip() == "no", "memop has rights in all namespaces"


def _turn_off(api: Api, grounds: Sequence[Ground]) -> None:
    _apply(api, grounds, lambda life: [life.after] if life.course is Course.OFF else [])
    for ground in grounds:
        for life in ground.lives:
            if life.course is Course.OFF and life.cr["kind"] == MEMCACHED_CLUSTERS.kind:
                let_time_pass(Kubectl(ground.name), f"{life.cr['metadata']['name']}-proxy", "1x1")


def _leave(api: Api, grounds: Sequence[Ground]) -> None:
    left = [_in(ground, life.cr) for ground in grounds for life in ground.lives if life.course is Course.LEFT]
    _delete(left, "--cascade=orphan")
    api.apply(left)


def _rounds(api: Api, grounds: Sequence[Ground], wholes: Sequence[Ground]) -> None:
    """Delete children and pause CRs, and count what is made good as soon as where nothing is lacking."""
    began = time.monotonic()
    for number in range(1, MOST_ROUNDS + 1):
        _round(api, grounds, wholes, pause=bool(number % 2))
        if number > (time.monotonic() - began) // SHORTEST_PAUSE + 1:
            return
    raise AssertionError(f"{MOST_ROUNDS} rounds took {time.monotonic() - began:.0f} s: nobody is late in these")


def _round(api: Api, grounds: Sequence[Ground], wholes: Sequence[Ground], *, pause: bool) -> None:
    was = {ground: ground.now for ground in grounds}

    def good(ground: Ground) -> list[Life]:
        return [life for life in ground.lives if _made_good(ground, life, was[ground], pause=pause)]

    there = [
        _in(ground, ground.now[life.child])
        for ground in grounds
        for life in ground.lives
        if life.course is Course.DELETED and made(ground, life)
    ]
    api.delete(there)
    _pause(api, grounds, pause=pause)
    with suppress(AssertionError):  # the tests tell of it
        eventually(lambda: _assert_made_good(api, wholes, good), timeout=SHORTEST_PAUSE, interval=0.2)
    time.sleep(IN_TIME)
    _look(api, grounds)
    for ground in grounds:
        ground.rounds += 1
        ground.in_time.update(good(ground))


def _made_good(ground: Ground, life: Life, was: Objects, *, pause: bool) -> bool:
    """Whether what the latest round did to it has been answered."""
    if life.course is Course.PAUSED:
        return paused(ground, life) == pause
    return (
        life.course is Course.DELETED and made(ground, life) and uid(ground.now[life.child]) != uid(was.get(life.child))
    )


def _pause(api: Api, grounds: Sequence[Ground], *, pause: bool) -> None:
    """Have users pause CRs, or let them go on."""
    annotations = {"annotations": {PAUSED: str(pause).lower()}}

    def bodies(life: Life) -> list[Json]:
        cr = {**life.cr, "metadata": {**life.cr["metadata"], **annotations}}
        return [cr] if life.course is Course.PAUSED else []

    _apply(api, grounds, bodies)


def _clean_up(grounds: Sequence[Ground]) -> None:
    _delete([_namespace(ground.name) for ground in grounds], "--wait=false")


def _namespace(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _in(ground: Ground, obj: Json) -> Json:
    return {**obj, "metadata": {**obj["metadata"], "namespace": ground.name}}


def _apply(api: Api, grounds: Sequence[Ground], bodies: Callable[[Life], Iterable[Json]]) -> None:
    """Have users apply in every ground what `bodies` says of each life."""
    api.apply(_in(ground, body) for ground in grounds for life in ground.lives for body in bodies(life))


def _send(*objects: Json) -> None:
    _everywhere.apply(*objects)


def _delete(objects: Sequence[Json], *flags: str) -> None:
    """As a user, who waits until they are gone unless told otherwise."""
    if objects:
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        _everywhere("delete", "--ignore-not-found", *flags, "-f", "-", input=body)


# --- What they see ----------------------------------------------------------------------------------------------


def _look(api: Api, grounds: Sequence[Ground], *kinds: Resource) -> None:
    """Take in all objects as they are; also those of `kinds`."""
    found: dict[str, dict[Ref, Json]] = {}
    for obj in api.list((*KINDS, *kinds)):
        found.setdefault(obj["metadata"]["namespace"], {})[ref(obj)] = obj
    for ground in grounds:
        ground.now = found.get(ground.name, {})


def _assert_began(api: Api, grounds: Sequence[Ground], wholes: Sequence[Ground]) -> None:
    """Where nothing is lacking each CR has its child, or tells of the stranger; and what is to shrink is ready."""
    _look(api, grounds)
    for ground in wholes:
        for life in ground.lives:
            assert (conflict_told if life.course is Course.TAKEN else made)(ground, life), f"{ground.name}: {life.ref}"
            if life.course is Course.OFF and life.cr["kind"] == MEMCACHED_CLUSTERS.kind:
                assert condition(ground.now[life.ref], "PoolReady")["status"] == "True", f"{ground.name}: {life.ref}"


def _assert_made_good(api: Api, wholes: Sequence[Ground], good: Callable[[Ground], list[Life]]) -> None:
    _look(api, wholes)
    for ground in wholes:
        expected = [life for life in ground.lives if life.course in (Course.DELETED, Course.PAUSED)]
        assert good(ground) == expected


def _assert_all_kept(api: Api, grounds: Sequence[Ground], groups: Sequence[Group]) -> None:
    _look(api, grounds, EVENTS)
    for group in groups:
        for ground in group.grounds:
            if ground.lacks is not None:
                assert PROMISES[ground.lacks].holds(group.whole), str(ground.lacks)


def _verdict(right: Right, ground: Ground, whole: Ground) -> Verdict:
    promise = PROMISES[right]
    degraded = condition(ground.now.get(promise.life.ref, {}), "Degraded")
    told = f"{degraded['reason']}: {degraded['message']}" if degraded["status"] == "True" else ""
    return Verdict(right, promise, promise.holds(whole), promise.holds(ground), told)
