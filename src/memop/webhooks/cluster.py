"""Defaults of a `MemcachedCluster`, and what is wrong with one: `defaulting` and `validation` of the second kind.

Both keep to what those say of a `Memcached`. The pool is defaulted and judged as the `Memcached` that each copy will
be, so what that may and may not have holds here below `spec.memcached`. Of its own a cluster has the proxy, and what
the proxy cannot do.

Stored by default are the numbers, the port, the policies, and what decides on which shard a key lies: a cluster keeps
them when a later version of memop has other defaults. Which proxy it is is not stored, or choosing another one would
take the removal of one that nobody gave: none of the three means the built-in one, for good.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import msgspec
from pydantic import ValidationError

from memop.api.memcached import RESERVED_POD_LABELS
from memop.api.memcached_cluster import (
    DEFAULT_COPIES,
    DEFAULT_SHARDS,
    MAX_CLUSTER_NAME_LENGTH,
    MAX_SHARDS,
    RESERVED_PROXY_ANNOTATIONS,
    MemcachedClusterSpec,
    Proxy,
    ProxyKind,
    Twemproxy,
)
from memop.webhooks import defaulting
from memop.webhooks.defaulting import field_default, fill, fill_within
from memop.webhooks.validation import (
    DNS_1035,
    FORBIDDEN,
    MAX_ERRORS,
    MAX_SPEC,
    TOO_LONG,
    Block,
    Effective,
    FieldError,
    Policy,
    Verdict,
    bounded,
    errors_of,
    image_warnings,
    privileges,
    quantities,
    reserved,
    schema_error,
    spec_block,
    unconfined,
    warnings_of,
    without,
)

Json = Any

# Bytes of JSON. A copy's spec has a little more in it than the pool's, and may not be too long for that.
MAX_CLUSTER_SPEC = MAX_SPEC - 4096


@dataclass(frozen=True, slots=True)
class ClusterPolicy(Policy):
    """What more the operator's flags say: the image of twemproxy, of which a plain Policy has none."""

    twemproxy_image: str = ""


# --- Defaults

_NUMBERS = {"shards": DEFAULT_SHARDS, "replicasPerShard": DEFAULT_COPIES}
_PROXY = {
    "replicas": field_default(Proxy, "replicas"),
    "port": field_default(Proxy, "port"),
    "readPolicy": field_default(Proxy, "read_policy"),
    "writePolicy": field_default(Proxy, "write_policy"),
}
_TWEMPROXY = {
    "hash": field_default(Twemproxy, "hash"),
    "distribution": field_default(Twemproxy, "distribution"),
    "serverFailureLimit": field_default(Twemproxy, "server_failure_limit"),
    "serverRetryTimeout": field_default(Twemproxy, "server_retry_timeout"),
}


def default(new: Json, _old: Json = None) -> Json:
    """The object with its defaults. Odd shapes are left as they are."""
    if not isinstance(new, dict) or not isinstance(new.get("spec"), dict | None):
        return new
    full = dict(new)
    fill(full, "spec", _NUMBERS, always=True)
    spec = full["spec"]
    given = {} if spec.get("memcached") is None else spec["memcached"]
    if isinstance(given, dict):
        whole = defaulting.default({"spec": given})["spec"]
        spec["memcached"] = {name: value for name, value in whole.items() if name != "replicas"}
    fill(spec, "proxy", _PROXY, always=True)
    fill_within(spec, "proxy", "twemproxy", _TWEMPROXY)
    return full


# --- The pool


def pool(spec: Mapping[str, Json]) -> Json:
    """The spec of the `Memcached` that is one copy, by a cluster's spec."""
    cluster = Block(spec, "spec")
    shards = cluster.number("shards", DEFAULT_SHARDS)
    given = cluster.block("memcached").node
    service = given.get("service", {})
    return {
        **given,
        "replicas": shards if 1 <= shards <= MAX_SHARDS else DEFAULT_SHARDS,
        "podIdentity": "Stable",
        # The proxy, not readiness, decides which server it asks.
        "service": {**service, "publishNotReadyAddresses": True} if isinstance(service, dict) else service,
    }


def _pool(spec: Block, policy: Policy) -> Iterator[FieldError]:
    for error in errors_of({"spec": pool(spec.node)}, policy):
        field, detail = _below(error.field), error.detail
        if detail.startswith(error.field):
            detail = field + detail.removeprefix(error.field)
        for theirs, ours in _SIZES.items():
            detail = detail.replace(theirs, ours)
        yield replace(error, field=field, detail=detail, drop=("memcached", *error.drop) if error.drop else ())


_SIZES = {"replicas (1 when absent)": f"shards ({DEFAULT_SHARDS} when absent)", "raise replicas": "raise shards"}


