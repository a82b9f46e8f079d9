"""Flags, environment, defaults."""

import pytest

from memop.errors import ConfigurationError
from memop.settings import Settings, duration, parse


def test_defaults_are_the_promised_ones() -> None:
    settings = parse([], {})
    assert settings == Settings()
    assert (settings.metrics_bind_address, settings.health_probe_bind_address) == (":8443", ":8081")
    assert (settings.metrics_secure, settings.leader_elect, settings.webhook_port) == (True, False, 9443)
    assert settings.leader_election_id == "d4f3c8a2.c5c3.io"
    assert (settings.leader_election_lease_duration, settings.leader_election_renew_deadline) == (15, 10)
    assert settings.shutdown_timeout == 15


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        (["--leader-elect"], "leader_elect", True),
        (["--leader-elect=false"], "leader_elect", False),
        (["--metrics-secure=false"], "metrics_secure", False),
        (["--watch-namespaces=a, b,"], "watch_namespaces", ("a", "b")),
        (["--watch-namespaces=b,a,b, a"], "watch_namespaces", ("b", "a")),
        ([f"--watch-namespaces=0-a,{'x' * 63}"], "watch_namespaces", ("0-a", "x" * 63)),
        (["--leader-election-lease-duration", "1m30s"], "leader_election_lease_duration", 90),
        (["--kube-api-qps=20"], "kube_api_qps", 20),
        (["--enable-webhooks"], "enable_webhooks", True),
        (["--webhook-cert-path=/certs"], "webhook_cert_path", "/certs"),
        (["--allow-privileged-pods"], "allow_privileged_pods", True),
        (["--memcached-image=mirror/memcached:1"], "memcached_image", "mirror/memcached:1"),
    ],
)
def test_flags_are_read_as_go_operators_take_them(argv: list[str], field: str, value: object) -> None:
    assert getattr(parse(argv, {}), field) == value


def test_a_flag_wins_over_the_environment_and_that_over_the_default() -> None:
    environ = {"MEMOP_LOG_LEVEL": "debug", "MEMOP_WEBHOOK_PORT": "1"}
    settings = parse(["--log-level=error"], environ)
    assert (settings.log_level, settings.webhook_port) == ("error", 1)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--log-level=loud"], "--log-level=loud: wants one of"),
        (["--leader-elect=maybe"], "--leader-elect=maybe: wants true or false"),
        (["--webhook-port=0"], "--webhook-port=0: wants a port, 1 to 65535"),
        (["--leader-election-retry-period=soon"], "--leader-election-retry-period=soon: wants a duration"),
        (["--leader-election-renew-deadline=20s"], "--leader-election-lease-duration must exceed"),
        (["--webhook-port=65536"], "--webhook-port=65536: wants a port, 1 to 65535"),
        (["--webhook-name=a.b"], "--webhook-name=a.b: wants a Service's name"),
        (["--watch-namespaces=a,Prod"], "--watch-namespaces=a,Prod: 'Prod' is no namespace"),
        (["--watch-namespaces=a b"], "--watch-namespaces=a b: 'a b' is no namespace"),
        (["--watch-namespaces=-a"], "--watch-namespaces=-a: '-a' is no namespace"),
        (["--watch-namespaces=a.b"], "--watch-namespaces=a.b: 'a.b' is no namespace"),
        (["--watch-namespaces=*"], "--watch-namespaces=*: '*' is no namespace"),
        ([f"--watch-namespaces={'x' * 64}"], "is no namespace"),
        (["--leader-election-namespace=kube/system"], "--leader-election-namespace=kube/system: 'kube/system' is no"),
        (["--shutdown-timeout=0"], "--shutdown-timeout=0s: wants more than 0"),
        (["--shutdown-timeout=-5"], "--shutdown-timeout=-5s: wants more than 0"),
        (["--shutdown-timeout=inf"], "--shutdown-timeout=inf: wants a duration that ends"),
        (["--leader-election-lease-duration=inf"], "--leader-election-lease-duration=inf: wants a duration that ends"),
        (["--leader-election-retry-period=nan"], "--leader-election-retry-period=nan: wants a duration that ends"),
        ([f"--shutdown-timeout={'9' * 400}h"], "wants a duration that ends"),
        (["--kube-api-qps=0"], "--kube-api-qps=0: wants a number above 0"),
        (["--kube-api-qps=-1.5"], "--kube-api-qps=-1.5: wants a number above 0"),
        (["--kube-api-qps=nan"], "--kube-api-qps=nan: wants a number above 0"),
        (["--kube-api-qps=inf"], "--kube-api-qps=inf: wants a number above 0"),
    ],
)
def test_a_bad_flag_is_named_with_what_it_wants(argv: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(argv, {})
    assert words in str(caught.value)


def test_a_bad_variable_is_named() -> None:
    with pytest.raises(ConfigurationError, match="MEMOP_LOG_LEVEL=loud"):
        parse([], {"MEMOP_LOG_LEVEL": "loud"})


@pytest.mark.parametrize(
    ("text", "seconds"), [("15s", 15), ("500ms", 0.5), ("1m30s", 90), ("2h", 7200), ("1m", 60), ("7", 7), ("1.5s", 1.5)]
)
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert duration(text) == seconds
