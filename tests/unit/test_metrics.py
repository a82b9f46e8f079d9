"""The series that memop collects itself."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from memop.metrics import OperatorMetrics
from memop.refs import Key


def test_each_cr_has_its_reconciles_counted_and_timed() -> None:
    registry = CollectorRegistry()
    metrics = OperatorMetrics(registry)
    with metrics.reconciling(Key("ns", "cache")):
        pass
    with pytest.raises(ZeroDivisionError), metrics.reconciling(Key("ns", "cache")):
        raise ZeroDivisionError
    told = generate_latest(registry).decode()
    assert 'memcached_operator_reconcile_total{name="cache",namespace="ns",result="success"} 1.0' in told
    assert 'memcached_operator_reconcile_total{name="cache",namespace="ns",result="error"} 1.0' in told
    for bound in ("0.01", "+Inf"):
        series = f'memcached_operator_reconcile_duration_seconds_bucket{{le="{bound}",name="cache",namespace="ns"}}'
        assert f"{series} 2.0" in told
    assert 'memcached_operator_reconcile_duration_seconds_count{name="cache",namespace="ns"} 2.0' in told
    seconds = registry.get_sample_value(
        "memcached_operator_reconcile_duration_seconds_sum", {"name": "cache", "namespace": "ns"}
    )
    assert seconds is not None
    assert 0 < seconds < 0.01


def test_the_series_of_a_cr_that_is_gone_go_with_it() -> None:
    registry = CollectorRegistry()
    metrics = OperatorMetrics(registry)
    with metrics.reconciling(Key("ns", "pool-1")):
        pass
    metrics.forget(Key("ns", "pool-1"))
    metrics.forget(Key("ns", "never-seen"))
    assert "pool-1" not in generate_latest(registry).decode()