def _below(text: str) -> str:
    """What is said of a Memcached's spec, of `spec.memcached`."""
    return f"spec.memcached{text.removeprefix('spec')}"


# --- Errors


def validate(new: Json, old: Json = None, *, policy: Policy) -> Verdict:
    """Judge an object that is made or, with `old`, updated."""
    found = list(_errors(new, policy))
    if old is None:
        errors = [*_name_errors(new), *found]
    else:
        before: dict[tuple[str, str], int] = {}
        for error in _errors(old, policy):
            before[error.identity] = max(error.amount, before.get(error.identity, 0))
        errors = [error for error in found if error.amount > before.get(error.identity, error.amount - 1)]
    if _excess(spec_block(new).node):
        return Verdict(errors, [])
    warnings = _warnings(spec_block(new), None if old is None else spec_block(old), policy, sound=not found)
    return Verdict(bounded(errors), list(islice(warnings, MAX_ERRORS)))


def effective(spec: Json, *, policy: Policy) -> Effective:
    """A stored spec with its defaults and without what must not be built, whoever let it in."""
    if _excess(spec):
        return Effective(None, list(_errors({"spec": spec}, policy)))
    full = default({"spec": spec})
    errors, kept = list(_errors(full, policy)), full["spec"]
    for error in errors:
        if error.drop:
            kept = without(kept, error.drop)
    return Effective(kept, bounded(errors))


def _excess(spec: Json) -> int:
    return max(0, len(msgspec.json.encode(spec)) - MAX_CLUSTER_SPEC)


def _errors(full: Json, policy: Policy) -> Iterator[FieldError]:
    spec = spec_block(full)
    if excess := _excess(Block(full, "").get("spec")):
        yield FieldError("spec", TOO_LONG, f"may not be more than {MAX_CLUSTER_SPEC} bytes", amount=excess)
        return
    yield from _schema(full)
    yield from _pool(spec, policy)
    yield from _proxied(spec)
    yield from _proxy(spec.block("proxy"), policy)


def _schema(full: Json) -> Iterator[FieldError]:
    """What the API server checks, but for the pool's own fields, of which `_pool` tells."""
    spec = Block(full, "").get("spec")
    if isinstance(spec, dict) and isinstance(spec.get("memcached"), dict):
        spec = {**spec, "memcached": {}}
    try:
        MemcachedClusterSpec.model_validate_json(msgspec.json.encode({} if spec is None else spec), strict=True)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            yield schema_error(found["loc"], found["type"], found["input"], found.get("ctx", {}))


def _name_errors(full: Json) -> Iterator[FieldError]:
    metadata = Block(full, "").block("metadata")
    name = metadata.text("name")
    if not name and "generateName" in metadata:
        return
    if not DNS_1035.fullmatch(name) or len(name) > MAX_CLUSTER_NAME_LENGTH:
        yield metadata.invalid(
            "name",
            "Services and pods are named after it, so it must be a DNS-1035 label of at most "
            f"{MAX_CLUSTER_NAME_LENGTH} characters: lower-case letters, digits and '-', a letter first, no '-' last",
        )


def _proxied(spec: Block) -> Iterator[FieldError]:
    """What the proxy cannot do."""
    proxy, security = spec.block("proxy"), spec.block("memcached").block("security")
    if "twemproxy" in proxy and spec.number("replicasPerShard", DEFAULT_COPIES) > 1:
        yield spec.invalid(
            "replicasPerShard",
            "twemproxy knows no copies: set replicasPerShard to 1, or choose proxy.builtin or proxy.mcrouter",
        )
    if security.block("tls").on() and "mcrouter" not in proxy:
        yield security.block("tls").forbidden(
            "enabled",
            "builtin and twemproxy speak plain text to the pool: choose proxy.mcrouter, or set enabled to false",
        )
    if security.block("tls").on() and "mcrouter" in proxy and security.block("tls").get("enableClientCert") is True:
        yield security.block("tls").forbidden("enableClientCert", "mcrouter shows no certificate: set it to false")
    if security.block("sasl").on():
        yield security.block("sasl").forbidden(
            "enabled",
            "no proxy can authenticate to the pool: set enabled to false, and say in security.networkPolicy who "
            "may connect",
        )


