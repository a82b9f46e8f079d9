"""Each foreign kind becomes what api.md's table says; what is odd is an error, what is lost a note."""

from itertools import product
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memop.api.base import Kind, Model
from memop.api.memcached import MEMCACHED
from memop.api.memcached_cluster import MEMCACHED_CLUSTER
from memop.api.schema import foreign_kinds
from memop.translate import TRANSLATORS, Served, Untranslatable, ianlewis, mcrouter, memshack
from memop.webhooks.cluster import ClusterPolicy, validate
from tests.unit.translate.foreign import CACHE_EXAMPLE, IANLEWIS, MCROUTER, MEMSHACK, Json, foreign, translated

TWEMPROXY = {
    "image": "asia.gcr.io/ian-corp-dev/twemproxy:v0.4.1-0",
    "hash": "fnv1a_64",
    "distribution": "ketama",
    "serverFailureLimit": 1,
    "serverRetryTimeout": 2000,
}
REPLICATED = {"readPolicy": "random", "writePolicy": "all"}


def behind_twemproxy(shards: int = 5, image: str = "memcached:1.4.36-alpine", /, **twemproxy: Any) -> Json:
    return {
        "shards": shards,
        "replicasPerShard": 1,
        "memcached": {"image": image},
        "proxy": {"port": 11211, "twemproxy": {**TWEMPROXY, **twemproxy}},
    }


def behind_mcrouter(
    shards: int, copies: int, image: str = "memcached:1.5-alpine", port: int = 5000, **options: Any
) -> Json:
    return {
        "shards": shards,
        "replicasPerShard": copies,
        "memcached": {"image": image, "podLabels": {"app": "cache-cache"}},
        "proxy": {
            "port": port,
            "mcrouter": {"image": "devan2502/mcrouter:latest", **options},
            "podLabels": {"app": "mcrouter"},
            **(REPLICATED if shards == 1 else {}),
        },
    }


def gateway(shards: int = 3, copies: int = 2, proxies: int = 2, port: int = 5000, **images: str) -> Json:
    return {
        "shards": shards,
        "replicasPerShard": copies,
        "memcached": {"image": images.get("memcached", "memcached:1.6-alpine")},
        "proxy": {
            "replicas": proxies,
            "port": port,
            "mcrouter": {"image": images.get("mcrouter", "mcrouter/mcrouter:latest")},
            "readPolicy": "latest",
            "writePolicy": "all",
        },
    }


ROWS: list[tuple[Json, Json]] = [
    (foreign(IANLEWIS), behind_twemproxy()),
    (foreign(IANLEWIS, {}), behind_twemproxy()),
    (foreign(IANLEWIS, {"replicas": 1}), behind_twemproxy(1)),
    (foreign(IANLEWIS, {"replicas": 64, "memcachedImage": "m:1"}), behind_twemproxy(64, "m:1")),
    (foreign(IANLEWIS, {"replicas": None, "memcachedImage": "", "proxy": {"twemproxy": None}}), behind_twemproxy()),
    (
        foreign(
            IANLEWIS,
            {
                "proxy": {
                    "twemproxy": {
                        "distribution": "modula",
                        "hash": "md5",
                        "image": "t:1",
                        "serverFailureLimit": 3,
                        "serverRetryTimeout": 30000,
                    }
                }
            },
        ),
        behind_twemproxy(
            distribution="modula", hash="md5", image="t:1", serverFailureLimit=3, serverRetryTimeout=30000
        ),
    ),
    (foreign(MCROUTER), behind_mcrouter(1, 2)),
    (foreign(MCROUTER, {"memcached_pool_size": 1}), behind_mcrouter(1, 1)),
    (foreign(MCROUTER, {"pool_setup": "replicated", "memcached_pool_size": 8}), behind_mcrouter(1, 8)),
    (foreign(MCROUTER, {"pool_setup": "sharded"}), behind_mcrouter(2, 1)),
    (foreign(MCROUTER, {"pool_setup": "sharded", "memcached_pool_size": 64}), behind_mcrouter(64, 1)),
    (
        foreign(MCROUTER, {"mcrouter_port": 11211, "memcached_image": "m:1", "memcached_port": 11211}),
        behind_mcrouter(1, 2, "m:1", 11211),
    ),
    (
        foreign(MCROUTER, {"mcrouter_image": "r:1", "debug_fifo_root": "/var/mcrouter/fifos"}),
        behind_mcrouter(1, 2, image="memcached:1.5-alpine")
        | {
            "proxy": {
                **behind_mcrouter(1, 2)["proxy"],
                "mcrouter": {"image": "r:1", "debugFifoRoot": "/var/mcrouter/fifos"},
            }
        },
    ),
    (foreign(MCROUTER, {"debug_fifo_root": "", "mcrouter_image": "", "memcached_image": ""}), behind_mcrouter(1, 2)),
    (foreign(MEMSHACK), gateway()),
    (foreign(MEMSHACK, {"mcrouter_pool_size": 0, "num_shards": 1, "num_replicas": 1}), gateway(1, 1, 0)),
    (foreign(MEMSHACK, {"mcrouter_pool_size": 64, "num_shards": 64, "num_replicas": 8}), gateway(64, 8, 64)),
    (
        foreign(MEMSHACK, {"mcrouter_image": "r:1", "memcached_image": "m:1", "mcrouter_port": 5001}),
        gateway(port=5001, memcached="m:1", mcrouter="r:1"),
    ),
    (foreign(CACHE_EXAMPLE, {"size": 3}), {"replicas": 3}),
    (foreign(CACHE_EXAMPLE, {"size": 0, "containerPort": 11211}), {"replicas": 0}),
    (foreign(CACHE_EXAMPLE, {"size": 64, "image": "m:1"}), {"replicas": 64, "image": "m:1"}),
    (foreign(CACHE_EXAMPLE), {}),
]


