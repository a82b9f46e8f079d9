"""Where the API server is and what lets us in: kubeconfig, the pod's service account, proxies; what loading costs."""

import base64
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from memop import client as module
from memop.client import connect, proxy_from_environment
from memop.errors import ConfigurationError, Unauthorized
from memop.refs import SERVICES, Key
from memop.webhooks.certificates import issue
from tests.unit.apiserver import ImpatientClock, client, failure, serving
from tests.unit.apiserver import json as answer

pytestmark = pytest.mark.real_loop

PAIR = issue(["127.0.0.1"], now=datetime.now(UTC), days=1)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("KUBE") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(module, "SERVICE_ACCOUNT", tmp_path / "none")
    monkeypatch.setattr(module, "KUBECONFIG", tmp_path / "home" / "config")


def _kubeconfig(path: Path, user: Any = None, name: str = "one", cluster: dict[str, Any] | None = None) -> str:
    config = {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": f"ns-{name}"}}],
        "clusters": [{"name": name, "cluster": {"server": "https://127.0.0.1:6443"} | (cluster or {})}],
        "users": [{"name": name, "user": user or {}}],
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    return str(path)


async def test_a_kubeconfig_gives_host_namespace_token_and_tls(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text(PAIR.ca)
    (tmp_path / "token").write_text("secret\n")
    path = _kubeconfig(
        tmp_path / "config",
        {"tokenFile": "token"},
        cluster={"certificate-authority": "ca", "tls-server-name": "kube", "proxy-url": "http://proxy:3128"},
    )
    connection = await connect(path)
    assert (connection.host, connection.namespace) == ("https://127.0.0.1:6443", "ns-one")
    assert (connection.tls_server_name, connection.proxy) == ("kube", "http://proxy:3128")
    credentials = await connection.read()
    assert credentials.authorization == "Bearer secret"
    assert credentials.tls is not None
    assert len(credentials.tls.get_ca_certs()) == 1
    assert "secret" not in repr(credentials)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_inline_certificates_and_keys_leave_neither_files_nor_descriptors_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    inline = {name: base64.b64encode(pem.encode()).decode() for name, pem in (("cert", PAIR.cert), ("key", PAIR.key))}
    user = {"client-certificate-data": inline["cert"], "client-key-data": inline["key"]}
    path = _kubeconfig(tmp_path / "config", user, cluster={"certificate-authority-data": inline["cert"]})
    connection = await connect(path)
    opened = _descriptors()
    for _ in range(5):
        assert (await connection.read()).tls is not None
    assert _descriptors() == opened
    assert list(scratch.iterdir()) == []
    with pytest.raises(ConfigurationError):
        await connect(_kubeconfig(tmp_path / "broken", {**user, "client-key-data": "AAAA"}))
    assert list(scratch.iterdir()) == []


async def test_credentials_follow_their_files_and_unchanged_certificates_keep_their_connections(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text(PAIR.ca)
    (tmp_path / "token").write_text("one")
    connection = await connect(
        _kubeconfig(tmp_path / "config", {"tokenFile": "token"}, cluster={"certificate-authority": "ca"})
    )
    before = await connection.read()
    (tmp_path / "token").write_text("two")
    after = await connection.read()
    assert after.authorization == "Bearer two"
    assert after.tls is before.tls
    (tmp_path / "ca").write_text(issue(["new"], now=datetime.now(UTC), days=1).ca)
    assert (await connection.read()).tls is not before.tls


async def test_client_certificates_and_skipped_verification_are_honoured(tmp_path: Path) -> None:
    (tmp_path / "crt").write_text(PAIR.cert)
    (tmp_path / "key").write_text(PAIR.key)
    user = {"client-certificate": "crt", "client-key": "key"}
    connection = await connect(_kubeconfig(tmp_path / "config", user, cluster={"insecure-skip-tls-verify": True}))
    credentials = await connection.read()
    assert credentials.authorization == ""
    assert credentials.tls is not None
    assert credentials.tls.verify_mode.name == "CERT_NONE"
    (tmp_path / "key").write_text("broken")
    with pytest.raises(ConfigurationError, match=r"certificates for https://127.0.0.1:6443 .*key"):
        await connection.read()


async def test_an_exec_plugin_is_run_again_when_its_token_is_refused(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(
        f"""#!{sys.executable}
import json, pathlib
count = pathlib.Path({str(tmp_path / "count")!r})
count.write_text((count.read_text() if count.exists() else "") + "x")
status = {{"token": "t" + str(len(count.read_text()))}}
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}}))
"""
    )
    plugin.chmod(0o755)
    user = {"exec": {"command": str(plugin), "apiVersion": "client.authentication.k8s.io/v1"}}
    clock = ImpatientClock()
    async with serving(failure(401), answer({})) as server:
        connection = await connect(_kubeconfig(tmp_path / "config", user, cluster={"server": server.url}))
        async with client(connection, clock) as api:
            clock.ahead += module.CREDENTIALS_PAUSE
            await api.get(SERVICES, Key("ns", "a"))
            plugin.unlink()
            server.answers = [failure(401)]
            clock.ahead += module.CREDENTIALS_PAUSE
            with pytest.raises(Unauthorized, match="plugin"):
                await api.get(SERVICES, Key("ns", "a"))
    tokens = [seen.headers["Authorization"] for seen in server.seen]
    assert tokens == ["Bearer t2", "Bearer t3", "Bearer t3"]  # connect() itself reads once


async def test_kubeconfigs_are_found_in_kubectls_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = _kubeconfig(module.KUBECONFIG, name="home")
    assert (await connect()).namespace == "ns-home"
    first, second = _kubeconfig(tmp_path / "a", name="a"), _kubeconfig(tmp_path / "b", name="b")
    monkeypatch.setenv("KUBECONFIG", f"{first}{os.pathsep}{second}")
    assert (await connect(context="a")).namespace == "ns-a"
    assert (await connect(context="b")).namespace == "ns-b"
    assert (await connect(home)).namespace == "ns-home"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ""),
        ("[1", ""),
        ("current-context: x\ncontexts: []\nclusters: []\nusers: []\n", "name x"),
    ],
)
async def test_an_unusable_kubeconfig_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "broken"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=f"kubeconfig {path}: .*{says}"):
        await connect(str(path))