def _proxy(proxy: Block, policy: Policy) -> Iterator[FieldError]:
    if sum(name in proxy for name in ("builtin", "twemproxy", "mcrouter")) > 1:
        yield FieldError(
            proxy.at,
            FORBIDDEN,
            "builtin, twemproxy and mcrouter exclude each other: keep one of them, or none for builtin",
        )
    twemproxy, provided = proxy.block("twemproxy"), isinstance(policy, ClusterPolicy) and policy.twemproxy_image
    if "twemproxy" in proxy and twemproxy.get("image") in (None, "") and not provided:
        yield twemproxy.required(
            "image",
            "no image of twemproxy is maintained publicly: name one, or have the operator run with --twemproxy-image",
        )
    yield from quantities(proxy.block("resources"))
    yield from reserved(proxy, "podLabels", RESERVED_POD_LABELS)
    yield from reserved(proxy, "podAnnotations", RESERVED_PROXY_ANNOTATIONS)
    if not policy.allow_privileged_pods:
        for error in privileges(proxy.block("security")):
            yield replace(error, detail=re.sub("^memcached ", "the proxy ", error.detail))
        for error in unconfined(proxy.block("podAnnotations")):
            yield replace(error, drop=("proxy", *error.drop))


# --- Unwise, not wrong


def _warnings(spec: Block, old: Block | None, policy: Policy, *, sound: bool) -> Iterator[str]:
    """`sound` is a spec without an error, with which can be reckoned."""
    for warning in warnings_of(Block(pool(spec.node), "spec"), None, policy, sound=sound):
        yield _below(warning)
    service = spec.block("memcached").block("service")
    if service.get("publishNotReadyAddresses") is False:
        at = service.path("publishNotReadyAddresses")
        yield f"{at}: true in a cluster: its proxy, not readiness, decides whom it asks"
    proxy = spec.block("proxy")
    for name in ("builtin", "twemproxy", "mcrouter"):
        yield from image_warnings(proxy.block(name), "image")
    if _without_proxy(proxy.block("builtin").text("image")):
        yield f"{proxy.path('builtin.image')}: memcached has its proxy from 1.6.38 on, and does not start without it"
    if proxy.get("replicas") == 1:
        yield f"{proxy.path('replicas')}: while the one proxy is replaced, nobody is served; 2 are safe"
    yield from _policy_warnings(spec, proxy)
    ring = proxy.block("twemproxy")
    if (ring.text("hash"), ring.text("distribution") or "ketama") == ("crc32", "ketama"):
        yield f"{ring.path('hash')}: crc32 with ketama puts all keys on one shard: choose another hash"
    if proxy.block("twemproxy").text("distribution") == "random":
        yield f"{proxy.path('twemproxy.distribution')}: random: most reads ask another shard than was written to"
    if old is not None:
        yield from _change_warnings(spec, old)


_VERSION = re.compile(r"(?:^|/)memcached:(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(?![\d.])")


def _without_proxy(image: str) -> bool:
    """Whether it is an official image from before the proxy; a tag like 1.6 is what is newest."""
    found = _VERSION.search(image)
    if found is None:
        return False
    major, minor, patch = found.groups()
    return (int(major), int(minor), 38 if patch is None else int(patch)) < (1, 6, 38)


def _policy_warnings(spec: Block, proxy: Block) -> Iterator[str]:
    if spec.number("replicasPerShard", DEFAULT_COPIES) <= 1:
        return
    if proxy.text("readPolicy") == "random" and _kind(proxy) == "mcrouter":
        yield f"{proxy.path('readPolicy')}: random: mcrouter asks no second copy, so reads of one that is away miss"
    if proxy.text("writePolicy") == "all":
        yield f"{proxy.path('writePolicy')}: all: while one copy of a shard is away, every write to the shard fails"


def _change_warnings(spec: Block, old: Block) -> Iterator[str]:
    """What an update does to keys."""
    now, before = (block.number("shards", DEFAULT_SHARDS) for block in (spec, old))
    if now < before:
        yield f"{spec.path('shards')}: from {before} to {now}: the last shards' keys are lost"
    new_proxy, old_proxy = spec.block("proxy"), old.block("proxy")
    kind, old_kind = _kind(new_proxy), _kind(old_proxy)
    if kind != old_kind:
        yield f"{new_proxy.at}: from {old_kind} to {kind}: {_MOVES}"
    elif kind == "twemproxy":
        twemproxy, other = new_proxy.block(kind), old_proxy.block(kind)
        for name in ("hash", "distribution"):
            to, came = (block.text(name, _TWEMPROXY[name]) for block in (twemproxy, other))
            if to != came:
                yield f"{twemproxy.path(name)}: from {came} to {to}: {_MOVES}"
        if now != before and twemproxy.text("distribution") == "modula":
            yield f"{spec.path('shards')}: with distribution modula, {_MOVES}"


_MOVES = "nearly all keys get another shard, and miss until they are set again"


def _kind(proxy: Block) -> ProxyKind:
    if "twemproxy" in proxy:
        return "twemproxy"
    return "mcrouter" if "mcrouter" in proxy else "builtin"