@pytest.mark.parametrize(("obj", "spec"), ROWS)
def test_each_field_becomes_its_equivalent_and_nothing_is_noted(obj: Json, spec: Json) -> None:
    assert translated(obj) == (spec, [])


@pytest.mark.parametrize(
    ("which", "name", "kind"),
    [
        (IANLEWIS, "cache", MEMCACHED_CLUSTER),
        (MCROUTER, "cache", MEMCACHED_CLUSTER),
        (MEMSHACK, "cache-memshack", MEMCACHED_CLUSTER),
        (CACHE_EXAMPLE, "cache", MEMCACHED),
    ],
)
def test_the_native_object_is_called_so_that_its_service_is_called_as_users_expect(
    which: tuple[str, str], name: str, kind: Kind
) -> None:
    last_applied = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    obj = foreign(which, namespace="here", labels={"a": "b"}, annotations={"c": "d", **last_applied}, uid="u")
    native = TRANSLATORS[which](obj).native
    assert (native["apiVersion"], native["kind"]) == (kind.api_version, kind.kind)
    assert native["metadata"] == {"name": name, "namespace": "here", "labels": {"a": "b"}, "annotations": {"c": "d"}}
    assert TRANSLATORS[which](foreign(which, annotations=last_applied)).native["metadata"] == {"name": name}


NOTES: list[tuple[Json, list[str]]] = [
    (
        foreign(MCROUTER, {"memcached_port": 11311, "replicas": 3}),
        [
            "spec.replicas: unknown, and so without effect",
            "spec.memcached_port: memcached listens on 11211 instead, where mcrouter alone asks it",
        ],
    ),
    (
        foreign(IANLEWIS, {"cluster": {}, "proxy": {"odd one": 1, "twemproxy": {"memcached_image": "m"}}}),
        [
            "spec.cluster: unknown, and so without effect",
            "spec.proxy[odd one]: unknown, and so without effect",
            "spec.proxy.twemproxy.memcached_image: unknown, and so without effect",
        ],
    ),
    (foreign(IANLEWIS, {"memcached_image": "m"}), ["spec.memcached_image: unknown, and so without effect"]),
    (foreign(MEMSHACK, {"numShards": 1}), ["spec.numShards: unknown, and so without effect"]),
    (
        foreign(CACHE_EXAMPLE, {"size": 3, "foo": "bar", "containerPort": 8443}),
        [
            "spec.foo: unknown, and so without effect",
            "spec.containerPort: memcached listens on 11211 instead: tell its clients",
        ],
    ),
]


@pytest.mark.parametrize(("obj", "notes"), NOTES)
def test_what_has_no_equivalent_is_noted(obj: Json, notes: list[str]) -> None:
    assert translated(obj)[1] == notes


