"""Spec in, the proxies' ServiceMonitor out."""

from typing import Any

import pytest

from memop.reconcilers.cluster.monitoring import service_monitor
from tests.unit.reconcilers.cluster.instances import PROXY_SELECTOR, instance


def scraped(monitoring: dict[str, Any], **proxy: Any) -> dict[str, Any]:
    return {"memcached": {"monitoring": monitoring}, "proxy": proxy}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        scraped({"enabled": True}),
        scraped({"enabled": False, "serviceMonitor": {}}),
        scraped({"enabled": True, "serviceMonitor": {}}, mcrouter={}),
        scraped({"enabled": True, "serviceMonitor": {}}, twemproxy={}),
    ],
)
def test_there_is_none_where_the_pool_has_none_or_the_proxies_are_not_scraped(spec: dict[str, Any]) -> None:
    assert service_monitor(instance(spec)) is None


@pytest.mark.parametrize(
    ("asked", "labels", "times"),
    [
        ({}, {}, {"interval": "30s", "scrapeTimeout": "10s"}),
        ({"interval": "1m", "scrapeTimeout": "5s"}, {}, {"interval": "1m", "scrapeTimeout": "5s"}),
        ({"interval": "", "scrapeTimeout": ""}, {}, {}),
        (
            {"additionalLabels": {"release": "prometheus", "app.kubernetes.io/name": "other"}},
            {"release": "prometheus"},
            {"interval": "30s", "scrapeTimeout": "10s"},
        ),
    ],
)
def test_it_selects_the_proxies_service(asked: dict[str, Any], labels: dict[str, str], times: dict[str, str]) -> None:
    assert service_monitor(instance(scraped({"enabled": True, "serviceMonitor": asked}, port=5000))) == {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": "cache-proxy", "namespace": "default", "labels": {**labels, **PROXY_SELECTOR}},
        "spec": {
            "selector": {"matchLabels": PROXY_SELECTOR},
            "namespaceSelector": {"matchNames": ["default"]},
            "endpoints": [{"port": "metrics", **times}],
        },
    }
