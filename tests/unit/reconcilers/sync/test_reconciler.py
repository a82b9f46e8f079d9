"""What replica sync asks of the API server, as things happen."""

from collections.abc import AsyncIterator

import pytest

from memop.errors import Forbidden, Rejected, ServerError, Unreachable
from tests.unit.reconcilers.sync.world import Json, Memop, Server
from tests.unit.virtual_time import VirtualClock

FOLLOW: Json = {"kind": "Deployment", "name": "web"}
AUTOSCALING: Json = {"enabled": True, "maxReplicas": 3}


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def memop(server: Server, clock: VirtualClock) -> AsyncIterator[Memop]:
    """Running, with a pool of two that follows nothing."""
    server.pool(replicas=2)
    async with Memop(server, clock).running() as memop:
        yield memop


def sizes(server: Server) -> list[int]:
    """What memop wrote of them."""
    return [body["spec"]["replicas"] for body in server.writes if "spec" in body]


async def test_a_pool_that_follows_nothing_is_never_looked_at(memop: Memop, server: Server) -> None:
    for number in range(100):
        server.pool(f"other-{number}", replicas=number % 5)
        server.workload(f"web-{number}", 3)
    server.change("Memcached", "cache", replicas=7)
    await memop.settled()
    assert (memop.reconciles(), server.writes, memop.events) == (0, [], [])


async def test_a_labelled_deployment_gives_its_size(memop: Memop, server: Server) -> None:
    server.workload("web", 5, "cache")
    await memop.settled()
    [size, told] = server.writes
    assert server.asked == ["apply", "status"]
    assert size["spec"] == {"replicas": 5}
    assert size["metadata"].keys() == {"namespace", "name", "uid", "resourceVersion"}
    assert told["metadata"].keys() == {"namespace", "name", "uid"}
    [condition] = told["status"]["conditions"]
    assert condition["observedGeneration"] == server.get()["metadata"]["generation"] == 2
    assert memop.events == [
        ("Memcached/cache", "Normal", "Resized", "spec.replicas: 5, was 2; Deployment web has 5 replicas")
    ]
    server.workload("web", 3, "cache")
    server.workload("web", 4, "cache")
    await memop.settled()
    assert (server.size(), server.condition()) == (4, ("True", "Synced"))


async def test_what_it_wrote_is_known_before_any_watch_tells(memop: Memop, server: Server) -> None:
    server.lag = 0.5
    server.workload("web", 5, "cache")
    await memop.settled()
    assert server.asked == ["apply", "status"]


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
async def test_replicas_from_gives_the_size_of_its_kind(memop: Memop, server: Server, kind: str) -> None:
    server.workload("web", 6, kind="StatefulSet")
    server.workload("web", 5)
    server.change("Memcached", "cache", replicas=None, replicasFrom={**FOLLOW, "kind": kind})
    await memop.settled()
    wanted = 5 if kind == "Deployment" else 6
    assert (sizes(server), server.condition()) == ([wanted], ("True", "Synced"))
    server.workload("web", 9, kind=kind)
    await memop.settled()
    assert server.size() == 9


async def test_workloads_without_the_label_are_watched_from_when_a_cr_names_their_kind(
    memop: Memop, server: Server
) -> None:
    labelled = ("Deployment", "memcached-operator/associated-memcached-deployment-name")
    assert server.watched == [("Memcached", ""), labelled]
    for name in ("a", "b"):
        server.pool(name, replicasFrom={**FOLLOW, "kind": "StatefulSet"})
    await memop.settled()
    assert server.watched == [("Memcached", ""), labelled, ("StatefulSet", "")]


async def test_a_size_given_by_hand_is_put_back(memop: Memop, server: Server) -> None:
    server.workload("web", 5, "cache")
    await memop.settled()
    server.change("Memcached", "cache", replicas=1)
    await memop.settled()
    assert (sizes(server), server.size()) == ([5, 5], 5)
    assert memop.events[-1][3] == "spec.replicas: 5, was 1; Deployment web has 5 replicas"


async def test_a_size_taken_out_is_put_back(memop: Memop, server: Server) -> None:
    server.workload("web", 5)
    server.change("Memcached", "cache", replicas=None, replicasFrom=FOLLOW)
    await memop.settled()
    server.change("Memcached", "cache", replicas=None)
    await memop.settled()
    assert sizes(server) == [5, 5]


