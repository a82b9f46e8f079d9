"""Where the password file comes from."""

from typing import Any

import pytest

from memop.reconcilers.memcached.workload import pod_template
from tests.unit.reconcilers.memcached.instances import instance


def test_the_password_file_is_mounted_for_memcached_alone() -> None:
    sasl = {"enabled": True, "credentialsSecretRef": {"name": "users"}}
    spec = {"security": {"sasl": sasl}, "monitoring": {"enabled": True}}
    pod = pod_template(instance(spec))["spec"]
    items = [{"key": "password-file", "path": "password-file"}]
    secret = {"secretName": "users", "items": items, "defaultMode": 0o644}
    assert pod["volumes"] == [{"name": "sasl-credentials", "secret": secret}]
    memcached, exporter = pod["containers"]
    mount = {"name": "sasl-credentials", "mountPath": "/etc/memcached/sasl", "readOnly": True}
    assert memcached["volumeMounts"] == [mount]
    assert memcached["args"][8:] == ["-Y", "/etc/memcached/sasl/password-file"]
    assert "volumeMounts" not in exporter


@pytest.mark.parametrize("sasl", [{}, {"enabled": False, "credentialsSecretRef": {"name": "users"}}])
def test_there_is_none_unless_it_is_enabled(sasl: dict[str, Any]) -> None:
    assert "volumes" not in pod_template(instance({"security": {"sasl": sasl}}))["spec"]