ERRORS: list[tuple[Json, str]] = [
    (foreign(IANLEWIS, {"replicas": 0}), "spec.replicas: 0 is less than 1: raise it"),
    (foreign(IANLEWIS, {"replicas": 100}), "spec.replicas: 100 is more than 64: lower it"),
    (foreign(IANLEWIS, {"replicas": "3"}), "spec.replicas: '3' is not a whole number: give one, without quotes"),
    (foreign(IANLEWIS, {"replicas": True}), "spec.replicas: True is not a whole number: give one, without quotes"),
    (foreign(IANLEWIS, {"replicas": 3.0}), "spec.replicas: 3.0 is not a whole number: give one, without quotes"),
    (foreign(IANLEWIS, {"memcachedImage": 1.4}), "spec.memcachedImage: 1.4 is not a string: give one, in quotes"),
    (foreign(IANLEWIS, {"proxy": "twemproxy"}), "spec.proxy: 'twemproxy' is not a map of fields: give one"),
    (foreign(IANLEWIS, [1]), "spec: [1] is not a map of fields: give one"),
    (
        foreign(IANLEWIS, {"proxy": {"twemproxy": {"distribution": "rendezvous"}}}),
        "spec.proxy.twemproxy.distribution: 'rendezvous' is none of 'ketama', 'modula' or 'random': give one of them",
    ),
    (
        foreign(IANLEWIS, {"proxy": {"twemproxy": {"serverRetryTimeout": 1 << 40, "serverFailureLimit": 0}}}),
        (
            "spec.proxy.twemproxy.serverFailureLimit: 0 is less than 1: raise it; "
            "spec.proxy.twemproxy.serverRetryTimeout: 1099511627776 is more than 2147483647: lower it"
        ),
    ),
    (foreign(MCROUTER, {"memcached_pool_size": 0}), "spec.memcached_pool_size: 0 is less than 1: raise it"),
    (
        foreign(MCROUTER, {"memcached_pool_size": 9}),
        "spec.memcached_pool_size: 9 is more than 8 copies of each key: lower it, or set pool_setup to sharded",
    ),
    (
        foreign(MCROUTER, {"memcached_pool_size": 65, "pool_setup": "sharded"}),
        "spec.memcached_pool_size: 65 is more than 64: lower it",
    ),
    (
        foreign(MCROUTER, {"pool_setup": "mirrored"}),
        "spec.pool_setup: 'mirrored' is none of 'replicated' or 'sharded': give one of them",
    ),
    (
        foreign(MCROUTER, {"debug_fifo_root": "fifos"}),
        "spec.debug_fifo_root: 'fifos' is not an absolute path of plain names such as /var/mcrouter/fifos: give one",
    ),
    (
        foreign(MCROUTER, {"debug_fifo_root": "/a" * 128}),
        f"spec.debug_fifo_root: {('/a' * 128)!r:.64}… has more than 255 characters: shorten it",
    ),
    (foreign(MCROUTER, {"mcrouter_port": 65536}), "spec.mcrouter_port: 65536 is more than 65535: lower it"),
    (foreign(MEMSHACK, {"num_replicas": 9}), "spec.num_replicas: 9 is more than 8: lower it"),
    (
        foreign(MEMSHACK, {"mcrouter_port": 11211}),
        "spec.mcrouter_port: 11211 is memcached's own port: give another, such as 5000",
    ),
    (foreign(CACHE_EXAMPLE, {"size": -1}), "spec.size: -1 is less than 0: raise it"),
    (foreign(MEMSHACK, labels={"a": 1}), "metadata.labels.a: give a string, in quotes"),
    (foreign(MEMSHACK, annotations={"a.b/c": True}), "metadata.annotations[a.b/c]: give a string, in quotes"),
    (foreign(MEMSHACK, labels=["a"]), "metadata.labels: give a map of strings"),
    (foreign(MEMSHACK, namespace=1), "metadata.namespace: give a string"),
]


@pytest.mark.parametrize(("obj", "what"), ERRORS)
def test_what_is_odd_is_an_error_that_names_object_field_and_what_to_do(obj: Json, what: str) -> None:
    obj["metadata"].setdefault("namespace", "here")
    with pytest.raises(Untranslatable) as caught:
        translated(obj)
    assert str(caught.value) == f"{obj['kind']} {obj['metadata']['namespace']}/cache: {what}"


