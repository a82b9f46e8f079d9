"""How proxies follow the names of their servers. Each case has a network of its own, see `names`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.dataplane.programs import Programs

# After the name is back: the proxy tries once in this time (builtin: a second, twemproxy: its default), and a bit.
FOLLOWS = {"builtin": 1.6, "twemproxy": 2.6}


def seen(case: str, kind: str, programs: Programs, directory: Path) -> Any:
    namespaces = ["unshare", "--map-root-user", "--net", "--mount", "--fork", "--kill-child"]
    program = [sys.executable, "-m", "tests.dataplane.names", case, kind, str(directory)]
    arguments = [json.dumps(programs.memcached), json.dumps(programs.nutcracker)]
    ran = subprocess.run([*namespaces, *program, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("kind", FOLLOWS)
def test_a_replaced_server_is_followed_to_its_new_address(kind: str, programs: Programs, tmp_path: Path) -> None:
    """And a name that does not exist for a while holds up nobody."""
    found = seen("replaced", kind, programs, tmp_path)
    assert found["errors"] > 0
    assert found["last error"] < FOLLOWS[kind]
    assert found["held"] > 20
    assert found["slowest"] < 0.9
    assert set(found["asked"]) == {f"cache-r0-{shard}.shop.svc.cluster.local" for shard in range(3)}


@pytest.mark.parametrize("kind", FOLLOWS)
def test_a_proxy_starts_before_its_servers_have_names(kind: str, programs: Programs, tmp_path: Path) -> None:
    found = seen("late", kind, programs, tmp_path)
    assert "STORED\r\n" in found["before"]
    assert found["after"] == ["STORED\r\n"]
    assert found["held"] > 5