async def test_what_follows_costs_nothing_once_it_is_so(memop: Memop, server: Server, clock: VirtualClock) -> None:
    server.workload("web", 5, "cache")
    await memop.settled()
    server.writes.clear()
    looked = memop.reconciles()
    server.put("Deployment", "web", {"replicas": 5}, annotations={"a": "b"})
    server.put("Memcached", "cache", {"replicas": 5}, labels={"a": "b"})
    await memop.settled()
    assert (server.writes, memop.reconciles()) == ([], looked)
    async with Memop(server, clock).running() as restarted:
        assert (server.writes, restarted.reconciles(), restarted.events) == ([], 1, [])


async def test_the_condition_is_of_the_newest_spec(memop: Memop, server: Server) -> None:
    server.workload("web", 5, "cache")
    await memop.settled()
    server.writes.clear()
    server.change("Memcached", "cache", image="memcached:1.6.38")
    await memop.settled()
    [told] = server.writes
    assert told["status"]["conditions"][0]["observedGeneration"] == 3


@pytest.mark.parametrize("status", [{}, {"conditions": []}])
async def test_a_condition_that_somebody_removed_is_told_again(memop: Memop, server: Server, status: Json) -> None:
    server.workload("web", 5, "cache")
    await memop.settled()
    cr = server.get()
    server._store({**cr, "status": status})
    await memop.settled()
    assert server.condition() == ("True", "Synced")


# --- Conflicts


async def test_of_a_conflict_nothing_is_written_but_the_condition_once(
    memop: Memop, server: Server, clock: VirtualClock
) -> None:
    server.workload("web", 5, "cache")
    await memop.settled()
    server.writes.clear()
    memop.events.clear()
    server.workload("api", 3, "cache")
    await memop.settled()
    [told] = server.writes
    assert told["status"]["conditions"][0]["reason"] == "ConflictingSources"
    assert [event[:3] for event in memop.events] == [
        (about, "Warning", "ConflictingSources") for about in ("Memcached/cache", "Deployment/api", "Deployment/web")
    ]
    server.writes.clear()
    memop.events.clear()
    for size in range(10):
        server.workload("web", size, "cache")
        server.workload("api", size + 1, "cache")
        await memop.settled()
    async with Memop(server, clock).running() as restarted:
        assert (server.writes, memop.events, restarted.events) == ([], [], [])


async def test_a_size_given_by_hand_stays_while_there_is_a_conflict(memop: Memop, server: Server) -> None:
    server.workload("web", 5, "cache")
    server.workload("api", 3, "cache")
    await memop.settled()
    server.change("Memcached", "cache", replicas=7)
    await memop.settled()
    assert (sizes(server), server.size()) == ([], 7)


async def test_a_third_party_to_a_conflict_is_told_of(memop: Memop, server: Server) -> None:
    for name in ("a", "b"):
        server.workload(name, 5, "cache")
    await memop.settled()
    memop.events.clear()
    server.workload("c", 3, "cache")
    await memop.settled()
    assert [about for about, *_ in memop.events] == ["Memcached/cache", *(f"Deployment/{name}" for name in "abc")]


@pytest.mark.parametrize("way", ["relabelled", "unlabelled", "deleted", "being deleted"])
async def test_a_conflict_ends_when_one_is_left(memop: Memop, server: Server, way: str) -> None:
    server.workload("web", 5, "cache")
    server.workload("api", 3, "cache")
    await memop.settled()
    if way == "deleted":
        server.drop("Deployment", "web")
    elif way == "being deleted":
        server.workload("web", 5, "cache", deletionTimestamp="2026-01-01T00:00:00Z")
    else:
        server.workload("web", 5, "other" if way == "relabelled" else "")
    await memop.settled()
    assert (sizes(server), server.condition()) == ([3], ("True", "Synced"))


# --- Sources come and go


async def test_without_its_source_the_size_stays_and_the_status_says_so(
    memop: Memop, server: Server, clock: VirtualClock
) -> None:
    server.workload("web", 5, "cache")
    await memop.settled()
    server.drop("Deployment", "web")
    await memop.settled()
    assert (server.size(), server.condition()) == (5, ("False", "SourceNotFound"))
    assert memop.events[-1][:3] == ("Memcached/cache", "Warning", "SourceNotFound")
    server.writes.clear()
    async with Memop(server, clock).running():
        assert server.writes == []
    server.workload("web", 3, "cache")
    await memop.settled()
    assert (server.size(), server.condition()) == (3, ("True", "Synced"))


async def test_a_source_that_is_going_when_it_comes_is_none(memop: Memop, server: Server) -> None:
    server.workload("web", 5, "cache", deletionTimestamp="2026-01-01T00:00:00Z")
    await memop.settled()
    assert memop.reconciles() == 1
    assert server.asked == []


