"""What the caches hold in, how far a cluster is out. test_steps.py has whole ways of changing."""

from dataclasses import replace
from typing import Any

import pytest

from memop.informers.store import StoreReader
from memop.reconcilers.cluster.children import KINDS, OPTIONAL_KINDS
from memop.reconcilers.cluster.instance import Instance, Layout, Options
from memop.reconcilers.cluster.observe import Observed, observe
from memop.reconcilers.objects import decoder
from memop.refs import MEMCACHEDS
from tests.unit.reconcilers.cluster.instances import KEY, OPTIONS, OWNER, cluster
from tests.unit.reconcilers.cluster.seen import NOTHING, NOW, Around, see, seen

SPEC: dict[str, Any] = {"shards": 3, "replicasPerShard": 2}
DONE = Around()
STRANGER = {"ownerReferences": [{**OWNER, "uid": "other"}]}


def built(observed: Observed) -> Instance:
    assert observed.instance is not None
    return observed.instance


def sizes(observed: Observed) -> tuple[str, int, int]:
    """What proxies are told of; servers of a copy; copies."""
    return str(built(observed).layout), built(observed).servers, built(observed).copies


def shape(shards: int, copies: int, **proxy: Any) -> dict[str, Any]:
    return {"shards": shards, "replicasPerShard": copies, "proxy": proxy}


@pytest.mark.parametrize(
    ("spec", "around", "expected"),
    [
        # A new cluster is told of all at once.
        (shape(3, 2), NOTHING, ("3x2", 3, 2)),
        (shape(3, 2), DONE, ("3x2", 3, 2)),
        # What grows is made first, and told of when it is ready.
        (shape(5, 2), DONE, ("3x2", 5, 2)),
        (shape(3, 3), DONE, ("3x2", 3, 3)),
        # What shrinks is told first.
        (shape(2, 2), DONE, ("2x2", 3, 2)),
        (shape(3, 1), DONE, ("3x1", 3, 2)),
        (shape(2, 1), DONE, ("2x1", 3, 2)),
        # Both at once: each its own way, and nothing goes meanwhile.
        (shape(5, 1), DONE, ("3x1", 5, 2)),
        (shape(2, 3), DONE, ("2x2", 3, 3)),
    ],
)
def test_what_grows_is_made_before_it_is_told_and_what_shrinks_after(
    spec: dict[str, Any], around: Around, expected: tuple[str, int, int]
) -> None:
    assert sizes(see(spec, around)) == expected


TOLD_2X1 = {"annotations": {"memcached.c5c3.io/layout": "2x1"}}
TOLD_3X1 = {"annotations": {"memcached.c5c3.io/layout": "3x1"}}


@pytest.mark.parametrize(
    ("config", "around", "layout"),
    [
        (TOLD_2X1, DONE, "3x2"),
        (TOLD_2X1, replace(DONE, ready={0: 3, 1: 2}), "3x1"),
        (TOLD_2X1, replace(DONE, ready={0: 2, 1: 3}), "2x2"),
        (TOLD_2X1, replace(DONE, ready={0: 2, 1: 2}), "2x1"),
        (TOLD_3X1, replace(DONE, ready={0: 0, 1: 3}), "3x2"),
        # What a pool told of an older spec is no answer, nor what one says that is going.
        (TOLD_2X1, replace(DONE, pool={"generation": 2}), "2x1"),
        (TOLD_2X1, replace(DONE, pool={"deletionTimestamp": NOW}), "2x1"),
        (TOLD_2X1, replace(DONE, pool=STRANGER), "2x1"),
        (TOLD_2X1, replace(DONE, pool_status={"readyReplicas": "many"}), "2x1"),
    ],
)
def test_new_servers_are_told_of_once_every_one_of_them_is_ready(
    config: dict[str, Any], around: Around, layout: str
) -> None:
    assert sizes(see(SPEC, replace(around, config=config)))[0] == layout


def test_a_cluster_that_lost_its_config_map_is_no_new_one() -> None:
    lost = replace(DONE, config=None)
    told = see(shape(5, 2), lost, status={"shards": 3, "replicasPerShard": 2})
    assert (sizes(told), told.named) == (("3x2", 5, 2), Layout(3, 2))
    assert built(told).since == NOW


EARLIER = "2026-01-01T00:09:00Z"  # a minute before NOW


@pytest.mark.parametrize(
    ("around", "now", "expected"),
    [
        (NOTHING, NOW, (False, None)),
        (DONE, NOW, (True, None)),
        (replace(DONE, config=None), NOW, (False, None)),
        (replace(DONE, config=STRANGER), NOW, (False, None)),
        (replace(DONE, workload=None), NOW, (False, None)),
        (replace(DONE, workload=STRANGER), NOW, (False, None)),
        (replace(DONE, workload={"generation": 2}), NOW, (False, None)),
        (replace(DONE, workload={"annotations": {"memcached.c5c3.io/proxy": "mcrouter"}}), NOW, (False, None)),
        (replace(DONE, rollout={"replicas": 3}), NOW, (False, None)),
        (replace(DONE, rollout={"updatedReplicas": 1}), NOW, (False, None)),
        (replace(DONE, rollout={"readyReplicas": 1}), NOW, (False, None)),
        (replace(DONE, since=EARLIER), EARLIER, (False, 120.0)),
        (replace(DONE, since=EARLIER), NOW, (False, 60.0)),
        (replace(DONE, since=EARLIER), "2026-01-01T00:10:59Z", (False, 1.0)),
        (replace(DONE, since=EARLIER), "2026-01-01T00:11:00Z", (True, None)),
        (replace(DONE, since=EARLIER, rollout={"readyReplicas": 1}), NOW, (False, None)),
    ],
)
def test_proxies_that_reload_have_a_config_some_time_after_it_was_written(
    around: Around, now: str, expected: tuple[bool, float | None]
) -> None:
    observed = see(SPEC, around, now=now)
    assert (observed.settled, observed.reload_due) == expected