LONGEST = {IANLEWIS: 49, MCROUTER: 49, MEMSHACK: 40, CACHE_EXAMPLE: 63}


@pytest.mark.parametrize("which", LONGEST)
def test_a_name_that_no_native_object_can_have_is_an_error(which: tuple[str, str]) -> None:
    longest = "c" * LONGEST[which]
    assert TRANSLATORS[which](foreign(which, name=longest)).native["metadata"]["name"].startswith(longest)
    for name in (f"{longest}c", "my.cache", "1cache", "cache-", "", 7, None):
        with pytest.raises(Untranslatable, match=rf"metadata\.name: .* at most {LONGEST[which]} characters"):
            TRANSLATORS[which](foreign(which, name=name))
    with pytest.raises(Untranslatable, match="metadata: give a map with a name"):
        TRANSLATORS[which]({**foreign(which), "metadata": None})


def test_values_are_told_on_one_line_and_not_at_length() -> None:
    with pytest.raises(Untranslatable) as caught:
        translated(foreign(MCROUTER, {"pool_setup": "a\n" * 999}))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


# Of every type, and on both sides of every bound.
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 70),
    st.sampled_from((5000, 11211, 65535, 65536, 1 << 31)),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=1),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=1),
)
GOOD: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(1, 8),
    str: st.sampled_from(("", "/var/mcrouter/fifos")),
}


def mostly(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 19).flatmap(lambda odd: good if odd else ODD)


def blocks(model: type[Model]) -> st.SearchStrategy[Json]:
    """Specs of a model: each field or none, of the right type or not, and fields that it does not know."""
    fields: dict[str, st.SearchStrategy[Any]] = {"unknown": ODD}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Model):
            good = blocks(kind)
        else:
            good = GOOD[kind] if kind in GOOD else st.sampled_from(get_args(kind))
        fields[field.alias or name] = mostly(good)
    return st.fixed_dictionaries({}, optional=fields)


KINDS = {(f"{kind.group}/{version}", kind.kind): kind for kind in foreign_kinds() for version in kind.versions}


@settings(deadline=None)
@given(st.one_of([st.tuples(st.just(which), blocks(kind.spec)) for which, kind in KINDS.items()]))
def test_whatever_is_given_becomes_a_valid_object_or_an_error(drawn: tuple[tuple[str, str], Json]) -> None:
    which, spec = drawn
    try:
        translation = TRANSLATORS[which](foreign(which, spec))
    except Untranslatable:
        return  # any other exception is a failure
    MEMCACHED_CLUSTER.spec.model_validate(translation.native["spec"], strict=True)
    assert validate(translation.native, policy=ClusterPolicy()).errors == []
    noted = {".".join(map(str, note.path)) for note in translation.notes}
    assert ("spec.unknown" in noted) == (spec.get("unknown") is not None)


def test_every_foreign_kind_has_a_translator_for_each_version() -> None:
    assert set(KINDS) | {CACHE_EXAMPLE} == set(TRANSLATORS)


def test_no_translator_changes_what_it_is_given() -> None:
    for which, spec in product(TRANSLATORS, ({}, {"unknown": {"a": None}})):
        obj = foreign(which, spec, labels={"a": "b"})
        before = repr(obj)
        TRANSLATORS[which](obj)
        assert repr(obj) == before


@pytest.mark.parametrize(
    ("served", "running", "memshack_fields"),
    [
        (
            Served("cache", 3, ready=True, error="", message="all well"),
            ("Running", True, "Successful", "Awaiting next reconciliation"),
            {"phase": "Running", "message": "all well"},
        ),
        (
            Served("cache", 3, ready=False, error="", message="0 of 3 ready"),
            ("Running", True, "Running", "Running reconciliation"),
            {"phase": "Running", "message": "0 of 3 ready"},
        ),
        (
            Served("cache", 3, ready=True, error="spec is odd", message="all well"),
            ("Running", False, "Failed", "spec is odd"),
            {"phase": "Error", "message": "spec is odd"},
        ),
    ],
)
def test_the_other_operators_status_is_told_as_it_told_it(
    served: Served, running: tuple[str, bool, str, str], memshack_fields: Json
) -> None:
    assert mcrouter.status(served).condition == running
    assert memshack.status(served).fields == memshack_fields
    assert ianlewis.status(served).fields == {"replicas": 3, "serviceName": "cache"}