async def test_a_source_that_went_while_memop_was_away_is_missed(server: Server, clock: VirtualClock) -> None:
    server.pool(replicas=2)
    server.workload("web", 5, "cache")
    async with Memop(server, clock).running():
        pass
    server.drop("Deployment", "web")
    async with Memop(server, clock).running():
        assert (server.size(), server.condition()) == (5, ("False", "SourceNotFound"))


async def test_after_its_label_is_gone_a_size_by_hand_ends_the_story(
    memop: Memop, server: Server, clock: VirtualClock
) -> None:
    server.workload("web", 5, "cache")
    await memop.settled()
    server.workload("web", 5)
    await memop.settled()
    server.change("Memcached", "cache", replicas=7)
    await memop.settled()
    assert (server.size(), server.condition()) == (7, None)
    server.writes.clear()
    async with Memop(server, clock).running():
        assert server.writes == []


async def test_a_label_that_moves_takes_the_size_along(memop: Memop, server: Server) -> None:
    server.pool("other", replicas=1)
    server.workload("web", 5, "cache")
    await memop.settled()
    server.workload("web", 5, "other")
    server.workload("api", 3, "cache")
    await memop.settled()
    assert (server.size(), server.size("other")) == (3, 5)
    assert server.condition() == server.condition("other") == ("True", "Synced")


async def test_what_replicas_from_names_may_come_later(memop: Memop, server: Server) -> None:
    server.change("Memcached", "cache", replicas=None, replicasFrom=FOLLOW)
    await memop.settled()
    assert (sizes(server), server.condition()) == ([], ("False", "SourceNotFound"))
    server.workload("web", 5)
    await memop.settled()
    assert (server.size(), server.condition()) == (5, ("True", "Synced"))
    server.drop("Deployment", "web")
    await memop.settled()
    assert (server.size(), server.condition()) == (5, ("False", "SourceNotFound"))


async def test_replicas_from_that_is_taken_out_leaves_the_size_and_says_no_more(memop: Memop, server: Server) -> None:
    server.workload("web", 5)
    server.change("Memcached", "cache", replicas=None, replicasFrom=FOLLOW)
    await memop.settled()
    server.change("Memcached", "cache", replicasFrom=None)
    await memop.settled()
    assert (server.size(), server.condition()) == (5, None)


async def test_a_pool_made_after_its_source_follows_it(memop: Memop, server: Server) -> None:
    server.workload("web", 5, "late")
    await memop.settled()
    server.pool("late", replicas=1)
    await memop.settled()
    assert server.size("late") == 5


async def test_autoscaling_is_left_alone_and_size_follows_when_it_ends(memop: Memop, server: Server) -> None:
    server.workload("web", 5, "cache")
    await memop.settled()
    server.change("Memcached", "cache", replicas=None, autoscaling=AUTOSCALING)
    await memop.settled()
    assert (server.size(), server.condition()) == (None, ("False", "Autoscaled"))
    server.change("Memcached", "cache", replicas=1, autoscaling=None)
    await memop.settled()
    assert (server.size(), server.condition()) == (5, ("True", "Synced"))


async def test_a_paused_pool_keeps_its_size_until_it_goes_on(memop: Memop, server: Server) -> None:
    server.pool(replicas=2, annotations={"memcached.c5c3.io/paused": "true"})
    server.workload("web", 5, "cache")
    await memop.settled()
    assert (server.size(), server.condition()) == (2, ("False", "Paused"))
    server.pool(replicas=2)
    await memop.settled()
    assert server.size() == 5


# --- Circles


def own(name: str) -> Json:
    return {
        "apiVersion": "memcached.c5c3.io/v1beta1",
        "kind": "Memcached",
        "name": name,
        "uid": "u",
        "controller": True,
    }


