"""The status is memop's: what others write there is put back; and the series that come and go with the CRs."""

import json
import threading
import urllib.error

import pytest

from tests.support.kubectl import Json, Kubectl, condition, eventually, memcached
from tests.support.operator import Operator

CRS = 100
SCRAPES = 100
SERIES = "\nmemcached_operator_instance_info{"


def settled(kubectl: Kubectl, generation: int = 1) -> Json:
    """The status once the Deployment is reported: nothing runs pods at this level, so it stays."""

    def check() -> Json:
        status: Json = kubectl.get("memcached", "pool").get("status", {})
        assert status.get("observedGeneration") == generation, status
        assert kubectl.find("deployment", "pool") is not None
        assert condition({"status": status}, "Progressing")["message"] != "no Deployment yet"
        return status

    return eventually(check)


@pytest.mark.parametrize(
    ("path", "nonsense"),
    [
        pytest.param("/status/readyReplicas", 77, id="readyReplicas"),
        pytest.param("/status/observedGeneration", 99, id="observedGeneration"),
        pytest.param("/status/selector", "app=theirs", id="selector"),
        pytest.param("/status/conditions/0/status", "Unknown", id="condition-status"),
        pytest.param("/status/conditions/0/reason", "Nonsense", id="condition-reason"),
        pytest.param("/status/conditions/0/message", "all is well", id="condition-message"),
        pytest.param("/status/conditions", [], id="no-conditions"),
    ],
)
def test_nonsense_in_the_status_is_put_back(kubectl: Kubectl, operator: Operator, path: str, nonsense: object) -> None:
    kubectl.apply(memcached("pool"))
    before = without_times(settled(kubectl))
    patch = json.dumps([{"op": "replace", "path": path, "value": nonsense}])
    done = kubectl("patch", "memcached", "pool", "--subresource=status", "--type=json", "-p", patch, "-o", "json")
    assert without_times(json.loads(done.stdout)["status"]) != before

    def assert_put_back() -> None:
        assert without_times(kubectl.get("memcached", "pool")["status"]) == before

    eventually(assert_put_back, timeout=20)


def without_times(status: Json) -> Json:
    conditions = [{**condition, "lastTransitionTime": ""} for condition in status["conditions"]]
    return {**status, "conditions": conditions}


def test_every_scrape_is_answered_while_crs_come_and_go(kubectl: Kubectl, operator: Operator) -> None:
    names = [f"pool-{number}" for number in range(CRS)]
    done = threading.Event()
    failures: list[str] = []

    def churn() -> None:
        try:
            kubectl.apply(*(memcached(name) for name in names))
            kubectl("delete", "memcached", *names, "--wait=false")
        except AssertionError as error:
            failures.append(str(error))
        finally:
            done.set()

    churning = threading.Thread(target=churn)
    churning.start()
    seen, scrapes = set(), 0
    while scrapes < SCRAPES or not done.is_set():
        try:
            seen.add(operator.metrics().count(SERIES))
        except urllib.error.HTTPError as error:
            failures.append(f"scrape {scrapes}: {error.code} {error.read().decode()[:500]}")
        scrapes += 1
        done.wait(0.1)
    churning.join()
    assert not failures
    assert len(seen) > 2, f"the scrapes saw no coming and going: {sorted(seen)}"

    def assert_gone() -> None:
        assert SERIES not in operator.metrics()

    eventually(assert_gone)
