"""Whether nutcracker takes these files, and what it does with them, is in tests/dataplane."""

import pytest
import yaml

from memop.reconcilers.cluster import twemproxy
from tests.unit.reconcilers.cluster.proxies import golden, pool, proxy


def config(shards: int = 3, **settings: object) -> str:
    return twemproxy.files(pool(shards, 1), proxy(twemproxy=settings))["nutcracker.yml"]


def test_the_configuration_is_the_golden_one() -> None:
    golden("twemproxy/5x1.yml", config(5))


def test_the_configuration_with_every_field_is_the_golden_one() -> None:
    text = config(2, hash="md5", distribution="modula", serverFailureLimit=3, serverRetryTimeout=500)
    golden("twemproxy/2x1-every-field.yml", text)


def test_servers_are_named_after_their_seat() -> None:
    """The name is the place on the ring: neither the address nor the number of the others may move it."""
    small, large = (yaml.safe_load(config(shards))["memcached"]["servers"] for shards in (3, 12))
    assert large[: len(small)] == small
    host = "cache-r0-{0}.shop.svc.cluster.local."
    assert large == [f"{host.format(shard)}:11211:1 shard-{shard}" for shard in range(12)]


def test_a_dead_server_leaves_the_ring_and_no_request_waits_for_ever() -> None:
    built = yaml.safe_load(config())["memcached"]
    assert built["auto_eject_hosts"] is True
    assert 0 < built["timeout"] <= 1000


def test_a_second_copy_is_an_error_and_not_left_out() -> None:
    with pytest.raises(ValueError, match="one copy"):
        twemproxy.files(pool(3, 2), proxy(twemproxy={}))


def test_the_log_goes_to_stderr() -> None:
    command = twemproxy.container(proxy(twemproxy={}), "image")["command"]
    assert command[command.index("-o") + 1] == "/dev/stderr"