@pytest.mark.parametrize("way", ["label", "replicasFrom", "workload"])
async def test_a_circle_changes_nothing_however_it_is_closed(
    memop: Memop, server: Server, clock: VirtualClock, way: str
) -> None:
    """cache follows b, b follows c, and at last c follows cache."""
    names = ["cache", "b", "c"]
    follow = {"replicasFrom": {"kind": "Deployment", "name": "cache"}}
    for number, name in enumerate(names[1:], 3):
        server.pool(name, replicas=number, **(follow if (name, way) == ("c", "workload") else {}))
    server.workload("b", 3, "cache", ownerReferences=[own("b")])
    server.workload("c", 4, "b", ownerReferences=[own("c")])
    if way != "workload":
        server.workload("cache", 2, ownerReferences=[own("cache")])
    await memop.settled()
    assert [server.size(name) for name in names] == [3, 4, 4]
    if way == "replicasFrom":
        server.change("Memcached", "c", **follow)
    else:
        server.workload("cache", 2, "c" if way == "label" else "", ownerReferences=[own("cache")])
    await memop.settled()
    assert [server.size(name) for name in names] == [3, 4, 4]
    assert {name: server.condition(name) for name in names} == dict.fromkeys(names, ("False", "FollowsItself"))
    server.writes.clear()
    async with Memop(server, clock).running():
        assert server.writes == []
    server.workload("b", 3, ownerReferences=[own("b")])  # which cache follows no more
    await memop.settled()
    assert {name: server.condition(name) for name in ("b", "c")} == dict.fromkeys(("b", "c"), ("True", "Synced"))


async def test_a_circle_ends_with_a_pool_that_is_being_deleted(memop: Memop, server: Server) -> None:
    server.pool("b", replicas=3)
    server.workload("b", 3, "cache", ownerReferences=[own("b")])
    server.workload("cache", 2, "b", ownerReferences=[own("cache")])
    await memop.settled()
    assert server.condition() == ("False", "FollowsItself")
    server.put("Memcached", "b", {"replicas": 3}, deletionTimestamp="2026-01-01T00:00:00Z")
    await memop.settled()
    assert (server.size(), server.condition()) == (3, ("True", "Synced"))


async def test_a_pool_that_a_cluster_takes_over_follows_no_more(memop: Memop, server: Server) -> None:
    server.workload("web", 5, "cache")
    await memop.settled()
    cluster = {**own("big"), "apiVersion": "memcached.c5c3.io/v1alpha1", "kind": "MemcachedCluster"}
    server.put("Memcached", "cache", {"replicas": 5}, ownerReferences=[cluster])
    await memop.settled()
    assert server.condition() == ("False", "ClusterDecides")


# --- What cannot be known, and what is refused


async def test_nothing_is_told_before_the_pools_own_controller_has_begun_its_status(
    memop: Memop, server: Server
) -> None:
    server.put("Memcached", "new", {"replicas": 1}, managedFields=[])
    server.workload("web", 5, "new")
    await memop.settled()
    assert (server.size("new"), server.condition("new")) == (5, None)
    claimed = {**server.get("new")["metadata"], "managedFields": server.get()["metadata"]["managedFields"]}
    server._store({**server.get("new"), "metadata": claimed})
    await memop.settled()
    assert server.condition("new") == ("True", "Synced")


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
async def test_a_pool_waits_until_what_it_names_can_be_listed(memop: Memop, server: Server, kind: str) -> None:
    server.refusing["list StatefulSet"] = Unreachable("no route")
    server.refusing["list Deployment"] = Unreachable("no route")
    server.workload("web", 5, kind=kind)
    server.change("Memcached", "cache", replicasFrom={**FOLLOW, "kind": kind})
    await memop.settled()
    assert (server.writes, server.condition()) == ([], None)
    server.refusing.clear()
    await memop.settled()
    assert (server.size(), server.condition()) == (5, ("True", "Synced"))


async def test_what_may_not_be_listed_is_told_and_found_once_it_may(memop: Memop, server: Server) -> None:
    server.refusing["list StatefulSet"] = Forbidden("statefulsets is forbidden", status=403)
    server.workload("web", 5, kind="StatefulSet")
    server.change("Memcached", "cache", replicasFrom={**FOLLOW, "kind": "StatefulSet"})
    await memop.settled()
    assert (server.size(), server.condition()) == (2, ("False", "SourceUnreadable"))
    assert "statefulsets is forbidden" in server.message()
    assert "statefulsets is forbidden" in str(memop.sources.health())
    server.refusing.clear()
    for _ in range(20):
        await memop.settled()
    assert (server.size(), server.condition(), memop.sources.health()) == (5, ("True", "Synced"), None)


async def test_what_may_be_listed_at_last_and_is_not_there_is_told(memop: Memop, server: Server) -> None:
    server.refusing["list StatefulSet"] = Forbidden("statefulsets is forbidden", status=403)
    server.change("Memcached", "cache", replicasFrom={**FOLLOW, "kind": "StatefulSet"})
    await memop.settled()
    server.refusing.clear()
    for _ in range(20):
        await memop.settled()
    assert server.condition() == ("False", "SourceNotFound")


