"""Proxies whose servers have names, in a network and with a name server of their own.

Run as a program inside `unshare --map-root-user --net --mount`; prints what was seen as one JSON object.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from memop.api.memcached_cluster import Proxy
from memop.reconcilers.cluster.topology import Topology
from tests.dataplane.client import Load, get, put
from tests.dataplane.programs import PORT, Programs, Running, Server

_NAME_SERVER = "127.0.0.53"
_RESOLV_CONF = f"""\
nameserver {_NAME_SERVER}
search shop.svc.cluster.local svc.cluster.local cluster.local
options ndots:5
"""
_HOSTS = tuple(f"cache-r0-{shard}.shop.svc.cluster.local" for shard in range(3))
_A, _NO_SUCH_NAME, _AUTHORITATIVE_ANSWER = 1, 3, 0x8580


class NameServer:
    """Answers with `names`, name → address, at once; every other name does not exist."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.asked: set[str] = set()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((_NAME_SERVER, 53))
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            labels, position = [], 12
            while length := query[position]:
                labels.append(query[position + 1 : position + 1 + length].decode())
                position += 1 + length
            name, question = ".".join(labels), query[12 : position + 5]
            [kind] = struct.unpack("!H", query[position + 1 : position + 3])
            self.asked.add(name)
            address = self.names.get(name)
            answer = b""
            if address and kind == _A:
                answer = struct.pack("!HHHIH", 0xC00C, _A, 1, 5, 4) + socket.inet_aton(address)
            flags = _AUTHORITATIVE_ANSWER if address else _AUTHORITATIVE_ANSWER | _NO_SUCH_NAME
            header = query[:2] + struct.pack("!HHHHH", flags, 1, int(bool(answer)), 0, 0)
            self._socket.sendto(header + question + answer, client)


def _start(kind: str, running: Running) -> Server:
    pool = Topology(copies=(_HOSTS,), port=PORT)
    return running.builtin(pool) if kind == "builtin" else running.twemproxy(pool, Proxy.model_validate({kind: {}}))


def replaced(kind: str, running: Running, names: NameServer) -> dict[str, object]:
    """A server is gone, then its name, too, and then it is back at another address."""
    servers = [running.memcached() for _ in _HOSTS]
    names.names = {host: server.address for host, server in zip(_HOSTS, servers, strict=True)}
    proxy = _start(kind, running)
    with Load(proxy.address, PORT, (get, put)) as load:
        time.sleep(0.5)
        servers[0].kill()
        del names.names[_HOSTS[0]]
        time.sleep(2)
        names.names[_HOSTS[0]] = running.memcached().address
        back = time.monotonic()
        time.sleep(4)
    errors = [when for when, _, reply in load.bad if reply != "END"]
    with running.servers[-1].client() as client:
        held = len(client.held(load.keys))
    return {
        "slowest": load.slowest,
        "errors": len(errors),
        "last error": max(errors) - back,
        "held": held,
        "asked": sorted(names.asked),
        "kinds": sorted(load.kinds),
    }


def late(kind: str, running: Running, names: NameServer) -> dict[str, object]:
    """The proxy is there before a server's name is."""
    servers = [running.memcached() for _ in _HOSTS]
    names.names = {host: server.address for host, server in zip(_HOSTS[1:], servers[1:], strict=True)}
    proxy = _start(kind, running)
    keys = [f"{number * 7919}:key" for number in range(60)]
    with proxy.client() as client:
        before = [client.ask(f"set {key} 0 0 1\r\nx\r\n") for key in keys]
    names.names[_HOSTS[0]] = servers[0].address
    time.sleep(3.2)
    with proxy.client() as client:
        after = [client.ask(f"set {key} 0 0 1\r\nx\r\n") for key in keys]
    with servers[0].client() as client:
        held = len(client.held(keys))
    return {"before": sorted(set(before)), "after": sorted(set(after)), "held": held}


def main() -> None:
    case, kind, directory, *programs = sys.argv[1:]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    resolv_conf = Path(directory) / "resolv.conf"
    resolv_conf.write_text(_RESOLV_CONF)
    subprocess.run(["mount", "--bind", str(resolv_conf), "/etc/resolv.conf"], check=True)
    memcached, nutcracker = (tuple(json.loads(program)) for program in programs)
    with Running(Programs(memcached, nutcracker), Path(directory)) as running:
        print(json.dumps({"replaced": replaced, "late": late}[case](kind, running, NameServer())))  # noqa: T201


if __name__ == "__main__":
    main()