async def test_what_is_missing_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="/nowhere: no such file; pass --kubeconfig"):
        await connect("/nowhere")
    with pytest.raises(ConfigurationError, match=r"no kubeconfig, and not in a pod.*--kubeconfig FILE"):
        await connect()
    with pytest.raises(ConfigurationError, match="context 'x'"):
        await connect(context="x")
    with pytest.raises(ConfigurationError, match="only http://"):
        await connect(_kubeconfig(tmp_path / "config", cluster={"proxy-url": "socks5://proxy:1"}))
    with pytest.raises(ConfigurationError, match="is not the URL"):
        await connect(_kubeconfig(tmp_path / "config", cluster={"server": "http://127.0.0.1:port"}))


async def test_in_a_pod_the_service_account_is_read_again_every_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("one\n")
    (account / "ca.crt").write_text(PAIR.ca)
    (account / "namespace").write_text("memop-system")
    monkeypatch.setattr(module, "SERVICE_ACCOUNT", account)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    connection = await connect()
    assert (connection.host, connection.namespace) == ("https://[fd00::1]:443", "memop-system")
    credentials = await connection.read()
    assert (credentials.authorization, credentials.lifetime) == ("Bearer one", 60)
    (account / "token").write_text("two\n")
    assert (await connection.read()).authorization == "Bearer two"


@pytest.mark.parametrize(
    ("host", "no_proxy", "proxied"),
    [
        ("https://10.96.0.1", "", True),
        ("https://10.96.0.1", "10.96.0.0/12", False),
        ("https://10.96.0.1", "10.0.0.0/16, 192.168.0.0/16", True),
        ("https://api.example.com:6443", "example.com", False),
        ("https://api.example.com:6443", ".example.com", False),
        ("https://api.notexample.com", "example.com", True),
        ("https://api.example.com", "*", False),
        ("https://127.0.0.1:6443", "", False),
        ("https://localhost:6443", "", False),
        ("http://api.example.com", "", False),
    ],
)
def test_the_environments_proxy_is_chosen_as_go_chooses_it(
    monkeypatch: pytest.MonkeyPatch, host: str, no_proxy: str, proxied: bool
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_from_environment(host) == ("http://proxy:3128" if proxied else None)


COST = """
import json, sys, time
def rss(): return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 10
import aiohttp, msgspec, prometheus_client, yaml  # what memop has anyway
before, started = rss(), time.process_time()
import memop.client
for name in ("kube_config", "incluster_config"):
    memop.client._kubernetes_asyncio(name)
cost, seconds = rss() - before, time.process_time() - started
left = [name for name in sys.modules if name.startswith("kubernetes_asyncio")]
import kubernetes_asyncio.client.models.v1_pod  # whoever wants the real package gets it
print(json.dumps({"kib": cost, "seconds": seconds, "left": left}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_configuration_never_pays_for_the_generated_client() -> None:
    done = subprocess.run([sys.executable, "-c", COST], capture_output=True, text=True, check=True)
    cost = json.loads(done.stdout)
    assert cost["left"] == []
    assert cost["kib"] < 4096  # measured 2700, urllib.request the most of it; the generated client is 35 MiB
    assert cost["seconds"] < 0.2  # measured 0.016