async def test_labels_that_may_not_be_listed_change_nothing_until_they_may(server: Server, clock: VirtualClock) -> None:
    server.pool(replicas=2)
    server.workload("web", 5, "cache")
    async with Memop(server, clock).running():
        pass
    server.workload("web", 5)
    server.refusing["list Deployment"] = Forbidden("deployments is forbidden", status=403)
    async with Memop(server, clock).running() as memop:
        assert server.condition() == ("False", "SourceUnreadable")
        server.refusing.clear()
        for _ in range(20):
            await memop.settled()
        assert server.condition() == ("False", "SourceNotFound")


@pytest.mark.parametrize("broken", ["Deployment", "StatefulSet", "Memcached"])
@pytest.mark.parametrize("labelled", [True, False])
async def test_while_its_watch_is_broken_no_size_is_taken(
    memop: Memop, server: Server, labelled: bool, broken: str
) -> None:
    kind = "Deployment" if labelled else "StatefulSet"
    server.workload("web", 5, "cache" if labelled else "", kind=kind)
    if not labelled:
        server.change("Memcached", "cache", replicas=None, replicasFrom={**FOLLOW, "kind": kind})
    await memop.settled()
    server.writes.clear()
    server.refusing[f"list {broken}"] = ServerError("etcd has no leader", status=500)
    server.hang_up(broken)
    await memop.settled()
    server.change("Memcached", "cache", replicas=1)
    server.workload("web", 6, "cache" if labelled else "", kind=kind)
    await memop.settled()
    assert (server.writes == []) is (broken in (kind, "Memcached"))
    server.refusing.clear()
    for _ in range(20):
        await memop.settled()
    assert (server.size(), server.condition()) == (6, ("True", "Synced"))


async def test_a_user_who_decides_meanwhile_is_not_overruled(memop: Memop, server: Server) -> None:
    server.workload("web", 5, "cache")
    server.change("Memcached", "cache", image="memcached:1.6.38")
    cr = server.get()
    cr["metadata"]["resourceVersion"] = "99999"  # newer than what any watch has told
    await memop.settled()
    assert (sizes(server), server.size()) == ([], 2)


async def test_a_size_that_is_refused_is_told_and_tried_again(memop: Memop, server: Server) -> None:
    server.refusing["apply"] = Rejected("minAvailable must be less than replicas", status=422)
    server.workload("web", 1, "cache")
    await memop.settled()
    assert (server.size(), server.condition()) == (2, ("False", "Rejected"))
    assert "minAvailable must be less than replicas" in server.message()
    assert [reason for _, _, reason, _ in memop.events] == ["Rejected"]
    assert len(server.writes) == 1
    del server.refusing["apply"]
    for _ in range(10):
        await memop.settled()
    assert (server.size(), server.condition()) == (1, ("True", "Synced"))


async def test_a_size_that_admission_changes_is_told_and_not_fought_over(memop: Memop, server: Server) -> None:
    server.admission = 3
    server.workload("web", 5, "cache")
    await memop.settled()
    assert (server.size(), server.condition()) == (3, ("False", "Contested"))
    server.writes.clear()
    looked = memop.reconciles()
    for _ in range(100):
        await memop.settled()
    assert (server.writes, [reason for _, _, reason, _ in memop.events]) == ([], ["Resized", "Contested"])
    assert memop.reconciles() - looked <= 300 / 60 + 1
    server.admission = None
    for _ in range(20):
        await memop.settled()
    assert (server.size(), server.condition()) == (5, ("True", "Synced"))


async def test_a_cr_that_goes_is_not_made_again(memop: Memop, server: Server) -> None:
    server.workload("web", 5, "cache")
    server.objects.pop(("Memcached", "cache"))  # the watch has yet to tell
    await memop.settled()
    assert server.writes == []
    assert ("Memcached", "cache") not in server.objects


async def test_a_cr_that_goes_before_it_can_be_told_is_forgotten(memop: Memop, server: Server) -> None:
    server.workload("web", 2, "cache")
    server.objects.pop(("Memcached", "cache"))
    await memop.settled()
    looked = memop.reconciles()
    await memop.settled()
    assert (server.writes, memop.reconciles()) == ([], looked)


async def test_another_cr_of_the_name_is_another(memop: Memop, server: Server) -> None:
    server.workload("web", 5, "cache")
    await memop.settled()
    server.put("Memcached", "cache", {"replicas": 1}, anew=True)
    await memop.settled()
    assert (server.size(), server.condition()) == (5, ("True", "Synced"))
