"""Many namespaces, in each of which memop lacks one right at most, and what became of their CRs under its care.

Those whose memops would hold up others have one of their own; the others share a few, and with each group goes a
namespace where nothing is lacking, for comparison.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from memop import rights
from memop.reconcilers.objects import PAUSED
from memop.refs import EVENTS, MEMCACHED_CLUSTERS, Resource
from tests.faults.clusters import _let_time_pass
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
AT_ONCE = 6  # kubectls
IN_TIME = 2.0  # seconds more than it takes where nothing is lacking

_everywhere = Kubectl("")  # objects name their namespaces themselves


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
        _allow(grounds)
        kubeconfig = service_account.kubeconfig(directory)
        memops = {group.name: _memop(directory, kubeconfig, group) for group in groups}
        for memop in memops.values():
            stack.callback(memop.__exit__)
            memop.start(ready=False)
        _apply(grounds, lambda life: life.before)
        for memop in memops.values():
            eventually(memop.assert_ready, timeout=90, interval=0.5)
        ready = time.monotonic()
        _apply(grounds, lambda life: [life.cr])
        eventually(lambda: _assert_began(grounds, wholes), timeout=120, interval=2)
        for ground in grounds:
            ground.was = ground.now
        _turn_off(grounds)
        _leave(grounds)
        time.sleep(max(ready + LISTS_RARELY - time.monotonic(), 0))
        _rounds(grounds, wholes)
        with suppress(AssertionError):  # the tests tell of it
            eventually(lambda: _assert_all_kept(grounds, groups), timeout=60, interval=2)
        time.sleep(IN_TIME)
        _look(grounds, EVENTS)
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


def _turn_off(grounds: Sequence[Ground]) -> None:
    _apply(grounds, lambda life: [life.after] if life.course is Course.OFF else [])
    for ground in grounds:
        for life in ground.lives:
            if life.course is Course.OFF and life.cr["kind"] == MEMCACHED_CLUSTERS.kind:
                _let_time_pass(Kubectl(ground.name), f"{life.cr['metadata']['name']}-proxy", "1x1")


def _leave(grounds: Sequence[Ground]) -> None:
    left = [_in(ground, life.cr) for ground in grounds for life in ground.lives if life.course is Course.LEFT]
    _delete(left, "--cascade=orphan")
    _send(*left)


def _rounds(grounds: Sequence[Ground], wholes: Sequence[Ground]) -> None:
    """Delete children and pause CRs, and count what is made good as soon as where nothing is lacking."""
    began = time.monotonic()
    for number in range(1, MOST_ROUNDS + 1):
        _round(grounds, wholes, pause=bool(number % 2))
        if number > (time.monotonic() - began) // SHORTEST_PAUSE + 1:
            return
    raise AssertionError(f"{MOST_ROUNDS} rounds took {time.monotonic() - began:.0f} s: nobody is late in these")


def _round(grounds: Sequence[Ground], wholes: Sequence[Ground], *, pause: bool) -> None:
    was = {ground: ground.now for ground in grounds}

    def good(ground: Ground) -> list[Life]:
        return [life for life in ground.lives if _made_good(ground, life, was[ground], pause=pause)]

    there = [
        _in(ground, ground.now[life.child])
        for ground in grounds
        for life in ground.lives
        if life.course is Course.DELETED and made(ground, life)
    ]
    _delete(there, "--wait=false")
    _pause(grounds, pause=pause)
    with suppress(AssertionError):  # the tests tell of it
        eventually(lambda: _assert_made_good(wholes, good), timeout=SHORTEST_PAUSE, interval=0.2)
    time.sleep(IN_TIME)
    _look(grounds)
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


def _pause(grounds: Sequence[Ground], *, pause: bool) -> None:
    """Have users pause CRs, or let them go on."""
    annotations = {"annotations": {PAUSED: str(pause).lower()}}

    def bodies(life: Life) -> list[Json]:
        cr = {**life.cr, "metadata": {**life.cr["metadata"], **annotations}}
        return [cr] if life.course is Course.PAUSED else []

    _apply(grounds, bodies)


def _clean_up(grounds: Sequence[Ground]) -> None:
    _delete([_namespace(ground.name) for ground in grounds], "--wait=false")


def _namespace(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _in(ground: Ground, obj: Json) -> Json:
    return {**obj, "metadata": {**obj["metadata"], "namespace": ground.name}}


def _apply(grounds: Sequence[Ground], bodies: Callable[[Life], Iterable[Json]]) -> None:
    """Have users apply in every ground what `bodies` says of each life."""
    _send(*(_in(ground, body) for ground in grounds for life in ground.lives for body in bodies(life)))


def _send(*objects: Json) -> None:
    _in_parts(objects, lambda part: _everywhere.apply(*part))


def _delete(objects: Sequence[Json], *flags: str) -> None:
    def delete(part: Sequence[Json]) -> None:
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": part})
        _everywhere("delete", "--ignore-not-found", *flags, "-f", "-", input=body)

    _in_parts(objects, delete)


def _in_parts(objects: Sequence[Json], send: Callable[[Sequence[Json]], None]) -> None:
    """Some at once, as kubectl sends one after the other, each when the one before was answered."""
    parts = [objects[number::AT_ONCE] for number in range(min(AT_ONCE, len(objects)))]
    with ThreadPoolExecutor(AT_ONCE) as executor:
        list(executor.map(send, parts))


# --- What they see ----------------------------------------------------------------------------------------------


def _look(grounds: Sequence[Ground], *kinds: Resource) -> None:
    """Take in all objects as they are; also those of `kinds`."""
    found: dict[str, dict[Ref, Json]] = {}
    asked = ",".join(map(str, (*KINDS, *kinds)))
    for obj in json.loads(_everywhere("get", asked, "-A", "-o", "json").stdout)["items"]:
        found.setdefault(obj["metadata"]["namespace"], {})[ref(obj)] = obj
    for ground in grounds:
        ground.now = found.get(ground.name, {})


def _assert_began(grounds: Sequence[Ground], wholes: Sequence[Ground]) -> None:
    """Where nothing is lacking each CR has its child, or tells of the stranger; and what is to shrink is ready."""
    _look(grounds)
    for ground in wholes:
        for life in ground.lives:
            assert (conflict_told if life.course is Course.TAKEN else made)(ground, life), f"{ground.name}: {life.ref}"
            if life.course is Course.OFF and life.cr["kind"] == MEMCACHED_CLUSTERS.kind:
                assert condition(ground.now[life.ref], "PoolReady")["status"] == "True", f"{ground.name}: {life.ref}"


def _assert_made_good(wholes: Sequence[Ground], good: Callable[[Ground], list[Life]]) -> None:
    _look(wholes)
    for ground in wholes:
        expected = [life for life in ground.lives if life.course in (Course.DELETED, Course.PAUSED)]
        assert good(ground) == expected


def _assert_all_kept(grounds: Sequence[Ground], groups: Sequence[Group]) -> None:
    _look(grounds, EVENTS)
    for group in groups:
        for ground in group.grounds:
            if ground.lacks is not None:
                assert PROMISES[ground.lacks].holds(group.whole), str(ground.lacks)


def _verdict(right: Right, ground: Ground, whole: Ground) -> Verdict:
    promise = PROMISES[right]
    degraded = condition(ground.now.get(promise.life.ref, {}), "Degraded")
    told = f"{degraded['reason']}: {degraded['message']}" if degraded["status"] == "True" else ""
    return Verdict(right, promise, promise.holds(whole), promise.holds(ground), told)