TWEMPROXY = shape(3, 1, twemproxy={})
OLD_HASH = {"annotations": {"memcached.c5c3.io/config-hash": "old"}}


def test_proxies_that_do_not_reload_have_a_config_once_they_are_replaced() -> None:
    done = Around(made=TWEMPROXY, since=NOW)
    assert see(TWEMPROXY, done).settled
    assert not see(shape(2, 1, twemproxy={}), done).settled
    assert see(TWEMPROXY, done).reload_due is None
    assert not see(TWEMPROXY, replace(done, config=OLD_HASH)).settled


@pytest.mark.parametrize(
    ("config", "around", "since"),
    [
        ({}, DONE, ""),
        ({}, replace(DONE, since=EARLIER), EARLIER),
        (OLD_HASH, DONE, NOW),
        (OLD_HASH, replace(DONE, since=EARLIER), NOW),
        (None, DONE, NOW),
        (None, NOTHING, ""),
        ({}, replace(DONE, since="yesterday"), NOW),
        ({}, replace(DONE, since="2026-01-01T00:00:00"), NOW),
        ({}, replace(DONE, since="2027-01-01T00:00:00Z"), NOW),
    ],
)
def test_the_time_of_a_config_is_noted_when_it_changes_and_kept_then(
    config: dict[str, Any] | None, around: Around, since: str
) -> None:
    assert built(see(SPEC, replace(around, config=config))).since == since


@pytest.mark.parametrize(
    ("proxy", "options", "image"),
    [
        ({}, Options(), "memcached:1.6.38"),
        ({"builtin": {}}, Options(builtin_image="mirror/memcached:1"), "mirror/memcached:1"),
        ({"builtin": {"image": "mine:1"}}, Options(builtin_image="mirror/memcached:1"), "mine:1"),
        ({"mcrouter": {}}, Options(mcrouter_image="mirror/mcrouter:1"), "mirror/mcrouter:1"),
        ({"mcrouter": {"image": "mine:1"}}, Options(), "mine:1"),
        ({"twemproxy": {}}, OPTIONS, "mirror/twemproxy:0.5.0"),
        ({"twemproxy": {}}, Options(), ""),
        ({"twemproxy": {"image": "mine:1"}}, Options(), "mine:1"),
    ],
)
def test_the_image_is_the_specs_or_the_operators(proxy: dict[str, Any], options: Options, image: str) -> None:
    observed = seen(cluster({"proxy": proxy}), options=options)
    assert built(observed).image == image
    assert ("spec.proxy.twemproxy.image" in observed.invalid) is not bool(image)


def test_what_surrounds_the_spec_reaches_the_builders() -> None:
    options = Options(exporter_image="mirror/exporter:1", default_uid=False, cluster_domain="corp.example")
    annotations = {"memcached.c5c3.io/restart-trigger": "now", "memcached.c5c3.io/paused": "true"}
    observed = seen(cluster({}, annotations=annotations), options=options)
    found = built(observed)
    assert (found.exporter_image, found.default_uid, found.cluster_domain) == (
        "mirror/exporter:1",
        False,
        "corp.example",
    )
    assert (found.restart_trigger, observed.paused) == ("now", True)


def test_a_spec_without_webhooks_is_defaulted_and_judged_as_with_them() -> None:
    observed = see({"memcached": {"memcached": {"extraArgs": ["-p", "1"]}}})
    assert sizes(observed) == ("5x1", 5, 1)
    assert "spec.memcached.memcached.extraArgs" in observed.invalid
    assert built(observed).pool["memcached"].get("extraArgs", []) == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"shards": "many"}, "spec.shards"),
        ({"proxy": {"twemproxy": {"image": "x"}}, "replicasPerShard": 2}, "spec.replicasPerShard"),
    ],
)
def test_a_spec_of_which_nothing_can_be_built_is_said_and_not_guessed(spec: dict[str, Any], field: str) -> None:
    observed = see(spec, DONE)
    assert observed.instance is None
    assert field in observed.invalid


@pytest.mark.parametrize("deleting", [True, False])
def test_a_cr_that_is_gone_or_going_is_not_observed(deleting: bool) -> None:
    live = decoder("memop-cluster")(cluster(deletionTimestamp=NOW))
    clusters = StoreReader({KEY: live} if deleting else {}, {}, lambda _: 0)
    nothing = {kind: StoreReader[Any]({}, {}, lambda _: 0) for kind in (*KINDS, *OPTIONAL_KINDS)}
    assert (
        observe(KEY, clusters=clusters, children=nothing, pool_workloads=nothing[MEMCACHEDS], options=OPTIONS, now=NOW)
        is None
    )


@pytest.mark.parametrize("status", [None, "ready", {"shards": "three"}, {"shards": -1, "replicasPerShard": 1}])
def test_an_odd_status_tells_of_no_layout(status: Any) -> None:
    observed = see(SPEC, status=status)
    assert (observed.named, observed.told_hash) == (None, "")
